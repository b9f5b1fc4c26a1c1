//! The bus's append alone, without a sidecar: one batch after the other, over one connection.

use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use runcast_bus::{Append, Appended, Bus, Limits, RedisConfig};
use runcast_protocol::{BatchWriter, Channel, Json, Lane, RunId, Sequence, VariationId, keys};
use runcast_testkit::message;

use super::server::Server;
use super::text::texts;
use super::{MAX_ENTRIES, Row};
use crate::usage;

const LIMITS: Limits = Limits { ttl: Duration::from_secs(86_400), entries: MAX_ENTRIES };

/// As the sidecar has it by default.
const COMPRESS_ABOVE: usize = 16 << 10;

/// Batches of `batch` messages each; encoding them is part of the publisher's time.
pub(super) fn measure(server: &Server<'_>, messages: u64, batch: u64) -> anyhow::Result<Row> {
    let (run, variation) = (RunId::new("bench")?, VariationId::new("a")?);
    let lane = Lane::of(Channel::Output, &variation);
    let texts: Vec<_> = texts().iter().map(|text| Json::string(text)).collect();
    let encode = |first: u64| -> anyhow::Result<Bytes> {
        let mut writer = BatchWriter::default();
        for number in first..first + batch {
            let content = texts[usize::try_from(number)? % texts.len()].clone();
            let sequence = Sequence::new(number)?;
            writer.push(&message(&run, &variation, Channel::Output, sequence, content).to_line());
        }
        Ok(writer.finish(COMPRESS_ABOVE))
    };
    let (stream, batches) = (keys::stream(&run, &lane), messages / batch);
    let (seconds, redis, publisher) = server.runtime.block_on(async {
        let bus = Bus::connect(&RedisConfig::new(server.redis.url()))?;
        let Appended::Done { epoch, .. } = bus.claim(&run, &lane, LIMITS).await? else {
            bail!("not claimed")
        };
        let redis = server.used().await?;
        let (own, start) = (usage::time_of(std::process::id())?, Instant::now());
        for number in 0..batches {
            let after = number * batch;
            let (first, last, after) =
                (Sequence::new(after + 1)?, Sequence::new(after + batch)?, Sequence::new(after)?);
            let (run, lane, batch) = (run.clone(), lane.clone(), encode(first.get())?);
            let append = Append { run, lane, epoch, first, last, batch, after };
            match bus.append(append, LIMITS).await? {
                Appended::Done { last: done, .. } if done == last => {}
                other => bail!("appending {first} to {last}: {other:?}"),
            }
        }
        let (seconds, own) = (start.elapsed(), usage::time_of(std::process::id())?.saturating_sub(own));
        Ok((seconds, server.used().await?.saturating_sub(redis), own))
    })?;
    let messages = batches * batch;
    let each = |used: Duration| used.as_secs_f64() * 1e6 / messages as f64;
    Ok(Row {
        way: format!("append of {batch}, one at a time"),
        messages,
        seconds: seconds.as_secs_f64(),
        redis_us: each(redis),
        publisher_us: Some(each(publisher)),
        entries: server.added(&stream)?,
        lost: messages.saturating_sub(server.last("bench", &lane.to_string())?),
    })
}

//! A few messages sent the whole way, in a run of their own.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use runcast_bus::{Append, Appended, Bus, Inbox, Incoming, Limits, Subscriber};
use runcast_protocol::sse::Parser;
use runcast_protocol::{
    Batch, BatchWriter, Channel, Json, Lane, Message, RunId, Sequence, VariationId, Writer, keys, timestamp,
};
use tokio::time::timeout;

use crate::server::Answer;

/// The run expires by itself so soon after the last message.
const LIMITS: Limits = Limits { ttl: Duration::from_secs(5), entries: 1000 };
/// Messages whose median counts.
const TRIES: usize = 15;
/// How long a message may be under way.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often another message is sent while none has arrived: the subscription may not stand yet.
const KNOCK: Duration = Duration::from_millis(200);

/// A run of one lane.
#[derive(Debug)]
pub(crate) struct RoundTrip {
    bus: Bus,
    run: RunId,
    variation: VariationId,
    lane: Lane,
    epoch: u64,
    last: Sequence,
}

impl RoundTrip {
    /// Claims the lane.
    pub(crate) async fn begin(bus: Bus) -> anyhow::Result<Self> {
        let run = RunId::new(format!("doctor-{:08x}", rand::random::<u32>()))?;
        let variation = VariationId::new("doctor")?;
        let lane = Lane::of(Channel::Output, &variation);
        let Appended::Done { last, epoch } = bus.claim(&run, &lane, LIMITS).await? else {
            bail!("a new lane cannot be claimed");
        };
        Ok(Self { bus, run, variation, lane, epoch, last })
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Median time from an append to its delivery by pub/sub.
    pub(crate) async fn through_redis(&mut self) -> anyhow::Result<Duration> {
        let subscriber = Subscriber::connect(&self.bus)?;
        let mut inbox = subscriber.inbox(TRIES);
        inbox.subscribe([keys::stream(&self.run, &self.lane)]).await;
        self.until_heard(&mut inbox).await?;
        let mut times = Vec::new();
        for _ in 0..TRIES {
            let begun = Instant::now();
            self.append().await?;
            timeout(PATIENCE, heard(&mut inbox, self.last)).await.with_context(unheard)?;
            times.push(begun.elapsed());
        }
        Ok(median(times))
    }

    /// Says something until it is heard: where there is much to greet, with TLS to each node of a cluster, the
    /// subscription takes its time.
    async fn until_heard(&mut self, inbox: &mut Inbox) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            self.append().await?;
            match timeout(KNOCK, heard(inbox, self.last)).await {
                Ok(()) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error).with_context(unheard),
                Err(_) => {}
            }
        }
    }

    /// Median time from an append to its event, on a stream that is open already.
    pub(crate) async fn through_fanout(mut self, mut answer: Answer) -> anyhow::Result<Duration> {
        let mut parser = Parser::default();
        // What was appended before comes first; its last message shows that it is the same Redis.
        self.append().await?;
        until(&mut answer, &mut parser, self.last).await?;
        let mut times = Vec::new();
        for _ in 0..TRIES {
            let begun = Instant::now();
            self.append().await?;
            until(&mut answer, &mut parser, self.last).await?;
            times.push(begun.elapsed());
        }
        Ok(median(times))
    }

    async fn append(&mut self) -> anyhow::Result<()> {
        let last = self.last.next();
        let message = Message {
            timestamp: timestamp::now(),
            run_id: self.run.clone(),
            variation_id: self.variation.clone(),
            sequence: last,
            kind: self.lane.channel.message_type(),
            content: Json::string("is anybody there?\n"),
            metadata: Json::empty_object(),
            writer: Writer::Variation(self.variation.clone()),
            extra: Vec::new(),
        };
        let mut batch = BatchWriter::default();
        batch.push(&message.to_line());
        let append = Append {
            run: self.run.clone(),
            lane: self.lane.clone(),
            epoch: self.epoch,
            first: last,
            last,
            batch: batch.finish(usize::MAX),
            after: last.previous(),
        };
        match self.bus.append(append, LIMITS).await? {
            Appended::Done { .. } => self.last = last,
            other => bail!("an append was answered with {other:?}"),
        }
        Ok(())
    }
}

/// Waits for the delivery of the message with this sequence.
async fn heard(inbox: &mut Inbox, sequence: Sequence) {
    loop {
        if let Incoming::Payload(batch) = inbox.next().await
            && Batch::parse(batch).is_ok_and(|batch| batch.last() == sequence)
        {
            return;
        }
    }
}

fn unheard() -> String {
    format!("what is published does not arrive within {PATIENCE:?}")
}

/// Reads events up to the message with this sequence.
async fn until(answer: &mut Answer, parser: &mut Parser, sequence: Sequence) -> anyhow::Result<()> {
    let events = async {
        loop {
            let bytes = answer.chunk().await?.context("the fan-out closed the stream")?;
            for event in parser.push(&bytes) {
                if Message::parse(event.data.as_bytes()).is_ok_and(|message| message.sequence == sequence) {
                    return anyhow::Ok(());
                }
            }
        }
    };
    timeout(PATIENCE, events)
        .await
        .with_context(|| format!("what is appended is no event within {PATIENCE:?}"))?
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

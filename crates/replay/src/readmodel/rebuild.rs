//! Folds a run's read model anew from all that the archive and Redis have, and compares.

use std::sync::Arc;

use bytes::Bytes;
use runcast_protocol::{Cursor, RunId};

use super::catalog::Order;
use super::report::RunSummary;
use super::source::{Source, cursor};
use super::summary::Summary;
use super::work::kept;
use crate::archive::ArchivedRun;
use crate::context::Context;
use crate::error::Error;

/// Messages after which others have a turn.
const TURN: usize = 10_000;

/// What became of it.
pub(super) struct Rebuilt {
    /// Whether it is the same as the one that was kept.
    pub(super) equal: bool,
    /// Whether it is kept from now on. One that misses more than the kept one is not: what was said is
    /// gone since.
    pub(super) replaced: bool,
    /// The one that is kept now.
    pub(super) summary: Arc<RunSummary>,
}

pub(super) async fn fold_anew(context: &Context, run: &RunId) -> Result<Rebuilt, Error> {
    let _one_at_a_time = context.catalog.rebuilding().await;
    let live = cursor(&context.bus.lanes(run).await?);
    let archived = context.archive.run(run).await?;
    if live == Cursor::default() && archived.is_none() {
        return Err(Error::UnknownRun(run.clone()));
    }
    let kept = match kept(context, run).await? {
        Some(kept) => kept,
        None => {
            let archived = archived.as_ref().map(ArchivedRun::summary);
            archived.filter(|summary| summary.is_current()).cloned().unwrap_or_default()
        }
    };
    let reached = archived.as_ref().map(|archived| archived.cursor().clone()).unwrap_or_default();
    // Both are brought to one place, which lies at the end of all that there is.
    let upto = furthest([&live, &reached, kept.cursor()]);
    let fold = async |mut summary: Summary| {
        let mut source = Source::new(context.bus.clone(), run.clone(), archived.clone());
        while source.advance(&mut summary, &upto, TURN).await? {
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(summary)
    };
    let kept = fold(kept).await?;
    let anew = fold(Summary::default()).await?;
    let equal = anew == kept;
    let replaced = anew.missing() <= kept.missing() && anew.total() >= kept.total();
    let summary = if replaced { anew } else { kept };
    if replaced && live != Cursor::default() {
        context.bus.store_summary(run, summary.cursor(), Bytes::from(summary.to_text())).await?;
        context.catalog.order(run, Order::Reload);
    }
    let told = RunSummary::of(run, &summary, archived.is_some());
    Ok(Rebuilt { equal, replaced, summary: context.catalog.put(told) })
}

/// The furthest position of each lane.
fn furthest(cursors: [&Cursor; 3]) -> Cursor {
    let mut furthest = Cursor::default();
    for (lane, position) in cursors.into_iter().flat_map(Cursor::lanes) {
        if position > furthest.position(&lane) {
            furthest.set(&lane, position);
        }
    }
    furthest
}

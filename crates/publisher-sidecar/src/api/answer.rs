//! What callers are told.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use runcast_protocol::{Lane, Sequence};
use runcast_runtime::http::{Body, json, problem};
use serde::Serialize;

use crate::publisher::{PublishError, Receipt};

/// Why a request, or a part of it, is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail: detail.into() }
    }

    /// The same, saying where in the request it was.
    pub(super) fn at(mut self, place: impl std::fmt::Display) -> Self {
        self.detail = format!("{place}: {}", self.detail);
        self
    }

    pub(super) fn answer(self) -> Response<Body> {
        problem(self.status, self.detail)
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        let status = match error {
            PublishError::Finished => StatusCode::CONFLICT,
            PublishError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            PublishError::NoLane => StatusCode::BAD_REQUEST,
        };
        Self { status, detail: error.to_string() }
    }
}

/// What a request brought: for each lane the first and the last message.
#[derive(Debug, Default)]
pub(super) struct Taken {
    count: u64,
    lanes: BTreeMap<Lane, (Receipt, Option<Receipt>)>,
}

/// The numbers that a request's messages got in one lane. Others may have got numbers in between.
#[derive(Debug, Serialize)]
pub(super) struct Range {
    first: Sequence,
    last: Sequence,
}

#[derive(Serialize)]
struct Summary {
    accepted: u64,
    lanes: BTreeMap<String, Range>,
}

impl Taken {
    pub(super) fn add(&mut self, receipt: Receipt) {
        self.count += 1;
        if let Some((_, last)) = self.lanes.get_mut(receipt.lane()) {
            *last = Some(receipt);
        } else {
            self.lanes.insert(receipt.lane().clone(), (receipt, None));
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The numbers in each lane; waits until the lanes were claimed.
    pub(super) async fn ranges(&self) -> BTreeMap<String, Range> {
        let mut ranges = BTreeMap::new();
        for (lane, (first, last)) in &self.lanes {
            let last = last.as_ref().unwrap_or(first).number().await;
            ranges.insert(lane.to_string(), Range { first: first.number().await, last });
        }
        ranges
    }

    /// `{"accepted":3,"lanes":{"output/var-1":{"first":7,"last":9}}}`
    pub(super) async fn answer(self) -> Response<Body> {
        json(StatusCode::OK, &Summary { accepted: self.count, lanes: self.ranges().await })
    }
}

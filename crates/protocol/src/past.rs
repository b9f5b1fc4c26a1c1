//! What the services ask of a run's past that Redis no longer has, and what they are answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Cursor, Lane, RunId, Sequence, State, VariationId, keys};

/// Longest request that is read, in bytes: three identifiers and a number take far less.
const MAX_REQUEST: usize = 4096;

/// Asks for what is archived: `{"run_id":"…"}` of the run as a whole, or a page of a lane,
/// `{"run_id":"…","lane":"output/var-1","after":1234}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct PastRequest {
    /// The run.
    pub run: RunId,
    /// The lane, and the sequence after which the page begins; none for the run as a whole.
    pub page: Option<(Lane, Sequence)>,
}

/// Why a payload is not a request.
#[derive(Debug, thiserror::Error)]
pub enum PastRequestError {
    /// It is longer than any request.
    #[error("request takes {0} bytes, more than {MAX_REQUEST}")]
    TooLarge(usize),
    /// It is not the JSON of a request.
    #[error("not a request: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Clone, Serialize, Deserialize)]
struct Fields {
    run_id: RunId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lane: Option<Lane>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Sequence>,
}

impl PastRequest {
    /// Asks what is archived of a run.
    pub fn run(run: RunId) -> Self {
        Self { run, page: None }
    }

    /// Asks for the messages of a lane that follow `after`.
    pub fn page(run: RunId, lane: Lane, after: Sequence) -> Self {
        Self { run, page: Some((lane, after)) }
    }

    /// Reads a payload of [`keys::PAST_REQUESTS`].
    ///
    /// # Errors
    /// [`PastRequestError`] if it is not a request.
    pub fn parse(payload: &[u8]) -> Result<Self, PastRequestError> {
        if payload.len() > MAX_REQUEST {
            return Err(PastRequestError::TooLarge(payload.len()));
        }
        Ok(serde_json::from_slice(payload)?)
    }

    /// The payload.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a request is made of JSON types")
    }

    /// The key that holds the answer, for a while.
    pub fn key(&self) -> String {
        match &self.page {
            None => keys::past(&self.run),
            Some((lane, after)) => keys::past_page(&self.run, lane, *after),
        }
    }
}

impl TryFrom<Fields> for PastRequest {
    type Error = &'static str;
    fn try_from(Fields { run_id, lane, after }: Fields) -> Result<Self, Self::Error> {
        match (lane, after) {
            (None, None) => Ok(Self::run(run_id)),
            (Some(lane), Some(after)) => Ok(Self::page(run_id, lane, after)),
            _ => Err("lane and after belong together"),
        }
    }
}

impl From<PastRequest> for Fields {
    fn from(PastRequest { run, page }: PastRequest) -> Self {
        let (lane, after) = page.unzip();
        Self { run_id: run, lane, after }
    }
}

/// What is archived of a run as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    /// How far each lane is archived.
    pub cursor: Cursor,
    /// The variations, with the state that each said last; null if it said none.
    pub variations: BTreeMap<VariationId, Option<State>>,
    /// How many variations the run says it has, at least; 0 if it did not say.
    #[serde(default)]
    pub expected: usize,
}

impl PastRun {
    /// Reads an answer.
    ///
    /// # Errors
    /// If it is not the JSON of one.
    pub fn parse(answer: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(answer)
    }

    /// The answer.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an answer is made of JSON types")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_as_the_contract_writes_them() {
        let run = RunId::new("run-1").unwrap();
        for (request, json, key) in [
            (PastRequest::run(run.clone()), r#"{"run_id":"run-1"}"#, "run:{run-1}:past"),
            (
                PastRequest::page(run, "output/var-1".parse().unwrap(), Sequence::new(1234).unwrap()),
                r#"{"run_id":"run-1","lane":"output/var-1","after":1234}"#,
                "run:{run-1}:past:output/var-1:1234",
            ),
        ] {
            assert_eq!(request.to_json(), json.as_bytes());
            assert_eq!(PastRequest::parse(json.as_bytes()).unwrap(), request);
            assert_eq!(request.key(), key);
        }
        let json = r#"{"cursor":"var-1:12.0.2","variations":{"var-1":"succeeded"},"expected":3}"#;
        let past = PastRun::parse(json.as_bytes()).unwrap();
        assert_eq!(past.to_json(), json.as_bytes());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"run_id":"a}b"}"#,
            r#"{"run_id":"r","lane":"output/v"}"#,
            r#"{"run_id":"r","after":1}"#,
            r#"{"run_id":"r","lane":"sound/v","after":1}"#,
            r#"{"run_id":"r","lane":"output/v","after":-1}"#,
            r#"{"run_id":"r","lane":"output/v","after":9007199254740992}"#,
        ] {
            assert!(PastRequest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = format!(r#"{{"run_id":"r","more":"{}"}}"#, "x".repeat(MAX_REQUEST));
        assert!(matches!(PastRequest::parse(long.as_bytes()), Err(PastRequestError::TooLarge(_))));
    }
}

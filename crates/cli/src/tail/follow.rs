//! Follows a stream of events over as many connections as it takes.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::bail;
use http::StatusCode;
use runcast_protocol::sse::{Event, Parser};
use tokio::time::{sleep, timeout};

use crate::server::{Answer, Server};

/// How long to wait before reconnecting, unless the server says otherwise with `retry:`.
pub(crate) const RETRY: Duration = Duration::from_secs(2);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// A connection so long without even a heartbeat, which comes every 15 s, is dead.
const SILENCE: Duration = Duration::from_secs(60);

/// A stream of events that mends itself.
#[derive(Debug)]
pub(crate) struct Follow {
    server: Server,
    path: String,
    last_event_id: String,
    retry: Duration,
    failures: u32,
    wait: Option<Duration>,
    connection: Option<(Answer, Parser)>,
    events: VecDeque<Event>,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Step {
    /// An event came.
    Event(Event),
    /// The connection is gone, or was not to be had.
    Lost {
        /// Why.
        why: String,
        /// How long before the next attempt.
        delay: Duration,
    },
    /// Connected after it was lost.
    Back,
    /// The run is over and all of it was seen.
    Over,
}

impl Follow {
    pub(crate) fn new(server: Server, path: String) -> Self {
        let (connection, events) = (None, VecDeque::new());
        Self {
            server,
            path,
            last_event_id: String::new(),
            retry: RETRY,
            failures: 0,
            wait: None,
            connection,
            events,
        }
    }

    /// What happens next.
    ///
    /// # Errors
    /// If the server refuses for good.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Step> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Step::Event(event));
        }
        if let Some(delay) = self.wait.take() {
            sleep(delay).await;
        }
        if self.connection.is_none() {
            match self.connect().await? {
                Ok(None) if self.failures > 0 => return Ok(Step::Back),
                Ok(None) => {}
                Ok(Some(over)) => return Ok(over),
                Err(why) => return Ok(self.lost(why)),
            }
        }
        match self.receive().await {
            Ok(event) => {
                self.failures = 0;
                Ok(Step::Event(event))
            }
            Err(why) => Ok(self.lost(why)),
        }
    }

    /// The inner error says why it is worth another attempt; [`Step::Over`] if there is nothing left.
    async fn connect(&mut self) -> anyhow::Result<Result<Option<Step>, String>> {
        let mut headers = vec![("accept", "text/event-stream")];
        if !self.last_event_id.is_empty() {
            headers.push(("last-event-id", self.last_event_id.as_str()));
        }
        let answer = match self.server.get(&self.path, &headers).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        match answer.status {
            StatusCode::OK => {
                self.connection = Some((answer, Parser::default()));
                Ok(Ok(None))
            }
            StatusCode::NO_CONTENT => Ok(Ok(Some(Step::Over))),
            status if is_passing(status) => Ok(Err(answer.problem().await)),
            _ => bail!("{}: {}", self.server, answer.problem().await),
        }
    }

    async fn receive(&mut self) -> Result<Event, String> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let Some((answer, parser)) = &mut self.connection else { return Err("not connected".to_owned()) };
            match timeout(SILENCE, answer.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    self.events.extend(parser.push(&bytes));
                    self.retry = parser.retry().unwrap_or(self.retry);
                    // An event that is cut off is not there: only whole ones count as seen.
                    if let Some(last) = self.events.back() {
                        self.last_event_id.clone_from(&last.id);
                    }
                }
                Ok(Ok(None)) => return Err("the server closed the stream".to_owned()),
                Ok(Err(_)) => return Err("the connection broke".to_owned()),
                Err(_) => return Err(format!("nothing came for {SILENCE:?}")),
            }
        }
    }

    fn lost(&mut self, why: String) -> Step {
        self.connection = None;
        let delay = delay(self.retry, self.failures, rand::random());
        self.failures += 1;
        self.wait = Some(delay);
        Step::Lost { why, delay }
    }
}

/// Whether a refusal may be gone with the next attempt.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// At least what the server asked for, doubled with each failure, and up to half more by chance, so that
/// those who were cut off together do not come back together.
pub(crate) fn delay(retry: Duration, failures: u32, chance: f64) -> Duration {
    let base = retry.saturating_mul(1 << failures.min(16)).min(LONGEST.max(retry));
    base.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_within_bounds_and_never_undercut_the_server() {
        let seconds =
            |retry, failures, chance| delay(Duration::from_secs(retry), failures, chance).as_secs_f64();
        assert_eq!(seconds(2, 0, 0.0), 2.0);
        assert_eq!(seconds(2, 0, 1.0), 3.0);
        assert_eq!(seconds(2, 2, 0.0), 8.0);
        assert_eq!(seconds(2, 40, 0.0), 30.0);
        assert_eq!(seconds(90, 3, 0.0), 90.0, "a server that wants more time gets it");
        assert_eq!(seconds(0, 9, 0.5), 0.0);
    }
}

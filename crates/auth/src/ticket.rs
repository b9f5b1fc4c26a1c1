//! Tickets: what stands for a token once, in an address, where browsers let nobody set a header.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;

use crate::Denied;

/// Random bytes of a ticket.
const LENGTH: usize = 32;

/// A ticket. Never printed, and nowhere stored: what is stored goes by its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

/// What a ticket is to be good for; what is left out is as the token says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// Runs, or prefixes with a `*` at the end.
    pub runs: Option<BTreeSet<String>>,
    /// Channels.
    pub channels: Option<BTreeSet<String>>,
    /// Seconds in which it can be used, at most as many as the service allows.
    pub expires_in: Option<u64>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ticket(…)")
    }
}

impl Ticket {
    /// A new one.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if the system has no random numbers.
    pub(crate) fn new() -> Result<Self, Denied> {
        let mut bytes = [0; LENGTH];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Denied::Unavailable)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// One as it came with a request; none if it cannot be one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == LENGTH).then(|| Self(text.to_owned()))
    }

    /// As it stands in an address.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What it is stored by: who reads Redis's keys, or its log, cannot use what he finds.
    pub(crate) fn digest(&self) -> String {
        digest(&SHA256, self.0.as_bytes()).as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl TicketRequest {
    /// How long it can be used: at least a second, and at most `longest`.
    #[must_use]
    pub fn life(&self, longest: Duration) -> Duration {
        self.expires_in.map_or(longest, |seconds| Duration::from_secs(seconds.max(1)).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike_and_none_is_printed() {
        let (one, two) = (Ticket::new().unwrap(), Ticket::new().unwrap());
        assert_ne!(one, two);
        assert_eq!(Ticket::parse(one.text()), Some(one.clone()));
        assert_eq!((one.digest().len(), one.digest() == two.digest()), (64, false));
        assert_eq!(format!("{one:?}"), "Ticket(…)");
        for none in ["", "x", "a.b.c", &one.text()[1..], &format!("{}=", one.text()), &"A".repeat(86)] {
            assert_eq!(Ticket::parse(none), None, "{none}");
        }
    }

    #[test]
    fn its_life_is_within_bounds() {
        let life = |seconds| {
            let request = TicketRequest { expires_in: seconds, ..TicketRequest::default() };
            request.life(Duration::from_secs(30)).as_secs()
        };
        assert_eq!([None, Some(0), Some(5), Some(u64::MAX)].map(life), [30, 1, 5, 30]);
    }
}

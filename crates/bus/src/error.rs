//! What can go wrong between us and Redis.

use fred::error::{Error, ErrorKind};

/// What can go wrong between us and Redis.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// Redis could not be reached, or did not answer in time. The command may or may not have been
    /// carried out; everything here is safe to repeat.
    #[error("redis is unreachable: {0}")]
    Unreachable(String),
    /// Redis answered that it will not do this now: loading, failing over, out of memory, too few
    /// replicas. Later it may.
    #[error("redis refuses for now: {0}")]
    Refused(String),
    /// Redis will never do this: wrong credentials, no permission, malformed.
    #[error("redis rejects: {0}")]
    Rejected(String),
    /// The address or another setting cannot be used.
    #[error("redis configuration: {0}")]
    Config(String),
    /// Redis answered with something that is not what the script or command answers.
    #[error("unexpected reply from redis: {0}")]
    Reply(String),
}

impl BusError {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Refused(_))
    }
}

/// Error prefixes by which a server says "not now" (Redis source, `server.c` shared objects).
const NOT_NOW: [&str; 10] = [
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "NOREPLICAS",
    "OOM",
    "BUSY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MISCONF",
    "MOVED",
];

/// What to do about what a server says of our user; behind its own words, which others look at.
const ADVICE: [(&str, &str); 3] = [
    ("NOPERM", " (is redis.username the user for this? `runcast acl rules` prints what each needs)"),
    ("WRONGPASS", " (see redis.username, and redis.password or redis.password_file)"),
    ("NOAUTH", " (set redis.username, and redis.password or redis.password_file)"),
];

impl From<Error> for BusError {
    fn from(error: Error) -> Self {
        let mut details = error.details().to_owned();
        if let Some((_, advice)) = ADVICE.iter().find(|(code, _)| details.starts_with(code)) {
            details.push_str(advice);
        }
        match error.kind() {
            ErrorKind::Config | ErrorKind::Url | ErrorKind::Tls => Self::Config(details),
            ErrorKind::Parse | ErrorKind::Protocol => Self::Reply(details),
            _ if NOT_NOW.iter().any(|prefix| details.starts_with(prefix)) => Self::Refused(details),
            ErrorKind::Auth | ErrorKind::InvalidCommand | ErrorKind::InvalidArgument => {
                Self::Rejected(details)
            }
            // Server errors that the client library does not know begin with a code in capitals.
            ErrorKind::Unknown if details.chars().take_while(char::is_ascii_uppercase).count() >= 3 => {
                Self::Rejected(details)
            }
            _ => Self::Unreachable(details),
        }
    }
}

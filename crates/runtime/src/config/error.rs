//! What can be wrong with a configuration, said so that it can be mended: key, value, origin, fix.

use std::{collections::BTreeMap, fmt, io, path::PathBuf};

use super::layer::Setting;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The defaults compiled into the program.
    Defaults,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by its name.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl Origin {
    /// A key as one writes it there.
    pub(super) fn spell(&self, key: &str) -> String {
        match self {
            Origin::Environment(_) => format!("RUNCAST__{}", key.to_uppercase().replace('.', "__")),
            _ => key.to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Defaults => f.write_str("compiled-in defaults"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// Why a configuration was refused. The text is complete: print it and exit with
/// [`EXIT_CODE`](super::EXIT_CODE).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration file: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: not valid TOML: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's message, with line and column.
        detail: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`; {fix}")]
    UnknownKey {
        /// The full dotted key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What to do about it.
        fix: String,
    },
    /// A value that is not one of those the key takes.
    #[error("{origin}: bad value `{value}` for `{key}`: {expected}")]
    BadValue {
        /// The full dotted key.
        key: String,
        /// The value; secrets are masked.
        value: String,
        /// Where it was set.
        origin: Origin,
        /// What the key takes.
        expected: String,
    },
    /// Values that do not fit each other, so that no single one is to blame.
    #[error("configuration: {detail}")]
    Inconsistent {
        /// Which section, and what is wrong with it.
        detail: String,
    },
    /// The compiled-in defaults do not fit the program: a mistake in the program.
    #[error("compiled-in defaults: {0}; this is a mistake in the program, please report it")]
    Defaults(String),
}

impl ConfigError {
    /// Says of a refusal by the target type where the refused value came from.
    pub(super) fn from_refusal(
        error: &config::ConfigError,
        settings: &BTreeMap<String, Setting>,
    ) -> ConfigError {
        let (key, expected) = match error {
            config::ConfigError::Type { key: Some(key), expected, .. } => {
                (key, format!("expected {expected}"))
            }
            config::ConfigError::At { key: Some(key), error, .. } => (key, error.to_string()),
            config::ConfigError::NotFound(key) => {
                return ConfigError::Defaults(format!("`{key}` is missing"));
            }
            other => return ConfigError::Inconsistent { detail: other.to_string() },
        };
        // `cors.origins[2]` stands, as far as its origin goes, in `cors.origins`.
        let whole = key.split('[').next().unwrap_or(key);
        match settings.get(whole) {
            Some(setting) => ConfigError::BadValue {
                key: key.clone(),
                value: shown(key, &setting.value.to_string()),
                origin: setting.origin.clone(),
                expected,
            },
            None => ConfigError::Inconsistent { detail: format!("`{key}`: {expected}") },
        }
    }
}

/// A value as it may be shown: what smells of a secret is masked, and so are credentials in URLs.
pub(super) fn shown(key: &str, value: &str) -> String {
    const MASK: &str = "***";
    if ["password", "secret", "token", "credential"].iter().any(|word| key.contains(word)) {
        return MASK.to_owned();
    }
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{MASK}{}", &value[..scheme + 3], &value[at..])
        }
        _ => value.to_owned(),
    }
}

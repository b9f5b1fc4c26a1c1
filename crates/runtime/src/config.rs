//! Configuration in layers: compiled-in defaults, a file, the environment, the command line.
//!
//! The compiled-in defaults are a commented TOML file in which **every** valid key stands, an empty
//! string meaning "unset" where that makes sense. That makes the file the documentation, and makes any
//! other key a typing error, which is refused rather than silently ignored.
//!
//! From the environment, `RUNCAST__REDIS__URL` sets `redis.url`. Variables with a single underscore
//! after the prefix (`RUNCAST_REDIS_SERVER`) are not configuration and are left alone.

mod error;
mod layer;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use config::{Config, File, FileFormat, Source, Value};
use serde::de::DeserializeOwned;

pub use self::error::{ConfigError, Origin};
use self::layer::{Known, Setting};

/// The exit status for a configuration error: `EX_CONFIG` of `sysexits.h`.
pub const EXIT_CODE: u8 = 78;

/// Loads `T`: `defaults` (TOML), then `file` (TOML), then the environment, then `overrides`
/// (dotted key and value, from the command line).
///
/// Values from the environment and the command line stay text until `T` asks for something else, so a
/// run called `007` or `1e5` keeps its name; where the default is a list they are split at commas.
/// `T` must not use `#[serde(flatten)]`, which loses the names of keys and the types of values.
///
/// # Errors
/// An unreadable or malformed file, a key that the defaults do not have, a value that `T` refuses.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    overrides: &[(&str, String)],
) -> Result<T, ConfigError> {
    load_from(defaults, file, std::env::vars_os(), overrides)
}

/// [`load`] with the environment given, so that a test need not change its own process's.
///
/// # Errors
/// As [`load`].
pub fn load_from<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &[(&str, String)],
) -> Result<T, ConfigError> {
    let default_table = parse(defaults).map_err(ConfigError::Defaults)?;
    let known = Known::of(&default_table);

    let mut settings: BTreeMap<String, Setting> = BTreeMap::new();
    for layer in [
        layer::from_table(&default_table, &Origin::Defaults),
        file.map(read).transpose()?.unwrap_or_default(),
        layer::from_environment(environment, &known)?,
        layer::from_overrides(overrides, &known),
    ] {
        for setting in layer {
            known.check(&setting)?;
            settings.insert(setting.key.clone(), setting);
        }
    }

    assemble(&settings)
        .and_then(Config::try_deserialize)
        .map_err(|error| ConfigError::from_refusal(&error, &settings))
}

fn assemble(settings: &BTreeMap<String, Setting>) -> Result<Config, config::ConfigError> {
    let mut builder = Config::builder();
    for setting in settings.values() {
        builder = builder.set_override(&setting.key, setting.value.clone())?;
    }
    builder.build()
}

fn read(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let table = parse(&text).map_err(|detail| ConfigError::Malformed {
        path: path.to_owned(),
        detail: detail.trim_end().to_owned(),
    })?;
    Ok(layer::from_table(&table, &Origin::File(path.to_owned())))
}

fn parse(toml: &str) -> Result<config::Map<String, Value>, String> {
    File::from_str(toml, FileFormat::Toml).collect().map_err(|error| error.to_string())
}

//! `[redact]`

use std::time::Duration;

use runcast_bus::RedisConfig;
use serde::{Deserialize, Deserializer, de};

use super::builtin::{self, NAMES};
use super::known::Known;
use super::rules::{BadRule, Rule, Rules};

/// `[redact]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct RedactConfig {
    pub enabled: bool,
    #[serde(deserialize_with = "patterns")]
    pub patterns: Vec<String>,
    #[serde(deserialize_with = "custom")]
    pub custom: Vec<CustomRule>,
    pub env: Vec<String>,
    #[serde(with = "runcast_runtime::duration")]
    pub hold: Duration,
}

/// A rule of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomRule {
    /// Shown in the secret's place, and counted.
    pub name: String,
    /// What comes before the secret, and stays: a regular expression over bytes.
    pub after: String,
    /// The secret.
    pub secret: String,
}

impl CustomRule {
    fn rule(&self) -> Rule {
        Rule::new(&self.name, &self.after, &self.secret)
    }
}

impl RedactConfig {
    /// All that is looked for.
    ///
    /// # Errors
    /// [`BadRule`] if the rules together take too much memory.
    pub(crate) fn rules(&self, redis: &RedisConfig) -> Result<Rules, BadRule> {
        if !self.enabled {
            return Rules::new(&[], &[]);
        }
        let mut rules = builtin::rules(&self.patterns);
        rules.extend(self.custom.iter().map(CustomRule::rule));
        let mut known = Known::of_redis(redis);
        known.extend(Known::of_environment(&self.env, std::env::vars_os()));
        Rules::new(&rules, &known)
    }
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    match names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        None => Ok(names),
        Some(_) => Err(de::Error::custom(format_args!("expected names out of {}", NAMES.join(", ")))),
    }
}

fn custom<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CustomRule>, D::Error> {
    let custom = Vec::<CustomRule>::deserialize(deserializer)?;
    custom.iter().try_for_each(|custom| custom.rule().check()).map_err(de::Error::custom)?;
    Ok(custom)
}

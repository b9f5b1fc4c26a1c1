//! One layer of settings, flattened to dotted keys, and the check of its keys against the known ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

use config::{Map, Value, ValueKind};

use super::error::{ConfigError, Origin, shown};

const PREFIX: &str = "RUNCAST__";

/// How alike two keys must be (0 to 1) for one to be proposed in place of the other.
const CLOSE: f64 = 0.7;

/// One value, under its full dotted key.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

pub(super) fn from_table(table: &Map<String, Value>, origin: &Origin) -> Vec<Setting> {
    let mut settings = Vec::new();
    flatten("", table, origin, &mut settings);
    settings
}

fn flatten(prefix: &str, table: &Map<String, Value>, origin: &Origin, into: &mut Vec<Setting>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match &value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => flatten(&format!("{key}."), inner, origin, into),
            _ => into.push(Setting { key, value: value.clone(), origin: origin.clone() }),
        }
    }
}

pub(super) fn from_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    known: &Known,
) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        let origin = Origin::Environment(name.to_owned());
        let text = value.into_string().map_err(|value| ConfigError::BadValue {
            value: shown(&key, &value.to_string_lossy()),
            key: key.clone(),
            origin: origin.clone(),
            expected: "expected UTF-8 text".to_owned(),
        })?;
        settings.push(Setting { value: known.text_as_value(&key, text), key, origin });
    }
    Ok(settings)
}

pub(super) fn from_overrides(overrides: &[(&str, String)], known: &Known) -> Vec<Setting> {
    let setting = |(key, text): &(&str, String)| Setting {
        key: (*key).to_owned(),
        value: known.text_as_value(key, text.clone()),
        origin: Origin::CommandLine,
    };
    overrides.iter().map(setting).collect()
}

/// The keys that there are: those of the compiled-in defaults.
pub(super) struct Known {
    defaults: BTreeMap<String, Value>,
    sections: BTreeSet<String>,
}

impl Known {
    pub(super) fn of(defaults: &Map<String, Value>) -> Known {
        let defaults: BTreeMap<_, _> =
            from_table(defaults, &Origin::Defaults).into_iter().map(|s| (s.key, s.value)).collect();
        let sections = defaults
            .keys()
            .flat_map(|key| key.match_indices('.').map(|(dot, _)| key[..dot].to_owned()))
            .collect();
        Known { defaults, sections }
    }

    /// Refuses keys that are not in the defaults, and values where a section belongs or the reverse.
    pub(super) fn check(&self, setting: &Setting) -> Result<(), ConfigError> {
        let Setting { key, value, origin } = setting;
        let table = matches!(value.kind, ValueKind::Table(_));
        let refuse = |expected: String| {
            let value = shown(key, &value.to_string());
            Err(ConfigError::BadValue { key: key.clone(), value, origin: origin.clone(), expected })
        };
        if self.sections.contains(key) {
            if table { Ok(()) } else { refuse(format!("expected a section with {}", self.siblings(key))) }
        } else if let Some(default) = self.defaults.get(key) {
            if table && !matches!(default.kind, ValueKind::Table(_)) {
                refuse("expected a value, not a section".to_owned())
            } else {
                Ok(())
            }
        } else {
            Err(ConfigError::UnknownKey {
                key: key.clone(),
                origin: origin.clone(),
                fix: self.fix(key, origin),
            })
        }
    }

    /// Text from a place that knows only text. A list is asked for by the default being one.
    fn text_as_value(&self, key: &str, text: String) -> Value {
        match self.defaults.get(key).map(|default| &default.kind) {
            Some(ValueKind::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::from(items.map(Value::from).collect::<Vec<_>>())
            }
            _ => Value::from(text),
        }
    }

    fn fix(&self, key: &str, origin: &Origin) -> String {
        match self.closest(key) {
            Some(close) => format!("did you mean `{}`?", origin.spell(close)),
            None => {
                let section = key.rsplit_once('.').map_or("", |(section, _)| section);
                let section = if self.sections.contains(section) { section } else { "" };
                format!("remove it, or use one of {}", self.siblings(section))
            }
        }
    }

    fn closest(&self, key: &str) -> Option<&str> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let likeness = |candidate: &str| {
            // The right name in the wrong section (or in none) is as telling as a typing error.
            let same_name = if last(candidate) == last(key) { CLOSE } else { 0.0 };
            strsim::normalized_damerau_levenshtein(candidate, key).max(same_name)
        };
        self.defaults
            .keys()
            .map(|candidate| (likeness(candidate), candidate.as_str()))
            .filter(|(likeness, _)| *likeness >= CLOSE)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, candidate)| candidate)
    }

    /// What stands directly in a section (`""` is the top level), for messages.
    fn siblings(&self, section: &str) -> String {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let names: BTreeSet<_> = self
            .defaults
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix))
            .map(|rest| rest.split('.').next().unwrap_or(rest))
            .map(|name| format!("`{prefix}{name}`"))
            .collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    }
}

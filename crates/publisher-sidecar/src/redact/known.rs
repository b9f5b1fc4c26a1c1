//! Secrets that are known: values of the environment, and the sidecar's own.

use runcast_bus::RedisConfig;
use serde_json::json;

/// Shorter values would be found in ordinary words.
const MIN_LENGTH: usize = 8;

/// A value that nobody is to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Known {
    name: String,
    value: String,
}

impl std::fmt::Debug for Known {
    /// Without the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Known").field(&self.name).finish()
    }
}

impl Known {
    /// A value, under the name that is shown in its place; none if it is too short to tell from a word.
    pub fn new(name: impl Into<String>, value: &str) -> Option<Self> {
        let value = value.trim();
        (value.len() >= MIN_LENGTH).then(|| Self { name: name.into(), value: value.to_owned() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it may be written: as it is, in a JSON string, in an address.
    pub(super) fn forms(&self) -> impl Iterator<Item = Vec<u8>> {
        let quoted = json!(self.value).to_string();
        let escaped = quoted[1..quoted.len() - 1].to_owned();
        let encoded: String = form_urlencoded::byte_serialize(self.value.as_bytes()).collect();
        let encoded_space = encoded.replace('+', "%20");
        [self.value.clone(), escaped, encoded, encoded_space].into_iter().map(String::into_bytes)
    }

    /// The values of the variables whose names fit one of `patterns`.
    pub(super) fn of_environment(
        patterns: &[String],
        variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Vec<Self> {
        let named = variables.into_iter().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            let fits = patterns.iter().any(|pattern| fits(pattern.as_bytes(), name.as_bytes()));
            if fits { Self::new(name, &value) } else { None }
        });
        named.collect()
    }

    /// The sidecar's own credentials.
    pub(super) fn of_redis(config: &RedisConfig) -> Vec<Self> {
        let in_url = config.url.split_once("://").and_then(|(_, rest)| {
            let (userinfo, _) = rest.split('/').next()?.rsplit_once('@')?;
            Some(userinfo.split_once(':')?.1)
        });
        let in_url = in_url.unwrap_or_default();
        let pair = format!("p={}", in_url.replace('+', "%2B"));
        let decoded = form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned());
        // As it is at the start. Why a file cannot be read the connection says.
        let in_file = std::fs::read_to_string(&config.password_file).unwrap_or_default();
        let in_file = in_file.trim_end_matches(['\r', '\n']);
        let values = [config.password.expose(), in_file, in_url, decoded.as_deref().unwrap_or_default()];
        values.into_iter().filter_map(|value| Self::new("redis-password", value)).collect()
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters; upper and lower case are alike.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| fits(rest, &name[skipped..])),
        Some((wanted, rest)) => name
            .split_first()
            .is_some_and(|(byte, name)| byte.eq_ignore_ascii_case(wanted) && fits(rest, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, expected) in [
            ("*_TOKEN", "GITHUB_TOKEN", true),
            ("*_TOKEN", "GITHUB_TOKENS", false),
            ("*password*", "DB_PASSWORD_2", true),
            ("API_KEY", "api_key", true),
            ("", "A", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn values_of_the_environment_and_of_the_address_are_known() {
        let variables = [("A_TOKEN", "long enough\n"), ("B_TOKEN", "short"), ("HOME", "/home/agent")];
        let known = Known::of_environment(&["*_TOKEN".into()], variables.map(|(n, v)| (n.into(), v.into())));
        assert_eq!(known, [Known { name: "A_TOKEN".into(), value: "long enough".into() }]);
        assert_eq!(format!("{known:?}"), r#"[Known("A_TOKEN")]"#);
        let redis = Known::of_redis(&RedisConfig::new("rediss://agent:p%40ss+word@host:6379/0"));
        let values: Vec<_> = redis.iter().map(|known| known.value.as_str()).collect();
        assert_eq!(values, ["p%40ss+word", "p@ss+word"]);
        assert_eq!(Known::of_redis(&RedisConfig::new("redis://host:6379")), []);
    }

    #[test]
    fn a_value_is_known_however_it_is_written() {
        let forms: Vec<_> = Known::new("x", "a\"b c/d+e").unwrap().forms().collect();
        let expected = ["a\"b c/d+e", "a\\\"b c/d+e", "a%22b+c%2Fd%2Be", "a%22b%20c%2Fd%2Be"];
        assert_eq!(forms, expected.map(|form| form.as_bytes().to_vec()));
    }
}

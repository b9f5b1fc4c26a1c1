use std::{io::Write, time::Duration};

use serde::Deserialize;

use super::*;

const DEFAULTS: &str = r#"
name = ""

[redis]
url = "redis://127.0.0.1:6379"
password = ""
pool_size = 4
connect_timeout = "5s"

[http]
cors_origins = []
gzip = false

[http.limits]
body = 1024
"#;

#[derive(Debug, Deserialize)]
struct Example {
    name: String,
    redis: Redis,
    http: Http,
}

#[derive(Debug, Deserialize)]
struct Redis {
    url: String,
    #[expect(dead_code, reason = "only its being refused is tested")]
    password: Kept,
    pool_size: u16,
    #[serde(with = "crate::duration")]
    connect_timeout: Duration,
}

#[derive(Debug, Deserialize)]
struct Http {
    cors_origins: Vec<String>,
    gzip: bool,
    limits: Limits,
}

#[derive(Debug, Deserialize)]
struct Limits {
    body: u64,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Kept;

impl TryFrom<String> for Kept {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Ok(Kept) } else { Err("expected nothing") }
    }
}

struct Given {
    file: Option<&'static str>,
    environment: &'static [(&'static str, &'static str)],
    overrides: Vec<(&'static str, String)>,
}

fn file(text: &'static str) -> Given {
    Given { file: Some(text), environment: &[], overrides: vec![] }
}

fn env(environment: &'static [(&'static str, &'static str)]) -> Given {
    Given { file: None, environment, overrides: vec![] }
}

/// Loads; in errors the temporary file's path reads `FILE`.
fn loaded(given: Given) -> Result<Example, String> {
    let mut temporary = tempfile::NamedTempFile::new().unwrap();
    temporary.write_all(given.file.unwrap_or_default().as_bytes()).unwrap();
    let environment =
        given.environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load_from(DEFAULTS, Some(temporary.path()), environment, &given.overrides)
        .map_err(|error| error.to_string().replace(&temporary.path().display().to_string(), "FILE"))
}

#[test]
fn later_layers_win() {
    let given = Given {
        file: Some("[redis]\nurl = 'redis://file'\npool_size = 8\n[http.limits]\nbody = 2"),
        environment: &[("RUNCAST__REDIS__URL", "redis://env"), ("RUNCAST__REDIS__CONNECT_TIMEOUT", "250ms")],
        overrides: vec![("redis.url", "redis://line".to_owned())],
    };
    let config = loaded(given).unwrap();
    assert_eq!(config.redis.url, "redis://line");
    assert_eq!(config.redis.pool_size, 8);
    assert_eq!(config.redis.connect_timeout, Duration::from_millis(250));
    assert_eq!(config.http.limits.body, 2);
    assert!(!config.http.gzip);
}

#[test]
fn text_stays_text_and_is_converted_when_asked() {
    for name in ["007", "1e5", "true", "a.b", ""] {
        let given = Given { file: None, environment: &[], overrides: vec![("name", name.to_owned())] };
        assert_eq!(loaded(given).unwrap().name, name);
    }
    let config = loaded(env(&[
        ("RUNCAST__NAME", "007"),
        ("RUNCAST__REDIS__POOL_SIZE", "12"),
        ("RUNCAST__HTTP__GZIP", "true"),
        ("RUNCAST__HTTP__CORS_ORIGINS", "https://a.example, https://b.example"),
    ]))
    .unwrap();
    assert_eq!(config.name, "007");
    assert_eq!(config.redis.pool_size, 12);
    assert!(config.http.gzip);
    assert_eq!(config.http.cors_origins, ["https://a.example", "https://b.example"]);
}

#[test]
fn other_variables_are_left_alone() {
    loaded(env(&[("RUNCAST_REDIS_SERVER", "/x"), ("RUNCAST_", "x"), ("XRUNCAST__NAME", "x"), ("PATH", "/")]))
        .unwrap();
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let wrong = [
        (file("[redis]\nuri = 'x'"), "FILE: unknown key `redis.uri`; did you mean `redis.url`?"),
        (
            file("[redis]\npol_size = 2"),
            "FILE: unknown key `redis.pol_size`; did you mean `redis.pool_size`?",
        ),
        (file("[rediss]\nurl = 'x'"), "FILE: unknown key `rediss.url`; did you mean `redis.url`?"),
        (file("url = 'x'"), "FILE: unknown key `url`; did you mean `redis.url`?"),
        (
            file("[http.limits.body]\nmax = 2"),
            "FILE: unknown key `http.limits.body.max`; did you mean `http.limits.body`?",
        ),
        (
            file("[redis]\nfrobnicate = 1"),
            "FILE: unknown key `redis.frobnicate`; remove it, or use one of `redis.connect_timeout`, \
             `redis.password`, `redis.pool_size`, `redis.url`",
        ),
        (file("[zzz]"), "FILE: unknown key `zzz`; remove it, or use one of `http`, `name`, `redis`"),
        (
            env(&[("RUNCAST__REDIS__URI", "x")]),
            "environment variable RUNCAST__REDIS__URI: unknown key `redis.uri`; did you mean `RUNCAST__REDIS__URL`?",
        ),
        (
            env(&[("RUNCAST__FOO", "x")]),
            "environment variable RUNCAST__FOO: unknown key `foo`; remove it, or use one of `http`, `name`, `redis`",
        ),
    ];
    for (given, message) in wrong {
        assert_eq!(loaded(given).unwrap_err(), message);
    }
    let line = Given { file: None, environment: &[], overrides: vec![("redis.ur", String::new())] };
    assert_eq!(loaded(line).unwrap_err(), "command line: unknown key `redis.ur`; did you mean `redis.url`?");
}

#[test]
fn bad_values_are_refused_with_key_value_and_origin() {
    let wrong = [
        (
            file("[redis]\npool_size = 'many'"),
            "FILE: bad value `many` for `redis.pool_size`: expected an integer",
        ),
        (
            file("[redis]\npool_size = 70000"),
            "FILE: bad value `70000` for `redis.pool_size`: expected an unsigned 16 bit integer",
        ),
        (
            file("redis = 3"),
            "FILE: bad value `3` for `redis`: expected a section with `redis.connect_timeout`, \
             `redis.password`, `redis.pool_size`, `redis.url`",
        ),
        (file("[name]"), "FILE: bad value `{  }` for `name`: expected a value, not a section"),
        (
            env(&[("RUNCAST__REDIS__CONNECT_TIMEOUT", "5")]),
            "environment variable RUNCAST__REDIS__CONNECT_TIMEOUT: bad value `5` for `redis.connect_timeout`: \
             expected a duration with its unit, such as `15s`, `5ms` or `1h 30m`, not below zero",
        ),
        (
            env(&[("RUNCAST__HTTP__GZIP", "perhaps")]),
            "environment variable RUNCAST__HTTP__GZIP: bad value `perhaps` for `http.gzip`: expected a boolean",
        ),
    ];
    for (given, message) in wrong {
        assert_eq!(loaded(given).unwrap_err(), message);
    }
}

#[test]
fn secrets_are_not_repeated() {
    let refused = loaded(env(&[("RUNCAST__REDIS__PASSWORD", "hunter2")])).unwrap_err();
    assert_eq!(
        refused,
        "environment variable RUNCAST__REDIS__PASSWORD: bad value `***` for `redis.password`: expected nothing"
    );
    assert_eq!(error::shown("redis.url", "redis://u:p@host:6379/0"), "redis://***@host:6379/0");
    assert_eq!(error::shown("redis.url", "redis://host:6379/0"), "redis://host:6379/0");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let missing = load_from::<Example>(DEFAULTS, Some(Path::new("/no/such.toml")), [], &[]).unwrap_err();
    assert!(missing.to_string().starts_with("/no/such.toml: cannot read"), "{missing}");
    let malformed = loaded(file("redis = [")).unwrap_err();
    assert!(malformed.starts_with("FILE: not valid TOML: TOML parse error at line 1"), "{malformed}");
}

#[test]
fn defaults_that_lack_a_key_are_a_mistake_in_the_program() {
    let error = load_from::<Example>("name = ''", None, [], &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Defaults(_)), "{error}");
}

//! Secrets found in whole texts and in JSON.

use std::borrow::Cow;
use std::sync::Arc;

use runcast_protocol::Json;

use super::rules::{REPLACEMENT, Rules};
use super::stream::Stream;

/// A text without its secrets; the rules of those are added to `found`.
pub(super) fn text<'a>(rules: &Arc<Rules>, text: &'a str, found: &mut Vec<usize>) -> Cow<'a, str> {
    let mut stream = Stream::new(rules.clone());
    let (begin, end) = (stream.push(text.as_bytes()), stream.finish());
    if begin.found.is_empty() && end.found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.extend(begin.found.into_iter().chain(end.found));
    Cow::Owned(String::from_utf8_lossy(&[begin.bytes, end.bytes].concat()).into_owned())
}

/// A value without the secrets in its strings and names; none if there are none. Everything else stays as it
/// was written.
pub(super) fn value(rules: &Arc<Rules>, value: &Json, found: &mut Vec<usize>) -> Option<Json> {
    let all = value.as_str();
    let (mut clean, mut copied) = (String::new(), 0);
    // The name that was read last, until its value comes.
    let mut name: Option<Cow<'_, str>> = None;
    let mut at = 0;
    while let Some(begin) = all[at..].find('"').map(|quote| at + quote) {
        // Of an array's strings, or a name without a value, there is none.
        if at != begin && all[at..begin].contains(['{', '[', ',', '}', ']']) {
            name = None;
        }
        let end = begin + 1 + string_end(&all.as_bytes()[begin + 1..]);
        let token = &all[begin..end];
        // Half a surrogate pair is a JSON string, but no text.
        let content = serde_json::from_str::<String>(token)
            .map(Cow::Owned)
            .unwrap_or(Cow::Borrowed(&token[1..token.len() - 1]));
        let is_name = all[end..].starts_with(':');
        let hidden = match name.take().filter(|_| !is_name) {
            Some(name) => assigned(rules, &name, &content, found),
            None => match text(rules, &content, found) {
                Cow::Owned(clean) => Some(clean),
                Cow::Borrowed(_) => None,
            },
        };
        if let Some(hidden) = hidden {
            clean.push_str(&all[copied..begin]);
            clean.push_str(Json::string(&hidden).as_str());
            copied = end;
        }
        if is_name {
            name = Some(content);
        }
        at = end;
    }
    if copied == 0 {
        return None;
    }
    clean.push_str(&all[copied..]);
    Some(Json::parse(&clean).unwrap_or_else(|_| Json::string("[redacted]")))
}

/// The value of `name` without its secrets; the name may be what gives it away, and then all of it goes.
fn assigned(rules: &Arc<Rules>, name: &str, content: &str, found: &mut Vec<usize>) -> Option<String> {
    let is_placeholder = content.len() < 4 || content.starts_with(['[', '<', '{', '$', '(', '*']);
    if !is_placeholder {
        // Whatever the value's characters are: would one be hidden that looks like any secret?
        let (probe, mut hidden) = (format!("{name}=\"{}", "x".repeat(40)), Vec::new());
        let clean = text(rules, &probe, &mut hidden);
        let value = clean.strip_prefix(name).and_then(|rest| rest.strip_prefix("=\""));
        if let Some(value) = value.filter(|value| value.starts_with(REPLACEMENT)) {
            found.extend(hidden);
            return Some(value.to_owned());
        }
    }
    match text(rules, content, found) {
        Cow::Owned(clean) => Some(clean),
        Cow::Borrowed(_) => None,
    }
}

/// Where a string that has begun ends, its closing quote included.
fn string_end(rest: &[u8]) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;

    fn clean(json: &str) -> Option<String> {
        let rules = builtin::rules(&builtin::NAMES.map(str::to_owned));
        let rules = Arc::new(Rules::new(&rules, &[]).unwrap());
        let mut found = Vec::new();
        let clean = value(&rules, &Json::parse(json).unwrap(), &mut found);
        assert_eq!(clean.is_some(), !found.is_empty());
        clean.map(|clean| clean.as_str().to_owned())
    }

    #[test]
    fn secrets_go_from_strings_and_all_else_stays() {
        for (json, expected) in [
            (
                r#"{"n":1.0e400,"a":"key AKIAABCDEFGHIJKLMNOP, ok"}"#,
                r#"{"n":1.0e400,"a":"key AKIA[redacted:aws-access-key], ok"}"#,
            ),
            (r#"["\u0041KIA\u0041BCDEFGHIJKLMNOP\n"]"#, r#"["AKIA[redacted:aws-access-key]\n"]"#),
            (r#"{"password":"some words","x":2}"#, r#"{"password":"[redacted:password]","x":2}"#),
            (
                r#"{"db":{"password":"h\"u\\nter2"},"user":"me"}"#,
                r#"{"db":{"password":"[redacted:password]"},"user":"me"}"#,
            ),
            (
                r#"{"aws_secret_access_key":"wJalrXUtnFEMI\/K7MDENG\/bPxRfiCYEXAMPLEKEY"}"#,
                r#"{"aws_secret_access_key":"[redacted:aws-secret-key]"}"#,
            ),
            (r#"{"AKIAABCDEFGHIJKLMNOP":1}"#, r#"{"AKIA[redacted:aws-access-key]":1}"#),
            (
                r#"{"private_key":"-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----\n"}"#,
                r#"{"private_key":"-----BEGIN PRIVATE KEY-----[redacted:private-key]-----END PRIVATE KEY-----\n"}"#,
            ),
        ] {
            assert_eq!(clean(json).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn what_has_no_secret_is_not_touched() {
        for json in [
            r#"{"password":["a","b"],"c":"password"}"#,
            r#""\ud800""#,
            "[]",
            "7",
            r#"{"password":null,"reason":"longer than that"}"#,
        ] {
            assert_eq!(clean(json), None, "{json}");
        }
    }
}

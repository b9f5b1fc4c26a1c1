//! The secrets that are known by their looks.

use super::rules::Rule;

/// A rule in its source form: its name; what comes before the secret, and stays; the secret.
type Source = (&'static str, &'static str, &'static str);

/// What stands between a name and its value: `=`, `: `, `": "`, and the same inside a JSON string.
macro_rules! assigned {
    ($names:literal) => {
        concat!("(?i)", $names, r#"(?:\\?["'])?[ \t]*(?:[:=]|=>)[ \t]*(?:\\?["'])?"#)
    };
}

/// A password's name up to the quote in which it begins.
macro_rules! quoted {
    ($quote:literal) => {
        concat!(r#"(?i)(?:password|passwd|passphrase)(?:\\?["'])?[ \t]*[:=][ \t]*\\?"#, $quote)
    };
}

/// A password's characters, where nothing says how it ends. What begins with a bracket, `$` or `*` is a
/// placeholder rather than a password.
const PASSWORD: &str = r#"[^\s"'`\\&;,<>\[{$(*][^\s"'`\\&;,<>]{3,}"#;

const SOURCES: &[Source] = &[
    ("aws-access-key", r"\b(?:AKIA|ASIA|ABIA|ACCA)", "[A-Z0-9]{16,}"),
    ("aws-secret-key", assigned!("secret_?(?:access_?)?key"), "[A-Za-z0-9/+]{40,}"),
    ("aws-secret-key", assigned!("aws_?session_?token"), "[A-Za-z0-9/+=]{40,}"),
    ("github-token", r"\b(?:gh[pousr]_|github_pat_)", "[A-Za-z0-9_]{22,}"),
    ("gitlab-token", r"\bgl(?:pat|ptt|dt|rt|cbt|oas|ft|imt|agent|soat)-", "[A-Za-z0-9_-]{20,}"),
    ("slack-token", r"\b(?:xox[abeoprs]|xapp)-", "[A-Za-z0-9-]{10,}"),
    ("slack-token", r"hooks\.slack\.com/(?:services|workflows|triggers)/", "[A-Za-z0-9/_-]{20,}"),
    ("ai-api-key", r"\bsk-(?:proj|ant|svcacct|admin|or)-", "[A-Za-z0-9_-]{20,}"),
    ("ai-api-key", r"\bsk-", "[A-Za-z0-9]{32,}"),
    ("ai-api-key", r"\bhf_", "[A-Za-z0-9]{30,}"),
    ("google-key", r"\bAIza", "[A-Za-z0-9_-]{35,}"),
    ("google-key", r"\b(?:ya29\.|GOCSPX-)", "[A-Za-z0-9_-]{20,}"),
    ("azure-key", r"(?i)\b(?:AccountKey|SharedAccessKey)=", "[A-Za-z0-9+/=]{40,}"),
    ("azure-key", r"[?&]sig=", "[A-Za-z0-9%+/=]{40,}"),
    ("stripe-key", r"\b(?:[sr]k_(?:live|test)_|whsec_)", "[A-Za-z0-9]{16,}"),
    ("npm-token", r"\bnpm_", "[A-Za-z0-9]{36,}"),
    ("pypi-token", r"\bpypi-", "[A-Za-z0-9_-]{50,}"),
    // The second part of every signed token begins with `{"` too; other base64 has no such point.
    ("jwt", r"\beyJ", r"[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_.-]*"),
    ("authorization", r"(?i)\bbearer +", "[A-Za-z0-9._~+/=-]{20,}"),
    (
        "authorization",
        r#"(?i)\bauthorization(?:\\?["'])?[ \t]*[:=][ \t]*(?:\\?["'])?basic +"#,
        "[A-Za-z0-9+/=]{8,}",
    ),
    ("password", "(?i)(?:password|passwd|passphrase)=", PASSWORD),
    // After a colon only in quotes: `password: please enter it` is for people.
    ("password", quoted!("\""), r#"[^"\\\s\[<{$(*](?:[^"\\\r\n]|\\[^"nr]){3,}"#),
    ("password", quoted!("'"), r"[^'\\\s\[<{$(*](?:[^'\\\r\n]|\\[^'nr]){3,}"),
];

/// The built-in names, in the order of the documentation.
pub const NAMES: [&str; 16] = [
    "aws-access-key",
    "aws-secret-key",
    "github-token",
    "gitlab-token",
    "slack-token",
    "ai-api-key",
    "google-key",
    "azure-key",
    "stripe-key",
    "npm-token",
    "pypi-token",
    "jwt",
    "authorization",
    "password",
    "url-password",
    "private-key",
];

/// The name under which values known from the environment are counted.
pub(super) const KNOWN_VALUE: &str = "known-value";

/// The built-in rules of the given names.
pub fn rules(names: &[String]) -> Vec<Rule> {
    let wanted = |name: &str| names.iter().any(|wanted| wanted == name);
    let simple = SOURCES.iter().filter(|(name, ..)| wanted(name));
    let mut rules: Vec<_> = simple.map(|(name, after, secret)| Rule::new(*name, *after, *secret)).collect();
    if wanted("url-password") {
        // Only the `@` tells a password from a port.
        let url = Rule::new("url-password", r#"://[^\s/:@"'<>\[\]]*:"#, r#"[^\s/@"'<>]{1,256}"#);
        rules.push(url.followed_by(b'@'));
    }
    if wanted("private-key") {
        // A line end, also one inside a JSON string, or the key on the same line: everything until the end
        // is the key then, whatever prefixes its lines have.
        let begin = "-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----";
        let key = Rule::new("private-key", begin, r"[\r\n]|\\[rn]| ?[A-Za-z0-9+/]{16}");
        rules.push(key.until("-----END"));
    }
    rules
}

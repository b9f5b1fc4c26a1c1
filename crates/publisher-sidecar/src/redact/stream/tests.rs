use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::builtin;
use super::super::known::Known;
use super::*;

/// A text, and what is left of it.
const KNOWN: [(&str, &str); 41] = [
    (r#"{\"passwd\": \"it's \\two words\", 'x'"#, r#"{\"passwd\": \"[redacted:password]\", 'x'"#),
    ("key AKIAIOSFODNN7EXAMPLE.", "key AKIA[redacted:aws-access-key]."),
    ("AKIAIOSFODNN7EXAMPLE", "AKIA[redacted:aws-access-key]"),
    (
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
        "aws_secret_access_key = [redacted:aws-secret-key]\n",
    ),
    (
        r#""SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","#,
        r#""SecretAccessKey": "[redacted:aws-secret-key]","#,
    ),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789\n", "ghp_[redacted:github-token]\n"),
    ("github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoP end", "github_pat_[redacted:github-token] end"),
    ("glpat-ABCdef_123-ABCdef_123!", "glpat-[redacted:gitlab-token]!"),
    ("(xoxb-123456789012-abcdef)", "(xoxb-[redacted:slack-token])"),
    (
        "https://hooks.slack.com/services/T000/B000/XXXXXXXXXXXX",
        "https://hooks.slack.com/services/[redacted:slack-token]",
    ),
    ("sk-ant-api03-abcdefghijklmnop_qrst-uv", "sk-ant-[redacted:ai-api-key]"),
    ("sk-proj-abcdefghijklmnop_qrst-uv", "sk-proj-[redacted:ai-api-key]"),
    ("sk-abcdefghijklmnopqrstuvwxyz012345", "sk-[redacted:ai-api-key]"),
    ("AIzaSyA-1234567890abcdefghijklmnopqrstu", "AIza[redacted:google-key]"),
    ("AccountKey=abcdefghijklmnopqrstuvwxyz0123456789+/ABCD==;x", "AccountKey=[redacted:azure-key];x"),
    ("sk_live_abcdefghijklmnop1234", "sk_live_[redacted:stripe-key]"),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "npm_[redacted:npm-token]"),
    ("pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMA", "pypi-[redacted:pypi-token]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-DEF_123 x", "eyJ[redacted:jwt] x"),
    (
        "Authorization: Bearer abcdefghij.klmnopqrst-0123\r\n",
        "Authorization: Bearer [redacted:authorization]\r\n",
    ),
    ("authorization: Basic dXNlcjpwYXNz\r\n", "authorization: Basic [redacted:authorization]\r\n"),
    ("PASSWORD=hunter2 next", "PASSWORD=[redacted:password] next"),
    (r#"{"password": "hunter2"}"#, r#"{"password": "[redacted:password]"}"#),
    ("redis://user:pa55@host:6379/0", "redis://user:[redacted:url-password]@host:6379/0"),
    ("redis://:pa55@host", "redis://:[redacted:url-password]@host"),
    (
        "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----\nb",
        "a\n-----BEGIN RSA PRIVATE KEY-----[redacted:private-key]-----END RSA PRIVATE KEY-----\nb",
    ),
    (
        "-----BEGIN PRIVATE KEY-----\n[info] MIIEow\n[info] IBAAKC",
        "-----BEGIN PRIVATE KEY-----[redacted:private-key]",
    ),
    ("say correct-horse twice", "say [redacted:APP_TOKEN] twice"),
    ("correct-hcorrect-horsecorrect-horse", "correct-h[redacted:APP_TOKEN]"),
    // What one pattern leaves of a value that is known.
    ("password=kno&wn;value", "password=[redacted:DB_PASSWORD]"),
    // Not secrets.
    ("the risk-free task-list: sk-learn, sk-", "the risk-free task-list: sk-learn, sk-"),
    ("AKIA, AKIA1234 and xAKIAIOSFODNN7EXAMPLE", "AKIA, AKIA1234 and xAKIAIOSFODNN7EXAMPLE"),
    ("http://localhost:8080/x?y=http://[::1]:80 a@b", "http://localhost:8080/x?y=http://[::1]:80 a@b"),
    ("password: please enter it", "password: please enter it"),
    ("password=$PASSWORD password=<yours> password=***", "password=$PASSWORD password=<yours> password=***"),
    ("if line == \"-----BEGIN PRIVATE KEY-----\":", "if line == \"-----BEGIN PRIVATE KEY-----\":"),
    ("bearer of bad news, Bearer token", "bearer of bad news, Bearer token"),
    ("eyJhIjoxfQ== eyJhbGciOiJIUzI1NiJ9.x", "eyJhIjoxfQ== eyJhbGciOiJIUzI1NiJ9.x"),
    ("correct-hors", "correct-hors"),
    ("\u{1f680} \u{e9}\u{2028}", "\u{1f680} \u{e9}\u{2028}"),
    ("", ""),
];

fn rules() -> Arc<Rules> {
    static RULES: LazyLock<Arc<Rules>> = LazyLock::new(compile);
    RULES.clone()
}

fn compile() -> Arc<Rules> {
    let rules = builtin::rules(&builtin::NAMES.map(str::to_owned));
    let known = [("APP_TOKEN", "correct-horse"), ("DB_PASSWORD", "kno&wn;value")];
    let known = known.map(|(name, value)| Known::new(name, value).unwrap());
    Arc::new(Rules::new(&rules, &known).unwrap())
}

fn clean<'a>(rules: &Arc<Rules>, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<usize>) {
    let (mut stream, mut bytes, mut found) = (Stream::new(rules.clone()), Vec::new(), Vec::new());
    let mut add = |clean: Clean| {
        bytes.extend(clean.bytes);
        found.extend(clean.found);
    };
    pieces.into_iter().for_each(|piece| add(stream.push(piece)));
    add(stream.finish());
    (bytes, found)
}

#[test]
fn secrets_go_and_everything_else_stays_however_it_is_cut() {
    let (rules, mut splits) = (rules(), 0);
    for (text, expected) in KNOWN {
        let text = text.as_bytes();
        let (whole, found) = clean(&rules, [text]);
        assert_eq!(String::from_utf8_lossy(&whole), expected);
        assert_eq!(found.len(), expected.matches("[redacted:").count());
        let same = |pieces: &[&[u8]]| {
            assert_eq!(clean(&rules, pieces.iter().copied()), (whole.clone(), found.clone()));
        };
        same(&text.chunks(1).collect::<Vec<_>>());
        // Every way to cut it in two, and in three.
        for first in 0..=text.len() {
            for second in first..=text.len() {
                same(&[&text[..first], &text[first..second], &text[second..]]);
                splits += 1;
            }
        }
    }
    assert!(splits > 35_000, "{splits} ways to cut were tried");
}

#[test]
fn text_waits_only_where_a_secret_may_have_begun() {
    let mut stream = Stream::new(rules());
    let mut shown = |text: &str| String::from_utf8(stream.push(text.as_bytes()).bytes).unwrap();
    // What gives a secret away is none itself.
    for text in [
        "AKI",
        "A",
        "\n ghp_",
        ",\npass",
        "word=",
        " \" ",
        "redis://user:",
        " eyJ",
        " -----BEGIN PRIVATE",
        " KEY-----",
    ] {
        assert_eq!(shown(text), text);
    }
    assert_eq!(shown("; AKIAX"), "; AKIA");
    assert_eq!(shown("YZ"), "");
    assert_eq!(shown(" ends"), "XYZ ends", "too short");
    assert_eq!(shown(" AKIAIOSFODNN7EXAMPLE"), " AKIA");
    assert_eq!(shown("\n"), "[redacted:aws-access-key]\n", "a line's end does not wait for the next");
    assert_eq!(shown("ghp_abcdefghijklmnopqrstuvwxyz"), "ghp_[redacted:github-token]", "long enough");
    assert_eq!(shown("0123456789 http://host:80"), " http://host:");
}

#[test]
fn silence_shows_the_beginning_and_never_the_rest() {
    let text = b"key AKIAIOSFODNN7EXAMPLE and -----BEGIN PRIVATE KEY-----\nMIIE\nIBAA\n-----END PRIVATE KEY----- end";
    for at in 0..=text.len() {
        let mut stream = Stream::new(rules());
        let mut shown = stream.push(&text[..at]).bytes;
        shown.extend(stream.expire().bytes);
        assert!(!stream.is_holding(), "all that time can release is released");
        let early = shown.clone();
        shown.extend(stream.push(&text[at..]).bytes);
        shown.extend(stream.finish().bytes);
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.contains("IBAA") && !shown.contains("XAMPLE"), "{at}: {shown}");
        assert!(shown.ends_with(" end"), "{at}: {shown}");
        assert!(text.starts_with(&early) || early.windows(9).any(|part| part == b"[redacted"));
    }
}

#[test]
fn nothing_waits_for_ever_and_a_key_without_an_end_ends() {
    let rules = rules();
    let mut stream = Stream::new(rules.clone());
    let long = format!("eyJ{}", "a".repeat(3 * MAX_UNDECIDED as usize));
    let mut shown = 0;
    for piece in long.as_bytes().chunks(100) {
        shown += stream.push(piece).bytes.len();
        assert!(stream.held.len() as u64 <= MAX_UNDECIDED + 100);
    }
    assert_eq!(shown, long.len());
    let text = format!("-----BEGIN PRIVATE KEY-----\n{}", "word ".repeat(20_000));
    let (bytes, _) = clean(&rules, [text.as_bytes()]);
    assert!(text.len() - bytes.len() <= MAX_BLOCK as usize + 1, "the rest is shown");
}

/// Pieces of secrets, of near-misses and of rubbish.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let whole = proptest::sample::select(KNOWN.map(|(text, _)| text).to_vec());
    let part = (whole.clone(), any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(
        |(text, a, b)| {
            let (a, b) = (a.index(text.len() + 1), b.index(text.len() + 1));
            text.as_bytes()[a.min(b)..a.max(b)].to_vec()
        },
    );
    let piece = prop_oneof![
        whole.prop_map(|text| text.as_bytes().to_vec()),
        part,
        proptest::collection::vec(any::<u8>(), 0..6),
        Just(b" ".to_vec()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn how_it_was_cut_does_not_matter(input in input(), cuts in proptest::collection::vec(any::<usize>(), 0..16)) {
        let rules = rules();
        let whole = clean(&rules, [input.as_slice()]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|range| &input[range[0]..range[1]]);
        prop_assert_eq!(&clean(&rules, pieces), &whole);
        prop_assert_eq!(&clean(&rules, input.chunks(1)), &whole);
    }

    #[test]
    fn what_is_clean_stays_as_it_is(input in input()) {
        let rules = rules();
        let (once, found) = clean(&rules, [input.as_slice()]);
        if found.is_empty() {
            prop_assert_eq!(once, input);
        }
    }
}

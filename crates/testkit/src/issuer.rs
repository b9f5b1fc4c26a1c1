//! Who issues viewers' tokens, as services that ask for them trust it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tempfile::NamedTempFile;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Signs tokens with a secret (HS256), which stands in a file of its own.
#[derive(Debug)]
pub struct Issuer {
    file: NamedTempFile,
    path: String,
}

impl Issuer {
    /// One.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        let file = NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), SECRET).expect("a temporary file");
        let path = file.path().display().to_string();
        Self { file, path }
    }

    /// What makes a service ask for its tokens.
    pub fn settings(&self) -> [(&str, &str); 2] {
        debug_assert!(self.file.path().exists(), "the service reads it");
        [("RUNCAST__AUTH__MODE", "jwt"), ("RUNCAST__AUTH__SECRET_FILE", &self.path)]
    }

    /// A token with these claims, JSON.
    pub fn token(&self, claims: &str) -> String {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

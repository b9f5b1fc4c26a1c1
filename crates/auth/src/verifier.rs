//! Whether a token is good: JWS compact (RFC 7515) with JWT claims (RFC 7519).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

use crate::config::AuthConfig;
use crate::key::Key;
use crate::key_source::KeySource;
use crate::{Denied, Grant, Token};

/// Verifies tokens.
#[derive(Debug)]
pub struct Verifier {
    source: KeySource,
    issuer: String,
    audience: String,
    leeway: u64,
    max_token: usize,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What must be understood; we understand nothing.
    crit: Option<serde_json::Value>,
}

/// The claims that say whether the token counts here and now.
#[derive(Deserialize)]
struct Terms {
    exp: u64,
    nbf: Option<u64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Verifier {
    /// By the keys that the configuration names.
    ///
    /// # Errors
    /// If not exactly one source of keys is named, or it cannot be used.
    pub fn open(config: &AuthConfig) -> anyhow::Result<Self> {
        Ok(Self {
            source: KeySource::open(config)?,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway.as_secs(),
            max_token: usize::try_from(config.max_token.as_u64()).unwrap_or(usize::MAX),
        })
    }

    /// What the token allows.
    ///
    /// # Errors
    /// [`Denied::Invalid`], [`Denied::Expired`], or [`Denied::Unavailable`] while there are no keys.
    pub async fn verify(&self, token: &Token, now: Timestamp) -> Result<Grant, Denied> {
        let text = token.text();
        if text.len() > self.max_token {
            return Err(Denied::Invalid);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Denied::Invalid)?;
        let (header, claims) = message.split_once('.').ok_or(Denied::Invalid)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Denied::Invalid)?;
        if header.crit.is_some() {
            return Err(Denied::Invalid);
        }
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        self.source.refresh(false).await;
        let fits = |key: &&Key| {
            let named = header.kid.as_ref().zip(key.id.as_ref());
            key.algorithm() == header.alg && named.is_none_or(|(one, two)| one == two)
        };
        let mut keys = self.source.keys();
        if !keys.iter().any(|key| fits(&key)) {
            self.source.refresh(true).await;
            keys = self.source.keys();
        }
        if keys.is_empty() {
            return Err(Denied::Unavailable);
        }
        if !keys.iter().filter(fits).any(|key| key.verifies(message.as_bytes(), &signature)) {
            return Err(Denied::Invalid);
        }
        self.check(&claims, now)?;
        Grant::parse(&claims)
    }

    fn check(&self, claims: &[u8], now: Timestamp) -> Result<(), Denied> {
        let terms: Terms = serde_json::from_slice(claims).map_err(|_| Denied::Invalid)?;
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        if terms.exp.saturating_add(self.leeway) <= now {
            return Err(Denied::Expired);
        }
        let begun = terms.nbf.is_none_or(|begin| begin <= now.saturating_add(self.leeway));
        let issued = self.issuer.is_empty() || terms.iss.as_ref() == Some(&self.issuer);
        let meant = self.audience.is_empty()
            || match &terms.aud {
                None => false,
                Some(Audience::One(audience)) => *audience == self.audience,
                Some(Audience::Many(audiences)) => audiences.contains(&self.audience),
            };
        if begun && issued && meant { Ok(()) } else { Err(Denied::Invalid) }
    }

    /// How long after `exp` a token is still good, in seconds: clocks differ.
    pub(crate) fn leeway(&self) -> u64 {
        self.leeway
    }
}

fn decode(text: &str) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Denied::Invalid)
}

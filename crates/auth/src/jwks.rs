//! Sets of keys (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::key::{Key, Material};

/// Most keys of a set.
const MAX_KEYS: usize = 64;

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The public keys of a set that we can verify by; others, and secrets, are passed over.
///
/// # Errors
/// If it is no set of keys, or has none that is of use.
pub fn parse(bytes: &[u8]) -> Result<Vec<Key>, &'static str> {
    let set: Set = serde_json::from_slice(bytes).map_err(|_| "is no JWK set")?;
    if set.keys.len() > MAX_KEYS {
        return Err("has more than 64 keys");
    }
    let keys = set.keys.into_iter().filter_map(|jwk| key(serde_json::from_value(jwk).ok()?));
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() { Err("has no key for RS256, ES256 or EdDSA") } else { Ok(keys) }
}

fn key(jwk: Jwk) -> Option<Key> {
    if jwk.purpose.is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Material::Rsa { n: bytes(jwk.n)?, e: bytes(jwk.e)? },
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
            (x.len() == 32 && y.len() == 32).then(|| Material::P256([&[4], &x[..], &y[..]].concat()))?
        }
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(jwk.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    let key = Key { id: jwk.kid, material };
    // Of a key that is meant for another algorithm (PS256, say) nothing is verified.
    jwk.alg.is_none_or(|alg| alg == key.algorithm()).then_some(key)
}

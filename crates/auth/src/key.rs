//! Keys, each of which verifies by one algorithm and no other.

use std::fmt;

use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

use crate::pem;

/// Shortest shared secret, in bytes: as long as the hash (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;

/// A key. Which algorithm it verifies by follows from what it is: what a token's header says is only compared
/// with that, so that a public key is never taken for a shared secret.
#[derive(Clone)]
pub struct Key {
    /// Its name, if it has one.
    pub id: Option<String>,
    pub(crate) material: Material,
}

#[derive(Clone)]
pub(crate) enum Material {
    Secret(hmac::Key),
    /// `RSAPublicKey` in DER (PKCS #1).
    RsaDer(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({:?}, {})", self.id, self.algorithm())
    }
}

impl Key {
    /// A shared secret, HS256.
    ///
    /// # Errors
    /// If it is shorter than 32 bytes, or is a PEM file that was meant for something else.
    pub fn secret(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.starts_with(b"-----BEGIN") {
            return Err("is a PEM file: that is no shared secret");
        }
        if bytes.len() < MIN_SECRET {
            return Err("is shorter than 32 bytes");
        }
        Ok(Self { id: None, material: Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes)) })
    }

    /// A public key in PEM (`PUBLIC KEY`): RSA, P-256 or Ed25519.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn pem(text: &[u8]) -> Result<Self, &'static str> {
        Ok(Self { id: None, material: pem::public_key(text)? })
    }

    /// The algorithm's name in tokens.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.material {
            Material::Secret(_) => "HS256",
            Material::RsaDer(_) | Material::Rsa { .. } => "RS256",
            Material::P256(_) => "ES256",
            Material::Ed25519(_) => "EdDSA",
        }
    }

    /// Whether the signature is this key's.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature),
            Material::RsaDer(key) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature)
            }
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Material::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

//! Public keys in PEM: a `SubjectPublicKeyInfo` (RFC 5280) of one of three kinds.

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use crate::key::Material;

/// What an Ed25519 key begins with (RFC 8410).
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What an uncompressed P-256 key begins with (RFC 5480).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// rsaEncryption with no parameters (RFC 3279).
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

pub(crate) fn public_key(text: &[u8]) -> Result<Material, &'static str> {
    let der =
        SubjectPublicKeyInfoDer::from_pem_slice(text).map_err(|_| "is no PEM file with a PUBLIC KEY")?;
    let der: &[u8] = &der;
    if let Some(key) = der.strip_prefix(ED25519).filter(|key| key.len() == 32) {
        return Ok(Material::Ed25519(key.to_vec()));
    }
    if let Some(key) = der.strip_prefix(P256).filter(|key| key.len() == 65 && key.first() == Some(&4)) {
        return Ok(Material::P256(key.to_vec()));
    }
    let rsa = || {
        let inner = all_of(der, 0x30)?.strip_prefix(RSA)?;
        // No bits of the last byte are unused.
        Some(Material::RsaDer(all_of(inner, 0x03)?.strip_prefix(&[0])?.to_vec()))
    };
    rsa().ok_or("is no key of RSA, P-256 or Ed25519")
}

/// The contents of the DER element of this tag that is all of `der`.
fn all_of(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, contents) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, contents) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), contents)
        }
        _ => return None,
    };
    (*found == tag && contents.len() == length).then_some(contents)
}

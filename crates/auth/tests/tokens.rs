//! Which tokens are good.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytesize::ByteSize;
use jiff::Timestamp;
use rcgen::PublicKeyData as _;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use runcast_auth::{AuthConfig, Denied, Grant, Mode, Token, Verifier};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn config() -> AuthConfig {
    AuthConfig {
        mode: Mode::Jwt,
        secret_file: "".into(),
        public_key_file: "".into(),
        jwks_file: "".into(),
        jwks_url: String::new(),
        jwks_interval: Duration::from_millis(1),
        issuer: String::new(),
        audience: String::new(),
        leeway: Duration::from_secs(5),
        max_token: ByteSize::kib(8),
        cookie: String::new(),
        requests_per_second_per_holder: 0,
        request_burst_per_holder: 1.try_into().unwrap(),
    }
}

/// A verifier by what stands in a file.
fn by(set: impl Fn(&mut AuthConfig, &Path), contents: &[u8]) -> Verifier {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contents).unwrap();
    let mut config = config();
    set(&mut config, file.path());
    Verifier::open(&config).unwrap()
}

fn by_secret() -> Verifier {
    by(|config, path| config.secret_file = path.into(), SECRET)
}

fn by_pem(pem: &[u8]) -> Verifier {
    by(|config, path| config.public_key_file = path.into(), pem)
}

/// Someone who signs.
enum Signer {
    Secret(Vec<u8>),
    Ec(rcgen::KeyPair),
    Ed(rcgen::KeyPair),
    Rsa,
}

impl Signer {
    fn ec() -> Self {
        Self::Ec(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    }

    fn ed() -> Self {
        Self::Ed(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
            Self::Rsa => "RS256",
        }
    }

    fn pem(&self) -> String {
        match self {
            Self::Ec(key) | Self::Ed(key) => key.public_key_pem(),
            _ => include_str!("rsa.pem").to_owned(),
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(key) => {
                let (x, y) = key.der_bytes()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": text(x), "y": text(y)})
            }
            Self::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": text(key.der_bytes())}),
            Self::Rsa => {
                let key = RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).unwrap();
                let parts = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": text(&parts.n), "e": text(&parts.e)})
            }
            Self::Secret(secret) => json!({"kty": "oct", "kid": kid, "k": text(secret)}),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            Self::Ec(key) => {
                let (kind, der) = (&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialize_der());
                let key = EcdsaKeyPair::from_pkcs8(kind, &der, &random).unwrap();
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed(key) => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key.serialize_der()).unwrap();
                key.sign(message).as_ref().to_vec()
            }
            Self::Rsa => {
                let key = RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).unwrap();
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> Token {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        Token::new(format!("{message}.{signature}"))
    }

    fn says(&self, claims: &Value) -> Token {
        self.token(&json!({"alg": self.algorithm()}), claims)
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn good() -> Value {
    json!({"exp": now() + 60, "runs": ["r"], "operations": ["view"]})
}

async fn verify(verifier: &Verifier, token: &Token) -> Result<Grant, Denied> {
    verifier.verify(token, Timestamp::now()).await
}

#[tokio::test]
async fn every_algorithm_verifies_by_its_own_key_only() {
    for (signer, other) in
        [(Signer::ec(), Signer::ec()), (Signer::ed(), Signer::ed()), (Signer::Rsa, Signer::ec())]
    {
        let set = json!({"keys": [signer.jwk("k")]}).to_string();
        let in_set = by(|config, path| config.jwks_file = path.into(), set.as_bytes());
        for verifier in [by_pem(signer.pem().as_bytes()), in_set] {
            let name = signer.algorithm();
            assert!(verify(&verifier, &signer.says(&good())).await.is_ok(), "{name}");
            assert_eq!(verify(&verifier, &other.says(&good())).await, Err(Denied::Invalid), "{name}");
            for broken in ["", ".", "..", "a.b", "a.b.c", "e30.e30.", "\0.\u{e9}.x"] {
                assert_eq!(verify(&verifier, &Token::new(broken)).await, Err(Denied::Invalid), "{broken}");
            }
        }
    }
    let (signer, other) = (Signer::Secret(SECRET.to_vec()), Signer::Secret(vec![7; 32]));
    assert!(verify(&by_secret(), &signer.says(&good())).await.is_ok());
    assert_eq!(verify(&by_secret(), &other.says(&good())).await, Err(Denied::Invalid));
}

#[tokio::test]
async fn what_the_header_says_does_not_choose_the_algorithm() {
    let (rsa, ec) = (Signer::Rsa, Signer::ec());
    for public in [&rsa, &ec] {
        // The public key as if it were a shared secret.
        let forged = Signer::Secret(public.pem().into_bytes());
        let verifier = by_pem(public.pem().as_bytes());
        for name in ["HS256", "none", "None", "", public.algorithm()] {
            let token = forged.token(&json!({"alg": name}), &good());
            assert_eq!(verify(&verifier, &token).await, Err(Denied::Invalid), "{name}");
        }
    }
    let mut config = config();
    config.secret_file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rsa.pem").into();
    assert!(Verifier::open(&config).is_err());
    let signer = Signer::Secret(SECRET.to_vec());
    let critical = signer.token(&json!({"alg": "HS256", "crit": ["b64"]}), &good());
    assert_eq!(verify(&by_secret(), &critical).await, Err(Denied::Invalid));
}

#[tokio::test]
async fn terms_are_kept() {
    let strict = by(
        |config, path| {
            config.secret_file = path.into();
            (config.issuer, config.audience) = ("us".into(), "them".into());
        },
        SECRET,
    );
    let signer = Signer::Secret(SECRET.to_vec());
    let merged = |more: Value| {
        let mut claims = json!({"exp": now() + 60, "iss": "us", "aud": ["x", "them"]});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signer.says(&claims)
    };
    for (claims, expected) in [
        (json!({}), None),
        (json!({"aud": "them"}), None),
        (json!({"exp": now() - 2}), None),
        (json!({"exp": now() - 10}), Some(Denied::Expired)),
        (json!({"nbf": now() + 2}), None),
        (json!({"nbf": now() + 60}), Some(Denied::Invalid)),
        (json!({"exp": null}), Some(Denied::Invalid)),
        (json!({"exp": "9999999999"}), Some(Denied::Invalid)),
        (json!({"nbf": "0"}), Some(Denied::Invalid)),
        (json!({"iss": "you"}), Some(Denied::Invalid)),
        (json!({"aud": "you"}), Some(Denied::Invalid)),
        (json!({"aud": null}), Some(Denied::Invalid)),
        (json!({"runs": ["x".repeat(300)]}), Some(Denied::Invalid)),
        (json!({"more": "x".repeat(9000)}), Some(Denied::Invalid)),
    ] {
        assert_eq!(verify(&strict, &merged(claims.clone())).await.err(), expected, "{claims}");
    }
    assert_eq!(verify(&by_secret(), &signer.says(&json!({}))).await, Err(Denied::Invalid));
}

#[tokio::test]
async fn sets_that_are_none_are_refused() {
    for set in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA"}]}"#, r#"{"keys":[1,null]}"#] {
        assert!(runcast_auth::jwks::parse(set.as_bytes()).is_err(), "{set}");
    }
    let secret = json!({"keys": [Signer::Secret(SECRET.to_vec()).jwk("k")]}).to_string();
    assert!(runcast_auth::jwks::parse(secret.as_bytes()).is_err());
    let many = json!({"keys": vec![Signer::Rsa.jwk("k"); 65]}).to_string();
    assert!(runcast_auth::jwks::parse(many.as_bytes()).is_err());
}

/// Answers each request with what stands in the cell; `None` with 500.
/// A set of keys at an address, which is away while there is none.
#[derive(Default)]
struct Served {
    set: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl Served {
    async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = self.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                served.asked.fetch_add(1, Ordering::Relaxed);
                let (status, body) = match served.set.lock().unwrap().clone() {
                    Some(body) => ("200 OK", body),
                    None => ("500 Away", String::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        format!("http://{address}/jwks")
    }

    fn becomes(&self, set: Option<String>) {
        *self.set.lock().unwrap() = set;
    }

    /// What is said of a token once the set was asked for again, which is not done more often than so often.
    async fn verify(&self, verifier: &Verifier, token: &Token) -> Result<Grant, Denied> {
        let before = self.asked.load(Ordering::Relaxed);
        loop {
            let verdict = verify(verifier, token).await;
            if self.asked.load(Ordering::Relaxed) > before {
                return verdict;
            }
        }
    }
}

#[tokio::test]
async fn sets_rotate_and_stay_while_their_address_is_away() {
    let (old, new, never) = (Signer::ec(), Signer::ed(), Signer::ec());
    let of =
        |signer: &Signer, kid: &str| signer.token(&json!({"alg": signer.algorithm(), "kid": kid}), &good());
    let served = Arc::new(Served::default());
    let verifier = Verifier::open(&AuthConfig { jwks_url: served.start().await, ..config() }).unwrap();
    assert_eq!(verify(&verifier, &of(&old, "a")).await, Err(Denied::Unavailable));
    served.becomes(Some(json!({"keys": [old.jwk("a")]}).to_string()));
    assert!(served.verify(&verifier, &of(&old, "a")).await.is_ok());
    served.becomes(None);
    assert_eq!(served.verify(&verifier, &of(&new, "b")).await, Err(Denied::Invalid));
    assert!(verify(&verifier, &of(&old, "a")).await.is_ok());
    served.becomes(Some("{".repeat(300 << 10)));
    assert_eq!(served.verify(&verifier, &of(&new, "b")).await, Err(Denied::Invalid));
    served.becomes(Some(json!({"keys": [new.jwk("b")]}).to_string()));
    assert!(served.verify(&verifier, &of(&new, "b")).await.is_ok());
    assert_eq!(verify(&verifier, &of(&old, "a")).await, Err(Denied::Invalid));
    assert_eq!(verify(&verifier, &of(&never, "b")).await, Err(Denied::Invalid));
}

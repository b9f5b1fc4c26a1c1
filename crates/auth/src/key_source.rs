//! Where keys come from, and how they are kept up to date.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::AuthConfig;
use crate::jwks;
use crate::key::Key;

/// Largest set of keys, in bytes.
const MAX_SET: usize = 256 << 10;
/// How long fetching one may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A file is read anew so often at most.
const FILE_INTERVAL: Duration = Duration::from_secs(1);
/// A set from elsewhere is fetched anew after so long even if all names are known: keys are taken back, too.
const MAX_AGE: Duration = Duration::from_secs(300);

/// Keys. What cannot be had anew now is used as it was.
#[derive(Debug)]
pub(crate) struct KeySource {
    from: From,
    keys: RwLock<Arc<[Key]>>,
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum From {
    Fixed,
    File(PathBuf),
    Url { url: reqwest::Url, client: reqwest::Client, interval: Duration },
}

impl KeySource {
    pub(crate) fn open(config: &AuthConfig) -> anyhow::Result<Self> {
        let paths = [&config.secret_file, &config.public_key_file, &config.jwks_file];
        let given = paths.iter().filter(|path| !path.as_os_str().is_empty()).count();
        anyhow::ensure!(
            given + usize::from(!config.jwks_url.is_empty()) == 1,
            "auth.mode is jwt: set one of auth.secret_file, public_key_file, jwks_file and jwks_url"
        );
        let read = |name: &str, path: &PathBuf| {
            std::fs::read(path).map_err(|error| anyhow::anyhow!("auth.{name} {}: {error}", path.display()))
        };
        let bad = |name: &str, why: &str| anyhow::anyhow!("auth.{name} {why}");
        let (from, keys) = if !config.secret_file.as_os_str().is_empty() {
            let secret = read("secret_file", &config.secret_file)?;
            let key = Key::secret(secret.trim_ascii_end()).map_err(|why| bad("secret_file", why))?;
            (From::Fixed, vec![key])
        } else if !config.public_key_file.as_os_str().is_empty() {
            let pem = read("public_key_file", &config.public_key_file)?;
            (From::Fixed, vec![Key::pem(&pem).map_err(|why| bad("public_key_file", why))?])
        } else if !config.jwks_file.as_os_str().is_empty() {
            let set = read("jwks_file", &config.jwks_file)?;
            let keys = jwks::parse(&set).map_err(|why| bad("jwks_file", why))?;
            (From::File(config.jwks_file.clone()), keys)
        } else {
            let url = config.jwks_url.parse().map_err(|error| anyhow::anyhow!("auth.jwks_url: {error}"))?;
            // Another part of the program may have chosen one already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client =
                reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
            (From::Url { url, client: client.build()?, interval: config.jwks_interval }, Vec::new())
        };
        Ok(Self { from, keys: RwLock::new(keys.into()), asked: Mutex::default() })
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<[Key]> {
        // A panic while holding the lock leaves keys that are whole.
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has them anew if they are old, or if `wanting` one that is not there and it was not asked just now.
    pub(crate) async fn refresh(&self, wanting: bool) {
        let (interval, max_age) = match &self.from {
            From::Fixed => return,
            From::File(_) => (FILE_INTERVAL, FILE_INTERVAL),
            From::Url { interval, .. } => (*interval, MAX_AGE),
        };
        // One asks; the others wait for it only if they cannot do without.
        let wanting = wanting || self.keys().is_empty();
        let asked = if wanting { Some(self.asked.lock().await) } else { self.asked.try_lock().ok() };
        let Some(mut asked) = asked else { return };
        let enough = if wanting { interval } else { max_age };
        if asked.is_some_and(|at| at.elapsed() < enough) {
            return;
        }
        *asked = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into(),
            Err(error) => tracing::warn!(%error, "cannot have the keys of tokens anew; those at hand stay"),
        }
    }

    async fn fetch(&self) -> anyhow::Result<Vec<Key>> {
        let bytes = match &self.from {
            From::Fixed => return Ok(self.keys().to_vec()),
            From::File(path) => tokio::fs::read(path).await?,
            From::Url { url, client, .. } => {
                let mut response = client.get(url.clone()).send().await?.error_for_status()?;
                let mut bytes = Vec::new();
                while let Some(chunk) = response.chunk().await? {
                    anyhow::ensure!(bytes.len() + chunk.len() <= MAX_SET, "more than {MAX_SET} bytes");
                    bytes.extend_from_slice(&chunk);
                }
                bytes
            }
        };
        anyhow::ensure!(bytes.len() <= MAX_SET, "more than {MAX_SET} bytes");
        jwks::parse(&bytes).map_err(|why| anyhow::anyhow!("the set {why}"))
    }
}

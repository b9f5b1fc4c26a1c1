//! A password in a file, read at each connection: who changes the file needs to restart nobody.

use std::path::PathBuf;

use async_trait::async_trait;
use fred::error::{Error, ErrorKind};
use fred::types::config::{CredentialProvider, Server};

use crate::BusError;

/// The user, and the file with its password. Newlines at the end are none of the password's.
#[derive(Debug)]
pub(crate) struct PasswordFile {
    username: Option<String>,
    path: PathBuf,
}

impl PasswordFile {
    /// Takes the file if it can be read now: a wrong path is said at once, not at each connection.
    pub(crate) fn open(username: Option<String>, path: &str) -> Result<Self, BusError> {
        let file = Self { username, path: path.into() };
        file.read()?;
        Ok(file)
    }

    /// The password as it is now.
    pub(crate) fn read(&self) -> Result<String, BusError> {
        let text = std::fs::read_to_string(&self.path);
        let failed = |error| BusError::Config(format!("redis.password_file {:?}: {error}", self.path));
        Ok(trimmed(&text.map_err(failed)?))
    }
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).to_owned()
}

#[async_trait]
impl CredentialProvider for PasswordFile {
    async fn fetch(&self, _: Option<&Server>) -> Result<(Option<String>, Option<String>), Error> {
        let text = tokio::fs::read_to_string(&self.path).await.map_err(|error| {
            // As if the password were wrong: it is tried again with the next connection.
            Error::new(ErrorKind::Auth, format!("redis.password_file {}: {error}", self.path.display()))
        })?;
        Ok((self.username.clone(), Some(trimmed(&text))))
    }
}

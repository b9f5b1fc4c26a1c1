//! Object storage: a folder, S3, Google Cloud Storage or Azure, by its address.

use std::fs::DirBuilder;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use reqwest::Url;

use super::ArchiveError;
use super::checksum::{Hasher, Sha256};

/// How an address looks.
const FORMS: &str = "write file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

/// Objects below a root.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    /// Where a local store's files are, temporary ones among them, which it does not show.
    folder: Option<PathBuf>,
}

impl Store {
    /// Opens the store at `url`. A folder is made if it is missing; other stores are not asked yet.
    pub(crate) fn open(url: &str) -> Result<Self, ArchiveError> {
        let parsed = Url::parse(url).map_err(|error| {
            ArchiveError::Config(format!("archive.url {url:?} is no address ({error}): {FORMS}"))
        })?;
        if parsed.scheme() == "file" {
            return Self::local(url, &parsed);
        }
        // The HTTP client was built without a TLS provider, so that there is one for the whole process. Who
        // was first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry =
            RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
        let objects: Result<Arc<dyn ObjectStore>, _> = match parsed.scheme() {
            "s3" => {
                AmazonS3Builder::from_env().with_url(url).with_retry(retry).build().map(|s| Arc::new(s) as _)
            }
            "gs" => GoogleCloudStorageBuilder::from_env()
                .with_url(url)
                .with_retry(retry)
                .build()
                .map(|s| Arc::new(s) as _),
            "az" => MicrosoftAzureBuilder::from_env()
                .with_url(url)
                .with_retry(retry)
                .build()
                .map(|s| Arc::new(s) as _),
            other => {
                return Err(ArchiveError::Config(format!(
                    "archive.url {url:?} has the unknown scheme {other:?}: {FORMS}"
                )));
            }
        };
        let objects = objects.map_err(|error| {
            ArchiveError::Config(format!(
                "archive.url {url:?} cannot be used ({error}): {FORMS}, with credentials in the environment"
            ))
        })?;
        let root = Path::from_url_path(parsed.path()).map_err(|error| {
            ArchiveError::Config(format!("archive.url {url:?} has no usable path: {error}"))
        })?;
        Ok(Self { objects, root, folder: None })
    }

    fn local(url: &str, parsed: &Url) -> Result<Self, ArchiveError> {
        let folder = parsed.to_file_path().map_err(|()| {
            ArchiveError::Config(format!(
                "archive.url {url:?} names no absolute folder: write file:///folder"
            ))
        })?;
        let failed = |error: &dyn std::fmt::Display| {
            let folder = folder.display();
            ArchiveError::Config(format!(
                "archive.url {url:?}: the folder {folder} cannot be made or used ({error}): \
                 choose one that this user may write to"
            ))
        };
        // What agents said is for this user alone; a folder that was there keeps its mode.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| failed(&error))?;
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|error| failed(&error))?;
        // What Redis is told to forget must survive a power cut here.
        let objects = objects.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { objects: Arc::new(objects), root: Path::default(), folder: Some(folder) })
    }

    /// Below which all objects are.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes an object, over what may be there.
    pub(crate) async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), ArchiveError> {
        let put = self.objects.put(path, PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(|error| ArchiveError::store("write", path, error))
    }

    /// Writes an object unless there is one; whether it was written. All others see all of it or nothing.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, ArchiveError> {
        match self.objects.put_opts(path, PutPayload::from_bytes(bytes), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(ArchiveError::store("create", path, error)),
        }
    }

    /// An object, as a whole.
    pub(crate) async fn get(&self, path: &Path) -> Result<Bytes, ArchiveError> {
        let failed = |error| ArchiveError::store("read", path, error);
        self.objects.get(path).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// A part of an object.
    pub(crate) async fn range(&self, path: &Path, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let bytes = self.objects.get_range(path, range.clone()).await;
        let bytes = bytes.map_err(|error| ArchiveError::store("read", path, error))?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(ArchiveError::Damaged(format!("{path} ends before byte {}", range.end)));
        }
        Ok(bytes)
    }

    /// Reads an object, without keeping it: its length and checksum.
    pub(crate) async fn checksum(&self, path: &Path) -> Result<(u64, Sha256), ArchiveError> {
        let failed = |error| ArchiveError::store("read", path, error);
        let mut stream = self.objects.get(path).await.map_err(failed)?.into_stream();
        let (mut hasher, mut length) = (Hasher::default(), 0);
        while let Some(bytes) = stream.try_next().await.map_err(failed)? {
            length += bytes.len() as u64;
            hasher.update(&bytes);
        }
        Ok((length, hasher.finish()))
    }

    /// All objects below `prefix`, in order of their paths.
    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, ArchiveError> {
        let found: Result<Vec<_>, _> = self.objects.list(Some(prefix)).try_collect().await;
        let mut found = found.map_err(|error| ArchiveError::store("list", prefix, error))?;
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// The objects below `prefix` whose paths come after `offset`, in order.
    pub(crate) async fn list_after(
        &self,
        prefix: &Path,
        offset: &Path,
    ) -> Result<Vec<ObjectMeta>, ArchiveError> {
        let found: Result<Vec<_>, _> =
            self.objects.list_with_offset(Some(prefix), offset).try_collect().await;
        let mut found = found.map_err(|error| ArchiveError::store("list", prefix, error))?;
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Names of the folders right below `prefix`.
    pub(crate) async fn folders(&self, prefix: &Path) -> Result<Vec<String>, ArchiveError> {
        let found = self.objects.list_with_delimiter(Some(prefix)).await;
        let found = found.map_err(|error| ArchiveError::store("list", prefix, error))?.common_prefixes;
        Ok(found.iter().filter_map(|path| Some(path.filename()?.to_owned())).collect())
    }

    /// Deletes an object, if it is there.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), ArchiveError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(ArchiveError::store("delete", path, error)),
        }
    }

    /// Where the files of `path` are, if this is a folder.
    pub(crate) fn folder_of(&self, path: &Path) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(path.parts().fold(folder.clone(), |folder, part| folder.join(part.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_names_the_key_and_the_fix() {
        for url in
            ["/var/lib/archive", "archive", "ftp://host/x", "file://relative/folder", "file:///proc/no"]
        {
            let error = Store::open(url).unwrap_err().to_string();
            assert!(error.contains("archive.url") && error.contains(url), "{error}");
            assert!(error.contains("file:///folder") || error.contains("choose"), "{error}");
        }
    }

    #[test]
    fn a_folder_that_is_made_is_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let url = Url::from_directory_path(&folder).unwrap();
        Store::open(url.as_str()).unwrap();
        for made in [&folder, folder.parent().unwrap()] {
            assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}

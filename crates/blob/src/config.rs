//! Where the bucket is: the `storage` section of a config.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore};
use serde::{Deserialize, Serialize};

use crate::{Blob, BlobError};

/// The object store to use. Credentials that are not given come from the environment (and, on a cloud's
/// machines, from its metadata service), as each cloud's own tools take them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "backend", rename_all = "lowercase")]
pub enum BlobConfig {
    /// A folder.
    Local(LocalConfig),
    /// Amazon S3 or a store that speaks its protocol.
    S3(S3Config),
    /// Google Cloud Storage.
    Gcs(GcsConfig),
    /// Azure Blob Storage.
    Azure(AzureConfig),
    /// Memory: gone with the process.
    Memory,
}

impl Default for BlobConfig {
    fn default() -> Self {
        Self::Local(LocalConfig::default())
    }
}

/// A folder on the local disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// The folder; made if missing.
    pub dir: PathBuf,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { dir: "data/blocks".into() }
    }
}

/// S3.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// The bucket's name.
    pub bucket: String,
    /// All objects go under this prefix.
    pub prefix: String,
    /// The region; `AWS_REGION` if empty.
    pub region: Option<String>,
    /// The endpoint of a store other than Amazon's, as a URL.
    pub endpoint: Option<String>,
    /// The access key's id.
    pub access_key_id: Option<String>,
    /// The access key's secret.
    #[serde(skip_serializing)]
    pub secret_access_key: Option<String>,
    /// Allow `http://` endpoints.
    pub allow_http: bool,
    /// `https://bucket.endpoint/` instead of `https://endpoint/bucket/`.
    pub virtual_hosted_style: bool,
}

/// Google Cloud Storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GcsConfig {
    /// The bucket's name.
    pub bucket: String,
    /// All objects go under this prefix.
    pub prefix: String,
    /// The file with the service account's key.
    pub service_account_path: Option<PathBuf>,
}

/// Azure Blob Storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureConfig {
    /// The storage account.
    pub account: String,
    /// The container's name.
    pub container: String,
    /// All objects go under this prefix.
    pub prefix: String,
    /// The account's access key.
    #[serde(skip_serializing)]
    pub access_key: Option<String>,
    /// The endpoint of a store other than Microsoft's, as a URL.
    pub endpoint: Option<String>,
    /// Allow `http://` endpoints.
    pub allow_http: bool,
}

impl Blob {
    /// Opens the configured bucket. Connects to nothing yet.
    pub fn from_config(config: &BlobConfig) -> Result<Self, BlobError> {
        match config {
            BlobConfig::Local(local) => Self::local(&local.dir),
            BlobConfig::Memory => Ok(Self::memory()),
            BlobConfig::S3(s3) => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_bucket_name(&s3.bucket)
                    .with_virtual_hosted_style_request(s3.virtual_hosted_style)
                    .with_conditional_put(S3ConditionalPut::ETagMatch)
                    .with_client_options(options(s3.allow_http, s3.endpoint.as_deref()));
                if let Some(region) = &s3.region {
                    builder = builder.with_region(region);
                }
                if let Some(endpoint) = &s3.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some(id) = &s3.access_key_id {
                    builder = builder.with_access_key_id(id);
                }
                if let Some(secret) = &s3.secret_access_key {
                    builder = builder.with_secret_access_key(secret);
                }
                under(builder.build(), &format!("s3://{}", s3.bucket), &s3.prefix)
            }
            BlobConfig::Gcs(gcs) => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&gcs.bucket);
                if let Some(path) = &gcs.service_account_path {
                    builder = builder.with_service_account_path(path.display().to_string());
                }
                under(builder.build(), &format!("gs://{}", gcs.bucket), &gcs.prefix)
            }
            BlobConfig::Azure(azure) => {
                let mut builder = MicrosoftAzureBuilder::from_env()
                    .with_account(&azure.account)
                    .with_container_name(&azure.container)
                    .with_client_options(options(azure.allow_http, azure.endpoint.as_deref()));
                if let Some(key) = &azure.access_key {
                    builder = builder.with_access_key(key);
                }
                if let Some(endpoint) = &azure.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                under(builder.build(), &format!("az://{}", azure.container), &azure.prefix)
            }
        }
    }
}

/// A store that is asked in plain text needs no CA certificates, which an image may not have.
fn options(allow_http: bool, endpoint: Option<&str>) -> ClientOptions {
    let is_plain = allow_http && endpoint.is_some_and(|url| url.starts_with("http://"));
    ClientOptions::new().with_allow_http(allow_http).with_no_system_certificates(is_plain)
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn under<S: ObjectStore>(
    built: Result<S, object_store::Error>,
    bucket: &str,
    prefix: &str,
) -> Result<Blob, BlobError> {
    let wrong = |reason: String| BlobError::Config { bucket: bucket.to_owned(), reason };
    let store = built.map_err(|e| wrong(chain(&e)))?;
    if prefix.trim_matches('/').is_empty() {
        return Ok(Blob::from_store(Arc::new(store), bucket));
    }
    let prefix = object_store::path::Path::parse(prefix).map_err(|e| wrong(e.to_string()))?;
    let name = format!("{bucket}/{prefix}");
    Ok(Blob::from_store(Arc::new(PrefixStore::new(store, prefix)), &name))
}

//! Which of the stores a Loki file configures is meant: `schema_config` names one, and the newer `object_store` blocks describe them by
//! other names than the older ones.

use std::mem::discriminant;

use blob::{AzureConfig, BlobConfig, GcsConfig, LocalConfig, S3Config};
use serde::{Deserialize, Serialize};
use service::config::{Problems, Secret, Unneeded};

/// Loki's `schema_config`: a list of periods, of which only the store of the last matters here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchemaConfig {
    /// The periods, the newest last.
    pub configs: Vec<Period>,
}

/// A period of a schema.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Period {
    /// The store: `filesystem`, `s3`, `aws`, `gcs`, `azure`.
    pub object_store: String,
}

impl SchemaConfig {
    /// The store that holds what comes now; `None` if none is named.
    pub fn object_store(&self) -> Option<&str> {
        self.configs.last().map(|period| period.object_store.as_str()).filter(|name| !name.is_empty())
    }

    /// Whether one of the configured buckets is the one that is named: data must never go elsewhere in silence.
    pub fn check(&self, buckets: &[BlobConfig], problems: &mut Problems) {
        let Some(name) = self.object_store() else { return };
        let path = format!("schema_config.configs[{}].object_store", self.configs.len() - 1);
        let wanted = match name {
            "filesystem" => return,
            "s3" | "aws" | "s3-dynamo" | "aws-dynamo" => BlobConfig::S3(S3Config::default()),
            "gcs" => BlobConfig::Gcs(GcsConfig::default()),
            "azure" => BlobConfig::Azure(AzureConfig::default()),
            other => {
                return problems
                    .add(path, format!("`{other}` is no store we know: use filesystem, s3, gcs or azure"));
            }
        };
        if !buckets.iter().any(|bucket| discriminant(bucket) == discriminant(&wanted)) {
            problems.add(
                path,
                format!("`{name}` is not configured: describe it under storage_config or common.storage"),
            );
        }
    }
}

/// Loki's `object_store`, which holds with `use_thanos_objstore`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosConfig {
    /// Amazon S3 and what speaks its protocol.
    pub s3: ThanosS3,
    /// Google Cloud Storage.
    pub gcs: ThanosGcs,
    /// Azure Blob Storage.
    pub azure: ThanosAzure,
    /// A local folder.
    pub filesystem: ThanosFilesystem,
    /// All objects go under this prefix.
    pub storage_prefix: String,
}

/// S3 by its newer keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosS3 {
    /// The bucket.
    pub bucket_name: String,
    /// The endpoint, without a scheme.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// The access key's id; without one the environment's credentials are used.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: Secret,
    /// Use `http://`.
    pub insecure: bool,
}

/// GCS by its newer keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosGcs {
    /// The bucket.
    pub bucket_name: String,
}

/// Azure by its newer keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosAzure {
    /// The storage account.
    pub account_name: String,
    /// Its key.
    pub account_key: Secret,
    /// The container.
    pub container_name: String,
    /// The suffix of another cloud's endpoint.
    pub endpoint_suffix: String,
}

/// A local folder by its newer key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosFilesystem {
    /// The folder.
    pub dir: String,
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl ThanosConfig {
    /// The bucket that is configured here, if one is.
    pub fn blob(&self) -> Option<BlobConfig> {
        let prefix = self.storage_prefix.clone();
        let (s3, azure) = (&self.s3, &self.azure);
        if !s3.bucket_name.is_empty() {
            let scheme = if s3.insecure { "http" } else { "https" };
            let endpoint = some(&s3.endpoint).map(|host| match host.contains("://") {
                true => host,
                false => format!("{scheme}://{host}"),
            });
            return Some(BlobConfig::S3(S3Config {
                bucket: s3.bucket_name.clone(),
                prefix,
                region: some(&s3.region),
                access_key_id: some(&s3.access_key_id),
                secret_access_key: some(s3.secret_access_key.reveal()),
                allow_http: endpoint.as_ref().is_some_and(|e| e.starts_with("http://")),
                // Amazon's own endpoint serves buckets by their host names.
                virtual_hosted_style: endpoint.as_ref().is_none_or(|e| e.contains("amazonaws.com")),
                endpoint: endpoint.filter(|e| !e.contains("amazonaws.com")),
            }));
        }
        if !self.gcs.bucket_name.is_empty() {
            return Some(BlobConfig::Gcs(GcsConfig {
                bucket: self.gcs.bucket_name.clone(),
                prefix,
                ..GcsConfig::default()
            }));
        }
        if !azure.container_name.is_empty() {
            return Some(BlobConfig::Azure(AzureConfig {
                account: azure.account_name.clone(),
                container: azure.container_name.clone(),
                prefix,
                access_key: some(azure.account_key.reveal()),
                endpoint: some(&azure.endpoint_suffix)
                    .map(|suffix| format!("https://{}.{suffix}", azure.account_name)),
                allow_http: false,
            }));
        }
        let dir = some(&self.filesystem.dir)?;
        Some(BlobConfig::Local(LocalConfig {
            dir: std::path::Path::new(&dir).join("timberline").join("blocks"),
        }))
    }

    /// Checks what types cannot.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let named = [
            ("s3", &self.s3.bucket_name),
            ("gcs", &self.gcs.bucket_name),
            ("azure", &self.azure.container_name),
        ];
        let named: Vec<&str> = named.into_iter().filter(|(_, n)| !n.is_empty()).map(|(key, _)| key).collect();
        if named.len() > 1 {
            problems.add(path, format!("only one store can be used, not {}", named.join(" and ")));
        }
    }

    /// Keys that mean nothing here.
    pub fn unneeded() -> Unneeded {
        Unneeded::new(&[
            "alibaba",
            "bos",
            "cos",
            "swift",
            "named_stores",
            "s3.signature_version",
            "s3.storage_class",
            "s3.session_token",
            "s3.sse",
            "s3.http",
            "s3.native_aws_auth_enabled",
            "s3.dualstack_enabled",
            "s3.part_size",
            "s3.send_content_md5",
            "s3.list_objects_version",
            "s3.bucket_lookup_type",
            "s3.sts_endpoint",
            "s3.max_retries",
            "s3.trace",
            "gcs.service_account",
            "gcs.chunk_buffer_size",
            "gcs.max_retries",
            "gcs.http",
            "azure.connection_string",
            "azure.user_assigned_id",
            "azure.az_tenant_id",
            "azure.client_id",
            "azure.client_secret",
            "azure.max_retries",
            "azure.http",
        ])
    }
}

//! Whose data a request is about.

use http::HeaderMap;
use model::{TenantError, TenantId};
use service::Failure;
use tonic::metadata::MetadataMap;

/// Header and metadata key with the tenant.
const KEY: &str = "x-scope-orgid";

/// Whether requests name their tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenancy {
    /// `multitenancy_enabled`
    pub is_on: bool,
}

/// The tenant of everything when there is only one.
pub(crate) fn single() -> TenantId {
    TenantId::parse("single-tenant").expect("it has only letters and a dash")
}

fn text(headers: &HeaderMap) -> &str {
    headers.get(KEY).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn metadata_text(metadata: &MetadataMap) -> &str {
    metadata.get(KEY).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

impl Tenancy {
    fn read(self, text: &str) -> Result<Vec<TenantId>, TenantError> {
        if self.is_on { TenantId::parse_many(text) } else { Ok(vec![single()]) }
    }

    fn write(self, text: &str) -> Result<TenantId, Failure> {
        if !self.is_on {
            return Ok(single());
        }
        TenantId::parse(text).map_err(|error| match error {
            TenantError::Missing => Failure::unavailable(error.to_string(), None),
            other => Failure::invalid(other.to_string()),
        })
    }

    /// The tenants that an HTTP query is about.
    pub(crate) fn readers(self, headers: &HeaderMap) -> Result<Vec<TenantId>, Failure> {
        self.read(text(headers)).map_err(|error| match error {
            TenantError::Missing => Failure::unauthenticated(error.to_string()),
            other => Failure::invalid(other.to_string()),
        })
    }

    /// The tenants that a gRPC query is about.
    pub(crate) fn grpc_readers(self, metadata: &MetadataMap) -> Result<Vec<TenantId>, tonic::Status> {
        self.read(metadata_text(metadata)).map_err(|error| match error {
            TenantError::Missing => tonic::Status::unknown(error.to_string()),
            other => tonic::Status::invalid_argument(other.to_string()),
        })
    }

    /// The tenant that a push is for; gRPC metadata are headers too.
    pub(crate) fn writer(self, headers: &HeaderMap) -> Result<TenantId, Failure> {
        self.write(text(headers))
    }
}

//! Object store access: conditional put, ranged get, listing.
//!
//! [`Blob`] is a thin, cheap handle over `object_store` with the promises the storage engine builds on:
//! a put is durable when it returns (the local folder is fsynced, file and directory), a missing object is `None` and
//! not an error, and a conditional put says who won. On S3 a conflict can be reported though nothing was
//! written, or because an earlier try of the same request had won: whoever gets [`PutOutcome::Exists`] must read
//! the object and look for a mark of its own in it.

mod config;
pub mod sim;
mod store;
mod sweep;
mod upload;

pub use config::{AzureConfig, BlobConfig, GcsConfig, LocalConfig, S3Config};
pub use store::{Blob, BlobError, ObjectInfo, PutOutcome};
pub use upload::Upload;

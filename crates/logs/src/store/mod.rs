//! How logs are stored: rows of the ingest log, the head, blocks with their index.

pub mod codec;
pub mod entries;
pub mod head;
pub mod index;
pub mod intervals;
pub mod ledger;
pub mod merge;
mod needles;
pub mod origins;
pub(crate) mod plan;
pub mod record;
pub mod rows;
pub mod schema;
pub mod seal;
pub mod signal;

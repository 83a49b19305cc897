//! Files that survive a crash: the segmented log with group commit, atomic files, documents in two
//! generations. The only code that writes files.
//!
//! Every file operation goes through [`Files`], so that tests can tear any write, fail any fsync
//! and crash at any byte ([`sim::SimFiles`]); production code passes [`OsFiles`].

pub mod atomic;
mod document;
mod durable;
mod files;
mod log;
mod reader;
mod recovery;
mod segment;
pub mod sim;

pub use document::{Document, Reading};
pub use durable::Durable;
pub use files::{Files, OsFiles, WriteFile};
pub use log::{Log, LogError, LogOptions};
pub use reader::LogReader;
pub use recovery::{Recovery, RecoveryCounts};

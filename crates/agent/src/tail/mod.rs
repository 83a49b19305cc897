//! Reading files that grow: one thread reads all of them in turn, woken by the system where it tells of changes.

mod archive;
mod changes;
mod closed;
mod content;
mod copies;
mod docker_json;
mod encoding;
mod file;
mod find;
mod followed;
mod heads;
mod leaving;
mod poller;
mod reading;
mod rotated;
mod schedule;
mod seek;
#[cfg(test)]
mod tests;
mod truncated;
mod watch;

pub use archive::{DecompressionConfig, Format};
pub(crate) use content::open_regular;
pub use content::{Content, Identified};
pub use encoding::Encoding;
pub use file::{Chunk, FileTail, How, Line, Stream};
pub(crate) use followed::StreamLabels;
pub(crate) use poller::{Command, Poller, PollerOptions, Reading};

//! Reading files that grow: one thread looks at all of them in turn.

mod docker_json;
mod file;
mod poller;

pub use file::{FileTail, Line, Stream};
pub(crate) use poller::{Command, Poller, PollerOptions, StreamLabels};

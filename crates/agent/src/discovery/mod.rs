//! Discovery: which files and containers are read, and under which labels.

mod docker;
mod static_files;

pub(crate) use docker::{DockerDiscovery, DockerJob};
pub(crate) use static_files::StaticTarget;

//! Discovery: which files and containers are read, and under which labels.

mod announce;
mod container;
mod container_labels;
mod docker;
mod docker_config;
mod engine;
mod file_sd;
mod files;
mod frames;
mod glob;
mod kubernetes;
mod newcomers;
mod numbering;
#[cfg(test)]
mod tests;

pub(crate) use announce::Announce;
pub(crate) use docker::{DockerDiscovery, DockerJob};
pub use docker_config::{DockerFilter, DockerSdConfig, HttpHeader};
pub(crate) use file_sd::FileDiscovery;
pub use file_sd::FileSdConfig;
pub(crate) use files::{FileJob, FileTarget, Matched, NotRead, group, hostname};
pub(crate) use glob::Glob;
pub(crate) use kubernetes::KubernetesDiscovery;
pub use kubernetes::KubernetesSdConfig;

/// Every character that a label name may not have becomes an underscore.
pub(crate) fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

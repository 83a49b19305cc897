//! What a binary knows about itself: its name, version and the commit it was built from.

/// Name, version and commit of a binary. Make it with [`crate::program!`], as a `static`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Binary name, such as `timberline-logs`; also the `service.name` of its own telemetry.
    pub name: &'static str,
    /// Semantic version of the crate.
    pub version: &'static str,
    /// Commit hash, when the build was told it through `TIMBERLINE_COMMIT`.
    pub commit: Option<&'static str>,
}

impl Program {
    /// `timberline-logs 0.1.0 (1a2b3c4)`, as `--version` prints it.
    pub fn describe(&self) -> String {
        match self.commit {
            Some(commit) => format!("{} {} ({commit})", self.name, self.version),
            None => format!("{} {}", self.name, self.version),
        }
    }
}

/// Builds a [`Program`] from the calling crate's own version.
///
/// `service::program!("timberline-logs")`
#[macro_export]
macro_rules! program {
    ($name:expr) => {
        $crate::Program {
            name: $name,
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("TIMBERLINE_COMMIT"),
        }
    };
}

/// What Grafana reads from the build-info routes. It decides features by `version`, so the stores report the version of
/// the product whose interface they speak (`3.…`), not their own; ours goes into `revision`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// Version of the interface, for example `3.7.0`.
    pub version: String,
    /// Our own name, version and commit.
    pub revision: String,
    /// Always empty.
    pub branch: String,
    /// Always empty.
    pub build_user: String,
    /// Always empty.
    pub build_date: String,
    /// Toolchain; a Rust one here.
    pub go_version: String,
}

impl BuildInfo {
    /// Build info of `program` speaking version `interface` of the product it replaces.
    pub fn new(program: &Program, interface: &str) -> BuildInfo {
        BuildInfo {
            version: interface.to_owned(),
            revision: program.describe(),
            branch: String::new(),
            build_user: String::new(),
            build_date: String::new(),
            go_version: "rust".to_owned(),
        }
    }
}

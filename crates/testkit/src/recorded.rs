//! Answers recorded from the products that Timberline stands in for.
//!
//! They stand beside the project, not in it, so a test without them says so and passes.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    // This crate is at `crates/testkit`.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The path of a recorded file or folder (`go.json`, `logs/cases.json`); `None`, and a word about it, if
/// it is not there.
pub fn path(name: &str) -> Option<PathBuf> {
    let path = workspace().join("../shared/conformance").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no recorded answers at {}", path.display());
    None
}

/// A recorded file as text.
///
/// # Panics
/// If the file is there but cannot be read.
pub fn text(name: &str) -> Option<String> {
    let path = path(name)?;
    let text = std::fs::read_to_string(&path);
    Some(text.unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display())))
}

/// A recorded JSON file as whatever it is decoded into.
///
/// # Panics
/// If the file is there but cannot be read or decoded.
pub fn json<T: DeserializeOwned>(name: &str) -> Option<T> {
    let value = serde_json::from_str(&text(name)?);
    Some(value.unwrap_or_else(|error| panic!("cannot decode the recorded {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_workspace() {
        assert!(workspace().join("Cargo.lock").exists());
        assert!(json::<serde_json::Value>("no such file.json").is_none());
    }
}

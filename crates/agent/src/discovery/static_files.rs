//! `static_configs`: files by glob.

use std::path::PathBuf;

use model::LabelsBuilder;

use crate::config::StaticConfig;
use crate::relabel::{Relabel, TargetLabels, relabel, visible};

/// Files of one `static_configs` entry.
#[derive(Debug, Clone)]
pub(crate) struct StaticTarget {
    /// Index of the job.
    pub job: usize,
    /// Labels of its lines, without `filename`.
    pub labels: LabelsBuilder,
    /// Whether the files hold Docker's JSON records.
    pub docker: bool,
    globs: Vec<String>,
    exclude: Option<glob::Pattern>,
}

impl StaticTarget {
    /// Prepares a target. `Ok(None)` if relabelling drops it or it is another host's.
    pub(crate) fn new(
        job: usize,
        config: &StaticConfig,
        rules: &[Relabel],
        docker: bool,
    ) -> Result<Option<Self>, String> {
        let labels: TargetLabels = config.labels.clone();
        let Some(labels) = relabel(rules, labels) else { return Ok(None) };
        let Some(path) = labels.get("__path__") else {
            return Err("labels: __path__ is missing: which files are to be read?".to_owned());
        };
        if labels.get("__host__").is_some_and(|host| *host != hostname()) {
            return Ok(None);
        }
        let pattern =
            |text: &str| glob::Pattern::new(text).map_err(|e| format!("labels.__path__: '{text}': {e}"));
        let globs = alternatives(path);
        globs.iter().try_for_each(|p| pattern(p).map(drop))?;
        let exclude = labels.get("__path_exclude__").map(|p| pattern(p)).transpose()?;
        let mut builder = LabelsBuilder::default();
        visible(&labels).for_each(|(name, value)| {
            builder.set(name, value);
        });
        Ok(Some(Self { job, labels: builder, docker, globs, exclude }))
    }

    /// The files that match now.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let matching = self.globs.iter().filter_map(|glob| glob::glob(glob).ok()).flatten().flatten();
        let wanted = |path: &PathBuf| self.exclude.as_ref().is_none_or(|e| !e.matches_path(path));
        matching.filter(|path| wanted(path) && path.is_file()).collect()
    }
}

/// Writes out `{a,b}`, which our glob library does not know.
fn alternatives(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let Some((inside, after)) = rest.split_once('}') else { return vec![pattern.to_owned()] };
    inside.split(',').flat_map(|choice| alternatives(&format!("{before}{choice}{after}"))).collect()
}

fn hostname() -> String {
    let from_system = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    std::env::var("HOSTNAME").unwrap_or_else(|_| from_system()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_with_alternatives_and_exclusion() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.log", "b.txt", "c.log.gz", "d.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let path = |tail: &str| format!("{}/{tail}", folder.path().display());
        let labels =
            [("__path__", path("*.{log,txt}*")), ("__path_exclude__", path("*.gz")), ("job", "x".into())];
        let config = StaticConfig { targets: vec![], labels: labels.map(|(n, v)| (n.to_owned(), v)).into() };
        let target = StaticTarget::new(0, &config, &[], false).unwrap().unwrap();
        let names: Vec<_> = target.files().iter().map(|f| f.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.log", "b.txt"]);
        assert_eq!(target.labels.build().to_string(), "{job=\"x\"}");
        assert!(StaticTarget::new(0, &StaticConfig::default(), &[], false).is_err());
    }
}

//! Files by glob: what `static_configs`, `file_sd_configs` and `kubernetes_sd_configs` come to after relabelling.

use std::path::{Path, PathBuf};

use model::Labels;

use super::glob::Glob;
use crate::board::{Found, Notes, Target};
use crate::config::StaticConfig;
use crate::relabel::{Relabel, TargetLabels, trace};
use crate::targets::stream_labels;

/// Files of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileTarget {
    /// Index of the job.
    pub job: usize,
    /// Labels of its lines, without `filename`.
    pub labels: Labels,
    /// Whether the files hold Docker's JSON records.
    pub docker: bool,
    include: Glob,
    exclude: Option<Glob>,
}

/// Why labels are no target: Promtail's names for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRead {
    /// A rule said so.
    #[error("relabelling dropped it (relabel_configs[{0}])")]
    Dropped(usize),
    /// `__host__` names another host.
    #[error("its __host__ is another host")]
    WrongHost,
    /// Nothing says which files.
    #[error("its __path__ is missing: set one, by a label or by relabelling")]
    NoPath,
    /// A glob cannot be read.
    #[error("{0}")]
    Bad(String),
}

impl NotRead {
    /// The label of `targets_failed_total`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Dropped(_) => "dropped",
            Self::WrongHost => "wrong_host",
            Self::NoPath => "no_path",
            Self::Bad(_) => "error",
        }
    }
}

/// The job that targets are for.
#[derive(Debug, Clone)]
pub(crate) struct FileJob {
    /// Its index.
    pub job: usize,
    /// Its rules.
    pub rules: Vec<Relabel>,
    /// Whether its files hold Docker's JSON records.
    pub docker: bool,
    /// Where it is told what was found.
    pub notes: Notes,
}

impl FileJob {
    /// The target that discovered labels come to.
    pub(crate) fn target(&self, discovered: TargetLabels) -> Result<FileTarget, NotRead> {
        let labels = trace(&self.rules, discovered).map_err(NotRead::Dropped)?;
        if labels.get("__host__").is_some_and(|host| *host != hostname()) {
            return Err(NotRead::WrongHost);
        }
        let glob = |name: &str| {
            let pattern = labels.get(name).map(|pattern| Glob::parse(pattern).map(Glob::absolute));
            pattern.transpose().map_err(|problem| NotRead::Bad(format!("{name}: {problem}")))
        };
        let include = glob("__path__")?.ok_or(NotRead::NoPath)?;
        let exclude = glob("__path_exclude__")?;
        Ok(FileTarget {
            job: self.job,
            labels: stream_labels(&labels),
            docker: self.docker,
            include,
            exclude,
        })
    }

    /// The targets of a group; what is none of ours goes to `skip`.
    pub(crate) fn targets(
        &self,
        discovered: impl IntoIterator<Item = TargetLabels>,
        mut skip: impl FnMut(&NotRead),
    ) -> Vec<FileTarget> {
        let (mut targets, mut found) = (Vec::new(), Vec::new());
        for labels in discovered {
            let target = self.target(labels.clone());
            found.push(Found { discovered: labels, result: target.clone().map(Target::Files) });
            match target {
                // Several ports of a container, say, come to the same files.
                Ok(target) if targets.contains(&target) => {}
                Ok(target) => targets.push(target),
                Err(not_read) => skip(&not_read),
            }
        }
        self.notes.all(found);
        targets
    }
}

/// Whether a target has a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matched {
    /// It does.
    Included,
    /// Its `__path_exclude__` says no.
    Excluded,
    /// Its `__path__` does not name it.
    No,
}

impl FileTarget {
    /// Whether a file is one of these, going by its path.
    pub(crate) fn matched(&self, path: &std::path::Path) -> Matched {
        match self.include.matches(path) {
            false => Matched::No,
            true if self.exclude.as_ref().is_some_and(|exclude| exclude.matches(path)) => Matched::Excluded,
            true => Matched::Included,
        }
    }

    /// Whether it is a path of this target.
    pub(crate) fn wants(&self, path: &Path) -> bool {
        self.include.matches(path) && self.exclude.as_ref().is_none_or(|exclude| !exclude.matches(path))
    }

    /// Whether its `__path_exclude__` names a path, be that one of its own or not.
    pub(crate) fn excludes(&self, path: &Path) -> bool {
        self.exclude.as_ref().is_some_and(|exclude| exclude.matches(path))
    }

    /// Folders in which files may appear, as far as they exist.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.include.folders()
    }

    /// The files that match now.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let wanted = |path: &PathBuf| self.exclude.as_ref().is_none_or(|exclude| !exclude.matches(path));
        self.include.paths().filter(|path| wanted(path) && path.is_file()).collect()
    }
}

/// Labels of each target of a group: all have its labels, each its own `__address__`. Files are on this host, so a group that
/// names no target has the one target `localhost`.
pub(crate) fn group(config: &StaticConfig) -> Vec<TargetLabels> {
    let localhost = ["localhost".to_owned()];
    let addresses = if config.targets.is_empty() { &localhost[..] } else { &config.targets[..] };
    let labels = |address: &String| {
        let mut labels = config.labels.clone();
        labels.entry("__address__".to_owned()).or_insert_with(|| address.clone());
        labels
    };
    addresses.iter().map(labels).collect()
}

/// This host's name, as Promtail finds it.
pub(crate) fn hostname() -> String {
    let from_system = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    std::env::var("HOSTNAME").unwrap_or_else(|_| from_system()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(rules: serde_json::Value) -> FileJob {
        let rules: Vec<crate::relabel::RelabelConfig> = serde_json::from_value(rules).unwrap();
        let rules = rules.iter().map(|rule| Relabel::compile(rule).unwrap()).collect();
        FileJob { job: 0, rules, docker: false, notes: Notes::default() }
    }

    fn config(targets: &[&str], labels: &[(&str, &str)]) -> StaticConfig {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        StaticConfig { targets: targets.iter().map(|t| (*t).to_owned()).collect(), labels }
    }

    #[test]
    fn globs_with_alternatives_and_exclusion() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("deep/er.log")).unwrap();
        for name in ["a.log", "b.txt", "c.log.gz", "d.md", "deep/e.log"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let check = |path: &str, exclude: &str, want: &[&str]| {
            let at = |tail: &str| format!("{}/{tail}", folder.path().display());
            let config =
                config(&[], &[("__path__", &at(path)), ("__path_exclude__", &at(exclude)), ("job", "x")]);
            let targets = job(serde_json::json!([])).targets(group(&config), |why| panic!("{why}"));
            let [target] = &targets[..] else { panic!("{targets:?}") };
            assert_eq!(target.labels.to_string(), "{job=\"x\"}");
            let files = target.files();
            let names = files.iter().map(|f| f.strip_prefix(folder.path()).unwrap().to_string_lossy());
            assert_eq!(names.collect::<Vec<_>>(), want, "{path} without {exclude}");
        };
        check("*.{log,txt}*", "*.gz", &["a.log", "b.txt"]);
        check("**/*.log", "nothing", &["a.log", "deep/e.log"]);
        check("**/*.log", "deep/*", &["a.log"]);
        check("**", "*.{md,txt,gz}", &["a.log", "deep/e.log"]);
    }

    #[test]
    fn each_target_of_a_group_is_relabelled() {
        let rules = serde_json::json!([
            {"source_labels": ["__address__"], "regex": "b:.*", "action": "drop"},
            {"source_labels": ["__address__"], "regex": "(.*):.*", "target_label": "host"},
        ]);
        let config = config(&["a:1", "b:2", "a:3"], &[("__path__", "/l/*.log")]);
        let mut skipped = Vec::new();
        let targets = job(rules).targets(group(&config), |why| skipped.push(why.reason()));
        let labels: Vec<_> = targets.iter().map(|t| t.labels.to_string()).collect();
        assert_eq!((labels, skipped), (vec!["{host=\"a\"}".to_owned()], vec!["dropped"]));
    }

    #[test]
    fn what_is_no_target_says_why() {
        let check = |labels: &[(&str, &str)], want: &str| {
            let labels = group(&config(&[], labels)).remove(0);
            assert_eq!(job(serde_json::json!([])).target(labels).unwrap_err().reason(), want);
        };
        check(&[], "no_path");
        check(&[("__path__", "/l/{a")], "error");
        check(&[("__path__", "/l"), ("__path_exclude__", "/l/[a")], "error");
        check(&[("__path__", "/l"), ("__host__", "certainly-not-this-one")], "wrong_host");
    }

    #[test]
    fn the_tenant_stays() {
        let labels = group(&config(&[], &[("__path__", "/l"), ("__tenant_id__", "t1"), ("__meta_x", "y")]));
        let target = job(serde_json::json!([])).target(labels[0].clone()).unwrap();
        assert_eq!(target.labels.to_string(), "{__tenant_id__=\"t1\"}");
    }
}

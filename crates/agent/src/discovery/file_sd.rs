//! `file_sd_configs`: targets that other programs write into JSON and YAML files, looked at again whenever these change.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use service::CancellationToken;
use service::config::Problems;

use super::announce::Announce;
use super::files::{FileJob, FileTarget, group};
use super::glob::Glob;
use crate::config::StaticConfig;
use crate::targets::TargetMetrics;

/// One of `file_sd_configs`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct FileSdConfig {
    /// Globs that end in `.json`, `.yml` or `.yaml`. The files hold lists of `{targets, labels}`.
    pub files: Vec<String>,
    /// How often all files are read again, whether they seem to have changed or not.
    pub refresh_interval: service::config::Duration,
}

impl Default for FileSdConfig {
    fn default() -> Self {
        Self { files: Vec::new(), refresh_interval: service::config::Duration::from_secs(300) }
    }
}

impl FileSdConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        if self.files.is_empty() {
            problems.add(format!("{path}.files"), "must name at least one file, or a glob");
        }
        for (i, file) in self.files.iter().enumerate() {
            let path = format!("{path}.files[{i}]");
            if Format::of(Path::new(file)).is_none() {
                problems.add(&path, format!("'{file}' must end in .json, .yml or .yaml"));
            }
            if let Err(problem) = Glob::parse(file) {
                problems.add(&path, problem);
            }
        }
        if self.refresh_interval.is_zero() {
            problems.add(format!("{path}.refresh_interval"), "must not be 0");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "yml" | "yaml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// The content of a YAML file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
struct Groups(Vec<StaticConfig>);

impl service::config::Config for Groups {}

/// Strictly one group: a misspelt key is an error, as it is in YAML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonGroup {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Largest file read.
const MAX_BYTES: u64 = 16 << 20;

/// Reads the groups of one file.
fn read(path: &Path) -> Result<Vec<StaticConfig>> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_BYTES {
        bail!("it has {size} bytes, {MAX_BYTES} are read: write several files");
    }
    let text = std::fs::read_to_string(path)?;
    match Format::of(path).context("it must end in .json, .yml or .yaml")? {
        Format::Json => {
            let groups: Vec<JsonGroup> = serde_json::from_str(&text)?;
            Ok(groups.into_iter().map(|g| StaticConfig { targets: g.targets, labels: g.labels }).collect())
        }
        Format::Yaml => Ok(service::config::from_text::<Groups>(&text)?.config.0),
    }
}

/// What tells that a file was written again: inode, size, time of change.
type Version = (u64, u64, i64, i64);

fn version(path: &Path) -> Option<Version> {
    let m = std::fs::metadata(path).ok()?;
    Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
}

/// Follows the files of one `file_sd_configs` entry. [`run`](Self::run) is its one task.
pub(crate) struct FileDiscovery {
    job: FileJob,
    globs: Vec<Glob>,
    refresh: Duration,
    announce: Announce,
    metrics: TargetMetrics,
    /// What each file said when it was last read well.
    known: BTreeMap<PathBuf, Known>,
}

struct Known {
    version: Option<Version>,
    groups: Vec<StaticConfig>,
}

impl FileDiscovery {
    /// How often files are asked whether they have changed. That is a `stat`: cheaper and more reliable than being told.
    const LOOK: Duration = Duration::from_millis(500);

    /// Prepares a discovery whose configuration was checked.
    pub(crate) fn new(
        job: FileJob,
        config: &FileSdConfig,
        announce: Announce,
        metrics: TargetMetrics,
    ) -> Result<Self, String> {
        let globs = config.files.iter().map(|file| Glob::parse(file)).collect::<Result<_, _>>()?;
        let refresh = config.refresh_interval.get();
        Ok(Self { job, globs, refresh, announce, metrics, known: BTreeMap::new() })
    }

    /// Announces targets until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let (mut announced, mut read_at) = (None, Instant::now());
        loop {
            let again = read_at.elapsed() >= self.refresh;
            if again {
                read_at = Instant::now();
            }
            if self.look(again) || announced.is_none() {
                let targets = self.targets();
                if announced.as_ref() != Some(&targets) && self.announce.targets(targets.clone(), &stop).await
                {
                    announced = Some(targets);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Self::LOOK) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Reads files that are new or have changed (with `again`, all); whether anything is different now.
    fn look(&mut self, again: bool) -> bool {
        let paths: Vec<PathBuf> = self.globs.iter().flat_map(|glob| glob.paths()).collect();
        let before = self.known.len();
        self.known.retain(|path, _| paths.contains(path));
        let mut changed = self.known.len() != before;
        for path in paths {
            let version = version(&path);
            let old = self.known.get(&path);
            if !again && old.is_some_and(|old| old.version == version) {
                continue;
            }
            let groups = match read(&path) {
                Ok(groups) => groups,
                Err(error) => {
                    // It may be half written: what it said before holds until it can be read.
                    tracing::warn!(path = %path.display(), error = format!("{error:#}"), "targets cannot be read");
                    self.metrics.file_sd_errors.inc();
                    old.map(|old| old.groups.clone()).unwrap_or_default()
                }
            };
            changed |= old.is_none_or(|old| old.groups != groups);
            self.known.insert(path, Known { version, groups });
        }
        changed
    }

    /// What the files say now.
    pub(crate) fn once(&mut self) -> Vec<FileTarget> {
        self.look(true);
        self.targets()
    }

    fn targets(&self) -> Vec<FileTarget> {
        let labels = self.known.iter().flat_map(|(path, known)| {
            known.groups.iter().flat_map(group).map(|mut labels| {
                labels.insert("__meta_filepath".to_owned(), path.to_string_lossy().into_owned());
                labels
            })
        });
        self.job.targets(labels, |not_read| self.metrics.failed(not_read.reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(folder: &Path, names: &[&str]) -> FileDiscovery {
        let files = names.iter().map(|name| format!("{}/{name}", folder.display())).collect();
        let config = FileSdConfig { files, ..FileSdConfig::default() };
        let mut problems = Problems::default();
        config.check("x", &mut problems);
        assert!(problems.is_empty(), "{problems}");
        let rule = serde_json::json!({"source_labels": ["__meta_filepath"], "regex": ".*/(.*)", "target_label": "from"});
        let rule: crate::relabel::RelabelConfig = serde_json::from_value(rule).unwrap();
        let rules = vec![crate::relabel::Relabel::compile(&rule).unwrap()];
        let job = FileJob { job: 0, rules, docker: false, notes: Default::default() };
        let (commands, _) = std::sync::mpsc::sync_channel(1);
        FileDiscovery::new(job, &config, Announce::new("test", commands), TargetMetrics::default()).unwrap()
    }

    fn shown(discovery: &FileDiscovery) -> Vec<String> {
        discovery.targets().iter().map(|t| t.labels.to_string()).collect()
    }

    #[test]
    fn files_come_change_break_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut sd = discovery(folder.path(), &["*.json", "*.yml"]);
        assert!(!sd.look(false));
        write("a.json", r#"[{"targets": ["x"], "labels": {"__path__": "/l/*", "app": "a"}}]"#);
        write("b.yml", "- labels: {__path__: /l/*, app: b}\n- {targets: [y], labels: {app: no path}}\n");
        assert!(sd.look(false));
        assert!(!sd.look(false) && !sd.look(true));
        let both = ["{app=\"a\", from=\"a.json\"}", "{app=\"b\", from=\"b.yml\"}"];
        assert_eq!(shown(&sd), both);

        write("b.yml", "- labels: {__path__: /l/*, app: broken");
        assert!(!sd.look(false), "half a file changes nothing");
        assert_eq!(shown(&sd), both);
        write("b.yml", "- labels: {__path__: /l/*, app: c}");
        assert!(sd.look(false));
        std::fs::remove_file(folder.path().join("a.json")).unwrap();
        assert!(sd.look(false));
        assert_eq!(shown(&sd), ["{app=\"c\", from=\"b.yml\"}"]);
    }

    #[test]
    fn misspelt_keys_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("a.json", r#"[{"target": ["x"]}]"#), ("a.yml", "- target: [x]"), ("b.json", "{}")]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{name}");
        }
    }

    #[test]
    fn mistakes_of_the_configuration() {
        let check = |files: &[&str], want: &str| {
            let files = files.iter().map(|f| (*f).to_owned()).collect();
            let mut problems = Problems::default();
            FileSdConfig { files, ..FileSdConfig::default() }.check("sd", &mut problems);
            assert!(problems.to_string().contains(want), "{problems}");
        };
        check(&[], "sd.files: must name");
        check(&["/t/x.txt"], "sd.files[0]: '/t/x.txt' must end");
        check(&["/t/{x.json"], "sd.files[0]: '/t/{x.json'");
    }
}

//! The spools of all jobs that listen. They stay while configurations come and go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use disk::{Files, Log, LogError, LogOptions, OsFiles};
use xxhash_rust::xxh3::xxh3_64;

use super::room::Room;
use super::{Clients, Spool, SpoolClient};
use crate::config::{Config, SpoolConfig};
use crate::targets::{TargetMetrics, listeners};
use crate::tasks::Tasks;

/// Spools by their job; none where the configuration wants none.
pub(crate) struct Spools {
    config: Option<SpoolConfig>,
    room: Arc<Room>,
    metrics: TargetMetrics,
    period: Duration,
    jobs: BTreeMap<String, Running>,
    /// Bytes of folders that are no job's.
    orphaned: u64,
}

struct Running {
    spool: Arc<Spool>,
    tasks: Tasks,
}

impl Spools {
    /// As a configuration wants them: those that follow it change nothing about where and how large.
    pub(crate) fn new(config: &Config, metrics: TargetMetrics) -> Self {
        let settings = config.spool();
        let max = settings.as_ref().map_or(0, |settings| settings.max_bytes.get());
        Self {
            config: settings,
            room: Arc::new(Room::new(max)),
            metrics,
            period: config.positions.sync_period.get(),
            jobs: BTreeMap::new(),
            orphaned: 0,
        }
    }

    /// None at all.
    pub(crate) fn none() -> Self {
        Self::new(&Config::default(), TargetMetrics::default())
    }

    /// Makes those that a configuration needs. A folder that cannot be used is tried again later, unless another process uses it.
    pub(crate) fn prepare(&mut self, config: &Config) -> Result<()> {
        let Some(settings) = &self.config else { return Ok(()) };
        for scrape in config.scrape_configs.iter().filter(|scrape| !listeners(scrape).is_empty()) {
            let job = &scrape.job_name;
            if self.jobs.contains_key(job) {
                continue;
            }
            let dir = Path::new(&settings.dir).join(folder(job));
            let spool = Spool::new(job, dir, OsFiles::shared(), self.room.clone(), self.metrics.clone());
            let spool = Arc::new(spool);
            if let Err(error) = spool.open() {
                if matches!(error.downcast_ref::<LogError>(), Some(LogError::InUse(_))) {
                    return Err(error);
                }
                spool.alarms.failing(&spool, &format!("{error:#}"));
            }
            let (mut tasks, run, period) = (Tasks::default(), spool.clone(), self.period);
            tasks.task(format!("agent/{job}/spool"), move |stop| run.run(period, stop));
            self.jobs.insert(job.clone(), Running { spool, tasks });
        }
        Ok(())
    }

    /// That of a job, if it has one.
    pub(crate) fn of(&self, job: &str) -> Option<Arc<Spool>> {
        self.jobs.get(job).map(|running| running.spool.clone())
    }

    /// Begins to write those that were made.
    pub(crate) fn start(&mut self) {
        self.jobs.values_mut().for_each(|running| running.tasks.start());
    }

    /// A configuration is about to be in force, and these are the clients that will read for it: what is of jobs and clients that it
    /// does not have is told of.
    pub(crate) async fn settle(&mut self, config: &Config, clients: &[SpoolClient]) {
        let Some(settings) = self.config.clone() else {
            if config.spool().is_some() {
                tracing::warn!("a spool that was added is used from the next start on");
            }
            return;
        };
        if config.spool().as_ref() != Some(&settings) {
            tracing::warn!("changes of the spool are in force at the next start");
        }
        let is_wanted = |job: &str| {
            config.scrape_configs.iter().any(|scrape| scrape.job_name == job && !listeners(scrape).is_empty())
        };
        for (job, mut gone) in self.jobs.extract_if(.., |job, _| !is_wanted(job)).collect::<Vec<_>>() {
            end(&job, &mut gone).await;
            let log = gone.spool.log.lock().take();
            self.room.replace(log.map_or(0, |log| log.bytes()), 0);
            self.metrics.forget_spool(&job);
        }
        for running in self.jobs.values() {
            running.spool.keep_clients(clients);
        }
        let (root, ours) =
            (Path::new(&settings.dir), self.jobs.keys().map(|job| folder(job)).collect::<Vec<_>>());
        let orphaned = orphans(&OsFiles::shared(), root, &ours);
        let bytes = orphaned.iter().map(|(_, bytes)| bytes).sum();
        self.room.replace(self.orphaned, bytes);
        self.orphaned = bytes;
        for (folder, bytes) in orphaned {
            tracing::warn!(
                folder = %folder.display(),
                bytes,
                "a spool has lines of a job that is not configured: they take up room and are not sent. Configure the job again, \
                 or remove the folder"
            );
        }
    }

    /// Resolves when one has ended that nobody asked to.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let all: Vec<_> = self.jobs.values_mut().map(|running| Box::pin(running.tasks.failed())).collect();
        match all.is_empty() {
            true => std::future::pending().await,
            false => futures::future::select_all(all).await.0,
        }
    }

    /// Writes and saves everything, and ends.
    pub(crate) async fn end(&mut self) {
        for (job, running) in &mut self.jobs {
            end(job, running).await;
        }
    }
}

async fn end(job: &str, running: &mut Running) {
    if let Err(error) = running.tasks.end().await {
        tracing::warn!(job, error = format!("{error:#}"), "while a spool ended");
    }
}

/// The name of a job's folder: its own as far as it makes one, and what tells it from others.
fn folder(job: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    let name: String = job.chars().take(40).map(plain).collect();
    format!("{name}-{:016x}", xxh3_64(job.as_bytes()))
}

/// Whether that is the name of the folder of some job.
fn is_folder(name: &str) -> bool {
    let hash = name.rsplit_once('-').map_or("", |(_, hash)| hash);
    hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Folders of no job that hold lines which were not delivered, and their bytes. Those that hold none are removed.
fn orphans(files: &Arc<dyn Files>, root: &Path, ours: &[String]) -> Vec<(PathBuf, u64)> {
    /// A segment without records.
    const EMPTY: u64 = 8;
    let names = files.list(root).unwrap_or_default();
    let is_orphan = |name: &&String| is_folder(name) && !ours.contains(name);
    let mut orphans = Vec::new();
    for dir in names.iter().filter(is_orphan).map(|name| root.join(name)) {
        let inside = files.list(&dir).unwrap_or_default();
        if !inside.iter().any(|name| name == Clients::FILE) {
            continue;
        }
        let segments = inside.iter().filter(|name| name.ends_with(".log"));
        let bytes =
            segments.map(|name| files.size(&dir.join(name)).unwrap_or(0)).filter(|size| *size > EMPTY).sum();
        if bytes > 0 {
            orphans.push((dir, bytes));
        } else if let Err(error) = remove(files, &dir) {
            tracing::warn!(folder = %dir.display(), error = format!("{error:#}"), "a spool that is empty stays");
        }
    }
    orphans
}

/// Removes a folder that holds no lines, unless another agent is about to write some.
fn remove(files: &Arc<dyn Files>, dir: &Path) -> Result<()> {
    let (_nobody_elses, _) = Log::open_on(files.clone(), dir, LogOptions::default())?;
    Ok(std::fs::remove_dir_all(dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_apart() {
        assert_eq!(folder("syslog"), folder("syslog"));
        assert_ne!(folder("a/b"), folder("a_b"));
        assert_ne!(folder("ü"), folder("ö"));
        let name = folder(&"../".repeat(100));
        assert!(name.len() < 60 && !name.contains(['/', '.']), "{name}");
        assert!(is_folder(&name) && is_folder(&folder("")) && !is_folder("grafana") && !is_folder("a-b"));
    }

    #[test]
    fn what_is_empty_and_nobodys_is_removed() {
        let (root, files) = (tempfile::tempdir().unwrap(), OsFiles::shared());
        let make = |name: &str| {
            let dir = root.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join(Clients::FILE), "{}").unwrap();
            dir
        };
        let foreign = make("grafana");
        let [gone, ours, used, full] = ["gone", "ours", "used", "full"].map(|job| make(&folder(job)));
        let open = |dir: &Path| Log::open_on(files.clone(), dir, LogOptions::default()).unwrap().0;
        let _other_agent = open(&used);
        open(&full).append(&[bytes::Bytes::from_static(b"a line")]).unwrap();
        let orphans = orphans(&files, root.path(), &[folder("ours")]);
        assert_eq!(orphans.iter().map(|(dir, _)| dir).collect::<Vec<_>>(), [&full]);
        assert!(orphans[0].1 > 8 && !gone.exists());
        assert!([foreign, ours, used, full].iter().all(|dir| dir.join(Clients::FILE).exists()));
    }
}

//! Disks that are full or cannot be written, and clients that are slow or dead.
//!
//! Small disks are mounted, which takes root; without it these tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testkit::port;
use testkit::sink::Sink;

use super::pen::Pen;
use super::{Rig, Setup, check, job, store, stored};
use crate::fleet;
use crate::query::Loki;
use crate::service::until;

/// A small disk of its own, in memory; dropping it unmounts it.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one on a folder, which is made. `None`, and a word about it, if this may not be done here.
    fn mount(at: PathBuf, size: &str) -> Result<Option<Self>> {
        std::fs::create_dir_all(&at)?;
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        match mount {
            Ok(out) if out.status.success() => Ok(Some(Self(at))),
            Ok(out) => {
                eprintln!("skipped: no disk can be mounted: {}", String::from_utf8_lossy(&out.stderr).trim());
                Ok(None)
            }
            Err(error) => {
                eprintln!("skipped: no disk can be mounted: {error}");
                Ok(None)
            }
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it read-only.
    fn seal(&self) -> Result<()> {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status()?;
        ensure!(status.success(), "cannot remount {}: {status}", self.0.display());
        Ok(())
    }

    /// Fills it to the last byte.
    fn fill(&self) -> Result<()> {
        let mut ballast = std::fs::File::options().append(true).create(true).open(self.0.join("ballast"))?;
        let mut size = 64 << 10;
        while size > 0 {
            match std::io::Write::write_all(&mut ballast, &vec![b'~'; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error).context("ballast"),
            }
        }
        Ok(())
    }

    /// Gives back what `fill` took.
    fn empty(&self) -> Result<()> {
        std::fs::remove_file(self.0.join("ballast")).context("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is about to die may still work on it.
        match Command::new("umount").arg("-l").arg(&self.0).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("cannot unmount {}: {other:?}", self.0.display()),
        }
    }
}

/// A case with one plain file.
fn one_file(folder: &Path) -> Result<(Pen, Setup)> {
    let pen = Pen::new(folder.join("files"))?;
    let jobs = vec![job("disk", &pen.path("*.log"), json!([]))];
    Ok((pen, Setup { jobs, ..Setup::default() }))
}

#[test]
fn positions_that_cannot_be_written_stop_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(disk) = Disk::mount(folder.path().join("sealed"), "64k")? else { return Ok(()) };
    disk.seal()?;
    let (mut pen, setup) = one_file(folder.path())?;
    pen.lines("app.log", 500)?;
    let setup = Setup { positions: Some(disk.path().join("positions.yaml")), ..setup };
    let rig = Rig::started(folder, setup)?;
    pen.lines("app.log", 500)?;
    rig.check([("disk", pen.written())])?;
    pen.rename("app.log", "app.log.1")?;
    pen.lines("app.log", 500)?;
    rig.check([("disk", pen.written())])
}

#[test]
fn a_full_disk_of_positions_loses_and_repeats_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(disk) = Disk::mount(folder.path().join("small"), "256k")? else { return Ok(()) };
    let (mut pen, setup) = one_file(folder.path())?;
    pen.lines("app.log", 500)?;
    let setup = Setup { positions: Some(disk.path().join("positions.yaml")), ..setup };
    let mut rig = Rig::started(folder, setup)?;
    rig.check([("disk", pen.written())])?;
    disk.fill()?;
    for _ in 0..2 {
        pen.lines("app.log", 500)?;
        stored(&rig.loki, "disk", pen.written().len() - 100)?;
        // What it has of positions is old by now.
        rig.agent.kill()?;
        pen.lines("app.log", 500)?;
        rig.agent.start()?;
    }
    rig.check([("disk", pen.written())])?;
    disk.empty()?;
    pen.lines("app.log", 500)?;
    rig.restart()?;
    rig.check([("disk", pen.written())])
}

#[test]
fn a_full_disk_of_the_store_loses_and_repeats_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(disk) = Disk::mount(folder.path().join("small"), "48m")? else { return Ok(()) };
    let (mut pen, setup) = one_file(folder.path())?;
    pen.lines("app.log", 500)?;
    let mut rig = Rig::started(folder, Setup { data: Some(disk.path().join("data")), ..setup })?;
    rig.check([("disk", pen.written())])?;
    disk.fill()?;
    // More than what a file may have left in its last page.
    pen.lines("app.log", 5000)?;
    until("the store refuses", || {
        let retries = rig.agent_metric("promtail_batch_retries_total", "")?;
        ensure!(retries > 2.0, "{retries} retries");
        Ok(())
    })?;
    disk.empty()?;
    pen.lines("app.log", 500)?;
    rig.check([("disk", pen.written())])?;
    rig.logs.kill()?;
    rig.logs.start()?;
    rig.check([("disk", pen.written())])
}

#[test]
fn a_client_that_is_dead_or_slow_blocks_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut pen, setup) = one_file(folder.path())?;
    // One that takes a connection and never answers, and one that is not there yet.
    let silent = Sink::silent()?;
    let late = port::free();
    let late_url = format!("{}/loki/api/v1/push", fleet::url(late));
    let rig = Rig::started(folder, Setup { more_clients: vec![silent.url().to_owned(), late_url], ..setup })?;
    // More than any queue holds.
    for _ in 0..16 {
        pen.lines("app.log", 5000)?;
    }
    rig.check([("disk", pen.written())])?;
    let mut second = store(&rig.path().join("late"), late, &rig.path().join("late/data"))?.started()?;
    check(&Loki(fleet::url(late)), [("disk", pen.written())])?;
    second.stop()
}

#[test]
fn a_dead_client_misses_nothing_that_was_rotated_before_a_crash() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut pen, setup) = one_file(folder.path())?;
    let late = port::free();
    let late_url = format!("{}/loki/api/v1/push", fleet::url(late));
    let mut rig = Rig::started(folder, Setup { more_clients: vec![late_url], ..setup })?;
    for round in 0..3 {
        // More than a queue holds, so that the dead client's reader stays behind.
        pen.lines("app.log", 20_000)?;
        rig.check([("disk", pen.written())])?;
        pen.rename("app.log", &format!("app.log.{round}"))?;
        pen.lines("app.log", 500)?;
        rig.agent.kill()?;
        pen.lines("app.log", 500)?;
        pen.rename("app.log", &format!("app.log.{round}-0"))?;
        pen.lines("app.log", 500)?;
        rig.agent.start()?;
        rig.check([("disk", pen.written())])?;
    }
    let mut second = store(&rig.path().join("late"), late, &rig.path().join("late/data"))?.started()?;
    check(&Loki(fleet::url(late)), [("disk", pen.written())])?;
    second.stop()
}

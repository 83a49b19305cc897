//! Thousands of files at once.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::cost;

use super::pen::Pen;
use super::{Rig, Setup, job};

const FILES: usize = 5000;
/// MiB that the agent may take for so many.
const MIB: f64 = 150.0;
/// Threads of the agent, of which none may belong to a file.
const THREADS: u64 = 64;

#[test]
fn five_thousand_files_are_followed_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut pen = Pen::new(folder.path().join("files"))?;
    // One stream: here it is about files.
    let jobs = vec![job("many", &pen.path("*.log"), json!([{"labeldrop": ["filename"]}]))];
    let write = |pen: &mut Pen| (0..FILES).try_for_each(|file| pen.lines(&format!("{file}.log"), 4));
    write(&mut pen)?;
    let begun = Instant::now();
    let mut rig = Rig::started(folder, Setup { jobs, ..Setup::default() })?;
    rig.check([("many", pen.written())])?;
    let first = begun.elapsed();

    let begun = Instant::now();
    write(&mut pen)?;
    rig.agent.kill()?;
    write(&mut pen)?;
    rig.agent.start()?;
    rig.check([("many", pen.written())])?;
    let second = begun.elapsed();

    let agent = rig.agent.id()?;
    let (peak, before) = (cost::peak_mib(agent)?, cost::cpu_seconds(agent)?);
    let idle = std::time::Duration::from_secs(2);
    std::thread::sleep(idle);
    let cpu = (cost::cpu_seconds(agent)? - before) / idle.as_secs_f64();
    let threads = cost::threads(agent)?;
    eprintln!(
        "{FILES} files: all read in {first:?}, again in {second:?}, {peak:.0} MiB, {threads} threads, {cpu:.2} cores idle"
    );
    ensure!(peak < MIB, "{peak} MiB for {FILES} files");
    ensure!(threads < THREADS, "{threads} threads for {FILES} files");
    Ok(())
}

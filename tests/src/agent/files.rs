//! All [ways](super::ways) of writing at once, while the store dies, the agent dies, and both come back.
//!
//! `TIMBERLINE_WAYS` names the ways to try, by commas; else all are.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use serde_json::json;

use super::pen::Pen;
use super::ways::{Act, WAYS, Way};
use super::{Rig, Setup, job, wrong};

#[test]
fn every_line_of_every_file_is_stored_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let only = std::env::var("TIMBERLINE_WAYS").ok();
    let asked = |way: &&Way| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == way.name));
    let mut jobs = Vec::new();
    let mut desks = Vec::new();
    for way in WAYS.iter().filter(asked) {
        let pen = Pen::new(folder.path().join("files").join(way.name))?;
        let mut job_of = |case: &str| {
            let mut job = job(case, &pen.path(way.glob), (way.stages)());
            if way.decompresses {
                job["decompression"] = json!({"enabled": true, "format": "gz"});
            }
            jobs.push(job);
        };
        job_of(way.name);
        if way.has_second_job {
            job_of(&second(way));
        }
        desks.push((way, pen));
    }
    let mut rig = Rig::started(folder, Setup { jobs, ..Setup::default() })?;
    let mut wrong = BTreeMap::new();
    for act in Act::ALL {
        match act {
            Act::Begin => {}
            Act::StoreDown => {
                check(&rig, &desks, &mut wrong, "at the beginning")?;
                rig.logs.kill()?;
            }
            Act::BothDown => rig.agent.kill()?,
            Act::AgentBack => rig.agent.start()?,
            Act::AgentDown => {
                rig.logs.start()?;
                check(&rig, &desks, &mut wrong, "after both were killed")?;
                rig.agent.kill()?;
            }
            Act::End => rig.agent.start()?,
        }
        write(&mut desks, act)?;
    }
    check(&rig, &desks, &mut wrong, "at the end")?;
    rig.restart()?;
    check(&rig, &desks, &mut wrong, "after a restart")?;
    let told: Vec<_> = wrong.values().map(String::as_str).collect();
    ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

/// The case of a second job on the same files, which gets all lines of its own.
fn second(way: &Way) -> String {
    format!("{} again", way.name)
}

/// All write at once: some take their time.
fn write(desks: &mut [(&Way, Pen)], act: Act) -> Result<()> {
    std::thread::scope(|scope| {
        let write = |(way, pen): &mut (&Way, Pen)| {
            (way.write)(pen, act).map_err(|error| error.context(format!("{} in {act:?}", way.name)))
        };
        let threads: Vec<_> = desks.iter_mut().map(|desk| scope.spawn(move || write(desk))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("writers do not panic"))
    })
}

/// Adds what is wrong now to what was wrong before, of other cases.
fn check(rig: &Rig, desks: &[(&Way, Pen)], known: &mut BTreeMap<String, String>, when: &str) -> Result<()> {
    let first = desks.iter().map(|(way, pen)| (way.name.to_owned(), pen.written()));
    let second =
        desks.iter().filter(|(way, _)| way.has_second_job).map(|(way, pen)| (second(way), pen.written()));
    let cases: Vec<_> = first.chain(second).filter(|(case, _)| !known.contains_key(case)).collect();
    let found = wrong(&rig.loki, cases.iter().map(|(case, written)| (case.as_str(), *written)))?;
    known.extend(found.into_iter().map(|(case, text)| (case, format!("{when}: {text}"))));
    Ok(())
}

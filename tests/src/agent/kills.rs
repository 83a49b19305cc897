//! Agent and store are killed at random moments, one or both, while files grow and are rotated: every line is stored once.
//!
//! The seed of a run is printed; `TIMBERLINE_SEED` repeats its choices (the moments depend on the machine as well), and
//! `TIMBERLINE_KILL_ROUNDS` asks for more kills.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::pen::Pen;
use super::{Rig, Setup, job};
use crate::crash::setting;

/// How a file is rotated.
#[derive(Clone, Copy)]
enum Rotation {
    /// Never.
    No,
    /// Now and then, to names that the pattern matches as well.
    Often,
    /// Once for each life of the agent, to names that the pattern does not match.
    OnceInALife,
}

/// What is written: the case, the pattern, whether in Docker's format, and how it is rotated.
const FILES: [(&str, &str, bool, Rotation); 4] = [
    ("grows", "app.log", false, Rotation::No),
    ("shifts", "app.log*", false, Rotation::Often),
    ("hides", "app.log", false, Rotation::OnceInALife),
    ("docker", "app.log*", true, Rotation::Often),
];

/// Rotations so far by `Rotation::Often`, between which this many lines are written.
const LINES_PER_ROTATION: u64 = 400;

#[test]
fn killed_agent_and_store_keep_every_line_once() -> Result<()> {
    let seed = setting("TIMBERLINE_SEED").unwrap_or_else(rand::random);
    let rounds = setting("TIMBERLINE_KILL_ROUNDS").unwrap_or(12);
    eprintln!("agent: TIMBERLINE_SEED={seed}");
    let folder = tempfile::tempdir()?;
    let (mut jobs, mut pens) = (Vec::new(), Vec::new());
    for (case, glob, docker, _) in FILES {
        let pen = Pen::new(folder.path().join("files").join(case))?;
        let stages = if docker { json!([{"docker": {}}]) } else { json!([]) };
        jobs.push(job(case, &pen.path(glob), stages));
        pens.push(pen);
    }
    let mut rig = Rig::new(folder, Setup { jobs, ..Setup::default() })?;
    let (stop, lives, begun) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    let killed = std::thread::scope(|scope| {
        let writers = pens.iter_mut().zip(FILES).map(|(pen, (.., docker, rotation))| {
            let (stop, lives) = (&stop, &lives);
            scope.spawn(move || write(pen, docker, rotation, lives, stop))
        });
        let writers: Vec<_> = writers.collect();
        let killed = kill(&mut rig, &lives, StdRng::seed_from_u64(seed), rounds);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().try_for_each(|writer| writer.join().expect("writers do not panic")).and(killed)
    });
    let told = killed.and_then(|()| {
        let check =
            |rig: &Rig| rig.check(FILES.iter().zip(&pens).map(|((case, ..), pen)| (*case, pen.written())));
        check(&rig)?;
        rig.restart()?;
        check(&rig)
    });
    told.map_err(|error| error.context(format!("TIMBERLINE_SEED={seed}")))?;
    let lines: usize = pens.iter().map(|pen| pen.written().len()).sum();
    eprintln!("agent: {rounds} rounds, {lines} lines, {:?}", begun.elapsed());
    // Else the kills hit nothing.
    ensure!(lines as u64 > 100 * rounds, "only {lines} lines in {rounds} rounds");
    Ok(())
}

/// Lets a file grow until told to stop.
fn write(
    pen: &mut Pen,
    docker: bool,
    rotation: Rotation,
    lives: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let (mut rotated, mut life) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        if docker {
            pen.docker("app.log", 3)?
        } else {
            pen.lines("app.log", 3)?
        };
        match rotation {
            Rotation::No => {}
            Rotation::Often if pen.next() < rotated + LINES_PER_ROTATION => {}
            Rotation::Often => {
                rotated = pen.next();
                pen.shift("app.log")?;
            }
            Rotation::OnceInALife if lives.load(Ordering::Relaxed) == life => {}
            Rotation::OnceInALife => {
                life = lives.load(Ordering::Relaxed);
                pen.shift("app.log")?;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Kills and starts again, as often as asked; both run at the end.
fn kill(rig: &mut Rig, lives: &AtomicU64, mut random: StdRng, rounds: u64) -> Result<()> {
    let moment = |random: &mut StdRng, least, most| {
        std::thread::sleep(Duration::from_millis(random.random_range(least..most)));
    };
    rig.logs.start()?;
    rig.agent.start()?;
    for _ in 0..rounds {
        moment(&mut random, 5, 500);
        let (agent, store) = match random.random_range(0..10) {
            0..3 => (true, false),
            3..6 => (false, true),
            _ => (true, true),
        };
        // Which goes first makes a difference.
        let agent_first = random.random_bool(0.5);
        if agent && agent_first {
            rig.agent.kill()?;
        }
        if store {
            rig.logs.kill()?;
        }
        if agent && !agent_first {
            moment(&mut random, 0, 20);
            rig.agent.kill()?;
        }
        moment(&mut random, 0, 200);
        // One in five is killed while it starts, or soon after.
        let in_peace = random.random_bool(0.8);
        if store {
            rig.logs.launch()?;
            if in_peace {
                rig.logs.wait()?;
            }
        }
        if agent {
            rig.agent.launch()?;
            if in_peace {
                rig.agent.wait()?;
                // Long enough to see which files there are.
                moment(&mut random, 400, 500);
                lives.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    rig.logs.wait()?;
    rig.agent.wait()
}

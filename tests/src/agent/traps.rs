//! Traps: files that look like another, come and go unseen, or lie where nobody expects them. In most of them a reader that is only a little
//! careless loses lines, repeats them, or reads what is not its own.
//!
//! `TIMBERLINE_TRAPS` names the traps to try, by commas; else all are.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::pen::Pen;
use super::{Rig, Setup, job, stored, wrong};

/// What the agent does while files are written. Before each act all lines have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// It is about to start for the first time.
    Before,
    /// It works.
    Awake,
    /// It stands still, and goes on afterwards.
    Frozen,
    /// It was killed, and starts afterwards.
    Dead,
}

struct Trap {
    name: &'static str,
    glob: &'static str,
    exclude: Option<&'static str>,
    decompresses: bool,
    write: fn(&mut Pen, Act) -> Result<()>,
}

const fn trap(name: &'static str, glob: &'static str, write: fn(&mut Pen, Act) -> Result<()>) -> Trap {
    Trap { name, glob, exclude: None, decompresses: false, write }
}

const TRAPS: &[Trap] = &[
    trap("same size", "app.log", same_size),
    trap("header renamed", "app.log", header_renamed),
    trap("header truncated", "app.log", header_truncated),
    trap("header siblings", "*.log", header_siblings),
    trap("others", "app.log", others),
    Trap { exclude: Some("app-*.log"), ..trap("excluded", "*.log", others) },
    trap("copied again", "app.log*", copied_again),
    trap("crowd", "app.log", crowd),
    trap("created empty", "app.log", created_empty),
    trap("packed at once", "app.log*", packed_at_once),
    trap("inode again", "app.log", inode_again),
    trap("loop", "**/*.log", looped),
    trap("name", "*.log", named),
    trap("absent", "app.log", absent),
    trap("cut unseen", "app.log", cut_unseen),
    Trap { decompresses: true, ..trap("archive in two", "*.gz", archive_in_two) },
];

const SOME: u64 = 20;
/// Longer than the agent waits for the rest of an archive.
const SETTLED: Duration = Duration::from_millis(2500);

#[test]
fn traps_catch_no_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let only = std::env::var("TIMBERLINE_TRAPS").ok();
    let asked = |trap: &&Trap| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == trap.name));
    let (mut jobs, mut desks) = (Vec::new(), Vec::new());
    for trap in TRAPS.iter().filter(asked) {
        let pen = Pen::new(folder.path().join("files").join(trap.name))?;
        let mut job = job(trap.name, &pen.path(trap.glob), json!([]));
        if let Some(exclude) = trap.exclude {
            job["static_configs"][0]["labels"]["__path_exclude__"] = json!(pen.path(exclude));
        }
        job["decompression"] = json!({"enabled": trap.decompresses});
        jobs.push(job);
        desks.push((trap, pen));
    }
    let mut rig = Rig::new(folder, Setup { jobs, ..Setup::default() })?;
    let mut told = Vec::new();
    rig.logs.start()?;
    for act in [Act::Before, Act::Awake, Act::Frozen, Act::Dead] {
        match act {
            Act::Before | Act::Awake => {}
            Act::Frozen => signal(&rig, "STOP")?,
            Act::Dead => rig.agent.kill()?,
        }
        write(&mut desks, act)?;
        match act {
            Act::Before | Act::Dead => rig.agent.start()?,
            Act::Awake => {}
            Act::Frozen => signal(&rig, "CONT")?,
        }
        let found = wrong(&rig.loki, desks.iter().map(|(trap, pen)| (trap.name, pen.written())))?;
        // One that has caught something is not asked again.
        desks.retain(|(trap, _)| !found.contains_key(trap.name));
        told.extend(found.into_values().map(|text| format!("{act:?}: {text}")));
    }
    ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

/// All write at once: some take their time.
fn write(desks: &mut [(&Trap, Pen)], act: Act) -> Result<()> {
    std::thread::scope(|scope| {
        let write = |(trap, pen): &mut (&Trap, Pen)| {
            (trap.write)(pen, act).map_err(|error| error.context(format!("{} in {act:?}", trap.name)))
        };
        let threads: Vec<_> = desks.iter_mut().map(|desk| scope.spawn(move || write(desk))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("writers do not panic"))
    })
}

fn signal(rig: &Rig, name: &str) -> Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(rig.agent.id()?.to_string()).status()?;
    ensure!(status.success(), "cannot signal the agent: {status}");
    Ok(())
}

/// Written anew in place, as `echo … > app.log` does, with as many bytes as before.
fn same_size(pen: &mut Pen, act: Act) -> Result<()> {
    for _ in 0..if act == Act::Awake { 2 } else { 1 } {
        pen.pause();
        let line = pen.line(|n| format!("the only line {n:06}"));
        std::fs::write(pen.path("app.log"), line + "\n")?;
    }
    Ok(())
}

/// Begins a file with more bytes than a head has, which are the same in each, as a table's header is.
fn header(pen: &mut Pen, name: &str) -> Result<()> {
    let line = pen.line(|n| format!("#Fields: {} {n:06}", "date time s-ip cs-method cs-uri ".repeat(12)));
    pen.append(name, line + "\n")
}

/// Generations that begin alike, rotated twice at once.
fn header_renamed(pen: &mut Pen, act: Act) -> Result<()> {
    for _ in 0..if act == Act::Before { 0 } else { 2 } {
        pen.shift("app.log")?;
        header(pen, "app.log")?;
        pen.lines("app.log", SOME)?;
    }
    if act == Act::Before { header(pen, "app.log") } else { Ok(()) }
}

/// Emptied, and at once filled with more than before, beginning alike.
fn header_truncated(pen: &mut Pen, act: Act) -> Result<()> {
    if act != Act::Before {
        pen.copy_and_truncate("app.log", &format!("app.copy.{}", pen.next()))?;
    }
    header(pen, "app.log")?;
    pen.lines("app.log", SOME * (1 + act as u64 * 2))
}

/// Logs of several programs, named as generations would be, that begin alike.
fn header_siblings(pen: &mut Pen, act: Act) -> Result<()> {
    if act == Act::Before {
        header(pen, "worker.log")?;
    }
    for name in ["worker-1.log", "worker-2.log"] {
        if act == Act::Awake {
            header(pen, name)?;
        }
        if act != Act::Before {
            pen.lines(name, SOME)?;
        }
    }
    pen.lines("worker.log", SOME)
}

/// Beside a log that is rotated lie those of others, named as its generations would be, which nobody asked for.
fn others(pen: &mut Pen, act: Act) -> Result<()> {
    let write = |pen: &Pen| {
        ["app-1.log", "app-2.log"]
            .iter()
            .try_for_each(|name| pen.append(name, format!("nobody's business {act:?}\n")))
    };
    for round in 0..if act == Act::Before { 0 } else { 2 } {
        write(pen)?;
        pen.pause();
        pen.rename("app.log", &format!("app.log.{}", act as u64 * 10 + round))?;
        write(pen)?;
        pen.lines("app.log", SOME)?;
        pen.pause();
    }
    write(pen)?;
    pen.lines("app.log", SOME)
}

/// Copied over the copy before, which is thus written anew in place, and emptied, when all was read.
fn copied_again(pen: &mut Pen, act: Act) -> Result<()> {
    for round in 0..if act == Act::Awake { 3 } else { 1 } {
        if act != Act::Before {
            std::thread::sleep(Duration::from_secs(1));
            pen.copy_and_truncate("app.log", "app.log.1")?;
            pen.pause();
        }
        pen.lines("app.log", SOME * (1 + round))?;
    }
    Ok(())
}

/// More old generations than a reader would like to look at.
fn crowd(pen: &mut Pen, act: Act) -> Result<()> {
    if act == Act::Before {
        for day in 0..1300 {
            let name = format!("app.log-2020{day:04}");
            pen.append(&name, "long ago\n")?;
            let long_ago = SystemTime::now() - Duration::from_secs(24 * 3600);
            File::options().append(true).open(pen.path(&name))?.set_modified(long_ago)?;
        }
        // What is young may have been missed.
        std::thread::sleep(Duration::from_secs(3));
    }
    for round in 0..if act == Act::Dead { 2 } else { 0 } {
        pen.lines("app.log", SOME)?;
        pen.rename("app.log", &format!("app.log-2026000{round}"))?;
    }
    pen.lines("app.log", SOME)
}

/// The new file is made by whoever rotates; the program writes only when nobody looks.
fn created_empty(pen: &mut Pen, act: Act) -> Result<()> {
    if act != Act::Awake {
        pen.lines("app.log", SOME)?;
    }
    if act != Act::Before {
        pen.shift("app.log")?;
        File::create(pen.path("app.log"))?;
        pen.pause();
    }
    Ok(())
}

/// Made empty, and when it was seen so, filled, renamed and packed at once.
fn packed_at_once(pen: &mut Pen, act: Act) -> Result<()> {
    for _ in 0..if act == Act::Before { 0 } else { 5 } {
        pen.lines("app.log", SOME)?;
        let rotated = format!("app.log.{}", pen.next());
        pen.rename("app.log", &rotated)?;
        File::create(pen.path("app.log"))?;
        pen.gzip(&rotated)?;
    }
    if act == Act::Before {
        return pen.lines("app.log", SOME);
    }
    pen.pause();
    Ok(())
}

/// The packed one of two generations lies where the plain one of the other lay.
fn inode_again(pen: &mut Pen, act: Act) -> Result<()> {
    if act == Act::Awake {
        pen.shift("app.log")?;
    }
    pen.lines("app.log", SOME)?;
    if act != Act::Dead {
        return Ok(());
    }
    let free = std::fs::metadata(pen.path("app.log.1"))?.ino();
    pen.gzip("app.log.1")?;
    pen.rename("app.log.1.gz", "app.log.2.gz")?;
    let (mut spare, mut is_there) = (Vec::new(), false);
    while !is_there && spare.len() < 2000 {
        spare.push(pen.path(&format!("spare{}", spare.len())));
        is_there = File::create(&spare[spare.len() - 1])?.metadata()?.ino() == free;
    }
    // Where inodes are not used again so soon, any other will do.
    let last = spare.pop().context("a spare file")?;
    let mut packed = flate2::write::GzEncoder::new(File::create(&last)?, flate2::Compression::fast());
    packed.write_all(&std::fs::read(pen.path("app.log"))?)?;
    packed.finish()?;
    std::fs::rename(last, pen.path("app.log.1.gz"))?;
    std::fs::remove_file(pen.path("app.log"))?;
    spare.into_iter().try_for_each(std::fs::remove_file)?;
    pen.lines("app.log", SOME)
}

/// Links that lead up, and so round and round.
fn looped(pen: &mut Pen, act: Act) -> Result<()> {
    if act == Act::Before {
        std::fs::create_dir_all(pen.path("a/b/c"))?;
        symlink(pen.folder(), pen.path("a/b/round"))?;
        symlink("..", pen.path("a/up"))?;
        symlink("a", pen.path("z"))?;
    }
    pen.lines("app.log", SOME)?;
    pen.lines("a/b/c/deep.log", SOME)
}

/// Names that are no text, or look like patterns.
fn named(pen: &mut Pen, _: Act) -> Result<()> {
    let line = pen.plain() + "\n";
    let odd = pen.folder().join(OsStr::from_bytes(b"caf\xe9.log"));
    File::options().append(true).create(true).open(odd)?.write_all(line.as_bytes())?;
    let long = "e".repeat(251) + ".log";
    for name in
        ["with space.log", "quo\"te'.log", "new\nline.log", "[x]{a,b}*?.log", "back\\slash.log", &long]
    {
        pen.lines(name, 2)?;
    }
    Ok(())
}

/// Nothing lies at the path for a while; then several generations come and go at once, and nothing again.
fn absent(pen: &mut Pen, act: Act) -> Result<()> {
    let rotate = |pen: &mut Pen| {
        pen.lines("app.log", SOME)?;
        pen.rename("app.log", &format!("app.log.{}", pen.next()))
    };
    match act {
        Act::Before => pen.lines("app.log", SOME),
        _ => {
            rotate(pen)?;
            std::thread::sleep(Duration::from_secs(3));
            rotate(pen)?;
            rotate(pen)
        }
    }
}

/// Copied and emptied while nobody looks; it is empty before and after.
fn cut_unseen(pen: &mut Pen, act: Act) -> Result<()> {
    match act {
        Act::Before => pen.lines("app.log", SOME),
        Act::Awake => {
            pen.copy_and_truncate("app.log", "app.log-1")?;
            pen.pause();
            Ok(())
        }
        Act::Frozen | Act::Dead => (0..3).try_for_each(|_| {
            pen.lines("app.log", SOME)?;
            pen.copy_and_truncate("app.log", &format!("app.log-{}", pen.next()))
        }),
    }
}

/// An archive of which the second half comes when the first was read.
fn archive_in_two(pen: &mut Pen, act: Act) -> Result<()> {
    if act != Act::Awake {
        return Ok(());
    }
    for pause in [SETTLED, Duration::from_secs(6)] {
        let text: String = (0..2000).map(|_| pen.plain() + "\n").collect();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes())?;
        let packed = packed.finish()?;
        let name = format!("{}.log.gz", pen.next());
        let (first, second) = packed.split_at(packed.len() / 2);
        pen.append(&name, first)?;
        std::thread::sleep(pause);
        pen.append(&name, second)?;
    }
    Ok(())
}

/// What a power cut may leave of the agent's state: nothing of it stops the agent.
#[test]
fn a_damaged_state_does_not_stop_the_agent() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut pen = Pen::new(folder.path().join("files"))?;
    let jobs = vec![job("damaged", &pen.path("*.log"), json!([]))];
    let mut rig = Rig::started(folder, Setup { jobs, ..Setup::default() })?;
    pen.lines("app.log", SOME)?;
    rig.check([("damaged", pen.written())])?;
    let state = rig.path().join("positions/positions.state.json");
    ensure!(Path::new(&state).exists(), "the state is in another place than this test believes");
    for damaged in [vec![0; 4096], Vec::new(), b"{\"files\":[{\"pa".to_vec()] {
        rig.agent.stop()?;
        std::fs::write(&state, damaged)?;
        pen.lines("app.log", SOME)?;
        rig.agent.start()?;
        stored(&rig.loki, "damaged", pen.written().len())?;
    }
    Ok(())
}

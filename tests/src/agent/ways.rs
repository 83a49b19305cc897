//! The ways in which files are written, rotated, truncated, replaced and removed.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use model::Timestamp;
use serde_json::{Value, json};

use super::SECOND;
use super::pen::Pen;

/// What runs while files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Both, from the start.
    Begin,
    /// The agent; the store was killed, after it had taken everything that was written before.
    StoreDown,
    /// Nothing: the agent was killed too, with what it held.
    BothDown,
    /// The agent again.
    AgentBack,
    /// The store; the agent was killed after everything that was written before had arrived.
    AgentDown,
    /// Both, at the end.
    End,
}

impl Act {
    /// All, in their order.
    pub(super) const ALL: [Self; 6] =
        [Self::Begin, Self::StoreDown, Self::BothDown, Self::AgentBack, Self::AgentDown, Self::End];
}

/// One way of writing.
pub(super) struct Way {
    /// The case.
    pub(super) name: &'static str,
    /// Which files are followed.
    pub(super) glob: &'static str,
    /// Stages of the job.
    pub(super) stages: fn() -> Value,
    /// Whether compressed files are to be read.
    pub(super) decompresses: bool,
    /// Whether a second job reads the same files.
    pub(super) has_second_job: bool,
    /// Writes in an act.
    pub(super) write: fn(&mut Pen, Act) -> Result<()>,
}

const fn way(name: &'static str, glob: &'static str, write: fn(&mut Pen, Act) -> Result<()>) -> Way {
    Way { name, glob, stages: || json!([]), has_second_job: false, decompresses: false, write }
}

/// All ways.
pub(super) const WAYS: &[Way] = &[
    Way { has_second_job: true, ..way("append", "*.log", append) },
    way("rename", "app.log", rename),
    way("rename twice", "app.log", rename_twice),
    way("shift", "app.log*", shift),
    way("dated", "*.log", dated),
    way("copytruncate", "app.log", copytruncate),
    way("copytruncate copies", "app.log*", copytruncate_copies),
    way("recreate", "*.log", recreate),
    way("gzip", "app.log*", gzip),
    way("gzip unsent", "app.log*", gzip_unsent),
    Way { decompresses: true, ..way("archive", "*.gz", archive) },
    way("halves", "app.log", halves),
    way("long", "app.log", long),
    way("bytes", "app.log", bytes),
    Way { stages: clock_stages, ..way("clock", "app.log", clock) },
    way("mtime", "app.log", mtime),
    way("link", "app.log", link),
    way("link and file", "**/*.log", link),
    way("link moved", "current.log", link_moved),
    Way { stages: || json!([{"docker": {}}]), ..way("docker", "*-json.log", docker) },
    Way { stages: || json!([{"docker": {}}]), ..way("docker packed", "*-json.log", docker_packed) },
    Way { stages: multiline_stages, ..way("multiline", "app.log", multiline) },
];

const SOME: u64 = 40;

fn append(pen: &mut Pen, _: Act) -> Result<()> {
    for _ in 0..4 {
        pen.lines("one.log", SOME)?;
        pen.lines("other.log", 3)?;
    }
    Ok(())
}

/// Renamed once while the agent is away, twice while only the store is.
fn rename(pen: &mut Pen, act: Act) -> Result<()> {
    pen.lines("app.log", SOME)?;
    for _ in 0..if act == Act::StoreDown { 2 } else { 1 } {
        pen.pause();
        pen.rename("app.log", &format!("app.log.{}", pen.next()))?;
        // The writer has it open, and goes on a little.
        pen.lines(&format!("app.log.{}", pen.next()), 1)?;
        pen.lines("app.log", SOME)?;
    }
    Ok(())
}

/// Renamed twice faster than anybody looks, also while nobody does. What was rotated before anybody looked for the first time is
/// not asked for.
fn rename_twice(pen: &mut Pen, act: Act) -> Result<()> {
    for _ in 0..if act == Act::Begin { 0 } else { 2 } {
        pen.lines("app.log", SOME)?;
        pen.shift("app.log")?;
    }
    pen.lines("app.log", SOME)
}

/// As `rename_twice`, with a pattern that matches what was rotated.
fn shift(pen: &mut Pen, _: Act) -> Result<()> {
    for _ in 0..2 {
        pen.lines("app.log", SOME)?;
        pen.shift("app.log")?;
    }
    pen.lines("app.log", SOME)
}

fn dated(pen: &mut Pen, _: Act) -> Result<()> {
    for _ in 0..2 {
        pen.lines("app.log", SOME)?;
        pen.rename("app.log", &format!("app-{}.log", pen.next()))?;
    }
    pen.lines("app.log", SOME)
}

/// Emptied when all was read, and filled again less and more than before.
fn copytruncate(pen: &mut Pen, act: Act) -> Result<()> {
    match act {
        Act::Begin => pen.lines("app.log", SOME),
        Act::StoreDown => {
            pen.copy_and_truncate("app.log", "app.copy.1")?;
            pen.lines("app.log", 5)
        }
        Act::AgentDown => {
            pen.copy_and_truncate("app.log", "app.copy.2")?;
            pen.lines("app.log", SOME * 9)
        }
        _ => pen.lines("app.log", SOME),
    }
}

/// Copies that the pattern matches as well: what they hold was read, or is read as what the file held.
fn copytruncate_copies(pen: &mut Pen, act: Act) -> Result<()> {
    pen.lines("app.log", SOME)?;
    if act != Act::Begin {
        pen.copy_and_truncate("app.log", &format!("app.log.{}", pen.next()))?;
        pen.lines("app.log", if act == Act::BothDown { SOME * 4 } else { 5 })?;
    }
    Ok(())
}

/// Removed when all was read; the new file often gets the old one's inode.
fn recreate(pen: &mut Pen, act: Act) -> Result<()> {
    let remove = matches!(act, Act::StoreDown | Act::AgentDown);
    for (name, lines) in [("short.log", 3), ("long.log", SOME * 3)] {
        if remove {
            std::fs::remove_file(pen.path(name))?;
        }
        pen.lines(name, lines)?;
    }
    Ok(())
}

/// Renamed, and packed when it was read.
fn gzip(pen: &mut Pen, act: Act) -> Result<()> {
    match act {
        Act::StoreDown | Act::AgentDown => {
            let rotated = format!("app.log.{}", pen.next());
            pen.rename("app.log", &rotated)?;
            pen.gzip(&rotated)?;
        }
        _ => {}
    }
    pen.lines("app.log", SOME)
}

/// Renamed and packed before it was sent, while the agent that had read some of it is gone.
fn gzip_unsent(pen: &mut Pen, act: Act) -> Result<()> {
    pen.lines("app.log", SOME)?;
    if act == Act::BothDown {
        let rotated = format!("app.log.{}", pen.next());
        pen.rename("app.log", &rotated)?;
        pen.gzip(&rotated)?;
        pen.lines("app.log", SOME)?;
    }
    Ok(())
}

fn archive(pen: &mut Pen, _: Act) -> Result<()> {
    let name = format!("{}.log", pen.next());
    pen.lines(&name, SOME * 20)?;
    pen.gzip(&name)
}

/// Lines that come in two writes with a look in between, and a last one that is never ended.
fn halves(pen: &mut Pen, act: Act) -> Result<()> {
    for _ in 0..3 {
        let line = pen.plain();
        let (head, tail) = line.split_at(line.len() / 2);
        pen.append("app.log", head)?;
        pen.pause();
        pen.append("app.log", format!("{tail}\n"))?;
    }
    if act == Act::End {
        let line = pen.plain();
        pen.append("app.log", line)?;
    }
    Ok(())
}

fn long(pen: &mut Pen, _: Act) -> Result<()> {
    for _ in 0..2 {
        let line = pen.line(|n| format!("{n:06} {} {n:06}", "long ".repeat(199_990)));
        pen.append("app.log", line + "\n")?;
    }
    Ok(())
}

/// Bytes that are no UTF-8, among them the first half of a character at the end of a line.
fn bytes(pen: &mut Pen, _: Act) -> Result<()> {
    for _ in 0..SOME {
        let number = pen.next();
        let mut raw = format!("bytes {number:06} ").into_bytes();
        raw.extend([0xff, 0xfe, b' ', 0xc3, 0x28, b' ', 0x00, b' ', 0xe2, 0x82]);
        pen.line(|_| String::from_utf8_lossy(&raw).into_owned());
        raw.push(b'\n');
        pen.append("app.log", raw)?;
    }
    Ok(())
}

fn clock_stages() -> Value {
    json!([
        {"regex": {"expression": "^(?P<at>\\S+) "}},
        {"timestamp": {"source": "at", "format": "RFC3339Nano"}},
    ])
}

/// Times of lines that jump back and forth.
fn clock(pen: &mut Pen, _: Act) -> Result<()> {
    for jump in [0, -3600, 240, -18 * 3600, -1, 60] {
        for _ in 0..5 {
            let time = Timestamp(Timestamp::now().nanos() + jump * SECOND);
            let line = pen.line(|n| format!("{time} clock {n:06}"));
            pen.append("app.log", line + "\n")?;
        }
    }
    Ok(())
}

/// Times of files that jump back and forth.
fn mtime(pen: &mut Pen, act: Act) -> Result<()> {
    pen.lines("app.log", SOME)?;
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    let time = if matches!(act, Act::Begin | Act::BothDown | Act::AgentDown) { now - day } else { now + day };
    File::options().append(true).open(pen.path("app.log"))?.set_modified(time)?;
    Ok(())
}

/// A link to a file in another folder, which is rotated there, as a container's on Kubernetes.
fn link(pen: &mut Pen, act: Act) -> Result<()> {
    let real = pen.folder().join("pod");
    if act == Act::Begin {
        std::fs::create_dir_all(&real)?;
        symlink(real.join("0.log"), pen.path("app.log"))?;
    }
    pen.lines("pod/0.log", SOME)?;
    if matches!(act, Act::StoreDown | Act::BothDown | Act::End) {
        pen.pause();
        pen.rename("pod/0.log", &format!("pod/0.log.{}", pen.next()))?;
        pen.lines("pod/0.log", SOME)?;
    }
    Ok(())
}

/// A link that leads to another file when all of the one before was read.
fn link_moved(pen: &mut Pen, act: Act) -> Result<()> {
    if matches!(act, Act::Begin | Act::StoreDown | Act::AgentDown) {
        let name = format!("app-{}.txt", pen.next());
        pen.lines(&name, SOME)?;
        symlink(pen.path(&name), pen.path("new"))?;
        pen.rename("new", "current.log")?;
    }
    let target = std::fs::read_link(pen.path("current.log"))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    pen.lines(&name, SOME)
}

/// Docker's own files, rotated as its driver does.
fn docker(pen: &mut Pen, act: Act) -> Result<()> {
    pen.docker("c-json.log", SOME)?;
    if matches!(act, Act::StoreDown | Act::BothDown | Act::End) {
        pen.pause();
        pen.shift("c-json.log")?;
        pen.docker("c-json.log", SOME)?;
    }
    Ok(())
}

/// Docker's own files, each packed as soon as it is rotated, faster than anybody looks. What was rotated before anybody looked for
/// the first time is not asked for.
fn docker_packed(pen: &mut Pen, act: Act) -> Result<()> {
    for _ in 0..if act == Act::Begin { 0 } else { 3 } {
        pen.docker("c-json.log", SOME)?;
        let rotated = format!("c-json.log.{}", pen.next());
        pen.rename("c-json.log", &rotated)?;
        pen.docker("c-json.log", 1)?;
        pen.gzip(&rotated)?;
    }
    pen.docker("c-json.log", SOME)
}

fn multiline_stages() -> Value {
    json!([{"multiline": {"firstline": "^at \\d", "max_wait_time": "500ms"}}])
}

fn multiline(pen: &mut Pen, _: Act) -> Result<()> {
    for _ in 0..SOME {
        let entry = pen.line(|n| format!("at {n:06}\n  because\n  of that"));
        pen.append("app.log", entry + "\n")?;
    }
    Ok(())
}

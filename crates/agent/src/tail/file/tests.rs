//! One file at a time, and what is kept of it.

#![allow(clippy::single_range_in_vec_init, reason = "ranges are what is compared")]

use super::*;
use crate::config::PositionsConfig;
use std::fs::File;
use std::io::Write;

struct Fixture {
    folder: tempfile::TempDir,
    positions: Positions,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let filename = folder.path().join("positions.yaml").to_string_lossy().into_owned();
        let positions = Positions::load(&PositionsConfig { filename, ..PositionsConfig::default() }).unwrap();
        Self { folder, positions }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.log")
    }

    fn append(&self, text: &str) {
        let mut file = File::options().append(true).create(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn open(&self) -> FileTail {
        let path = self.path();
        let how = How { path: &path, at: &path, job: 0, docker: false, max_line: 100, start: 0 };
        FileTail::open(Content::plain(&path).unwrap(), &self.positions, &how).unwrap()
    }

    /// Reads and acknowledges; the lines' texts.
    fn read(&self, tail: &mut FileTail, last: bool) -> Vec<String> {
        let mut chunk = Chunk::default();
        if tail.was_truncated().unwrap() {
            tail.begin_anew(&self.positions).unwrap();
        }
        if let Some(ticket) = tail.read(&self.positions, last, &mut chunk).unwrap() {
            ticket.done(1);
        }
        chunk.lines.into_iter().map(|line| line.text).collect()
    }
}

#[test]
fn whole_lines_and_where_they_end() {
    let fixture = Fixture::new();
    fixture.append("one\ntwo\nthr");
    let mut tail = fixture.open();
    assert_eq!(fixture.read(&mut tail, false), ["one", "two"]);
    assert_eq!(tail.progress().acknowledged(), 8);
    fixture.append("ee\n");
    assert_eq!(fixture.read(&mut tail, false), ["three"]);
    fixture.append("end");
    assert!(fixture.read(&mut tail, false).is_empty());
    assert_eq!(fixture.read(&mut tail, true), ["end"]);
    assert_eq!(tail.progress().acknowledged(), 17);
}

#[test]
fn truncated_files_begin_anew() {
    let fixture = Fixture::new();
    fixture.append("a long first line\n");
    let mut tail = fixture.open();
    assert_eq!(fixture.read(&mut tail, false).len(), 1);
    std::fs::write(fixture.path(), "new\n").unwrap();
    assert_eq!(fixture.read(&mut tail, false), ["new"]);
    // Truncated and filled beyond what was read, as copytruncate may leave it.
    std::fs::write(fixture.path(), "entirely other text than before\nand more\n").unwrap();
    assert_eq!(fixture.read(&mut tail, false), ["entirely other text than before", "and more"]);
}

/// It came to be what it is before it was opened: a second entry for the same bytes would have its copy read again.
#[test]
fn what_was_truncated_before_it_was_opened_is_one_generation() {
    let fixture = Fixture::new();
    fixture.append("one\n");
    let positions = load(&fixture);
    let mut tail = open(&fixture, &positions, 0);
    let entry = positions.entry(tail.progress());
    tail.begin_anew(&positions).unwrap();
    assert_eq!(positions.entry(tail.progress()), entry);
    assert_eq!(positions.known_at(&fixture.path(), 0).len(), 1);
    std::fs::write(fixture.path(), "two\n").unwrap();
    tail.begin_anew(&positions).unwrap();
    assert_ne!(positions.entry(tail.progress()), entry, "that is another");
}

#[test]
fn long_lines_are_cut_and_nothing_waits_forever() {
    let fixture = Fixture::new();
    fixture.append(&"x".repeat(250));
    let mut tail = fixture.open();
    let lengths: Vec<_> = fixture.read(&mut tail, false).iter().map(String::len).collect();
    assert_eq!(lengths, [100, 100]);
}

/// Where lines come from, as a store would know them: id and bytes.
fn origins(tail: &mut FileTail, positions: &Positions) -> Vec<(u128, Vec<std::ops::Range<u64>>)> {
    let mut chunk = Chunk::default();
    tail.read(positions, false, &mut chunk).unwrap();
    let source = tail.progress().source().unwrap();
    let origin = |line: Line| (source.id(), line.ranges.as_slice().to_vec());
    if source.is_durable() { chunk.lines.into_iter().map(origin).collect() } else { Vec::new() }
}

fn load(fixture: &Fixture) -> Positions {
    let filename = fixture.folder.path().join("positions.yaml").to_string_lossy().into_owned();
    let positions = Positions::load(&PositionsConfig { filename, ..PositionsConfig::default() }).unwrap();
    positions.of_jobs(["a".to_owned(), "b".to_owned()])
}

fn open(fixture: &Fixture, positions: &Positions, job: usize) -> FileTail {
    let path = fixture.path();
    let how = How { path: &path, at: &path, job, docker: false, max_line: 100, start: 0 };
    FileTail::open(Content::plain(&path).unwrap(), positions, &how).unwrap()
}

#[test]
fn after_a_crash_the_same_bytes_come_from_the_same_source() {
    let fixture = Fixture::new();
    fixture.append("one\ntwo\n");
    let positions = load(&fixture);
    let before = origins(&mut open(&fixture, &positions, 0), &positions);
    assert_eq!(before.iter().map(|(_, ranges)| ranges.clone()).collect::<Vec<_>>(), [[0..4], [4..8]]);
    // Nothing was saved but what the first line needed.
    fixture.append("three\n");
    let positions = load(&fixture);
    let mut tail = open(&fixture, &positions, 0);
    let after = origins(&mut tail, &positions);
    assert_eq!((&after[..2], after.len()), (&before[..], 3));
    // What the file holds once it was truncated is another source's.
    std::fs::write(fixture.path(), "new\n").unwrap();
    assert!(tail.was_truncated().unwrap());
    tail.begin_anew(&positions).unwrap();
    let anew = origins(&mut tail, &positions);
    assert!(anew.len() == 1 && anew[0].0 != before[0].0);
    let positions = load(&fixture);
    assert_eq!(origins(&mut open(&fixture, &positions, 0), &positions), anew);
}

#[test]
fn jobs_and_clients_have_places_of_their_own() {
    let fixture = Fixture::new();
    fixture.append("one\ntwo\n");
    let first = load(&fixture).for_client("first");
    let second = first.for_client("second");
    let mut readers = [open(&fixture, &first, 0), open(&fixture, &first, 1), open(&fixture, &second, 0)];
    let mut tickets = Vec::new();
    for (tail, positions) in readers.iter_mut().zip([&first, &first, &second]) {
        tickets.extend(tail.read(positions, false, &mut Chunk::default()).unwrap());
    }
    // The other job's store, and the other client's, are away.
    tickets[0].done(1);
    first.save().unwrap();
    let first = load(&fixture).for_client("first");
    let second = first.for_client("second");
    let at = |positions: &Positions, job| open(&fixture, positions, job).offset();
    assert_eq!(at(&first, 0), 8);
    assert_eq!(at(&first, 1), 0);
    assert_eq!(at(&second, 0), 0);
}

#[test]
fn only_a_new_client_takes_over_what_another_has() {
    let fixture = Fixture::new();
    fixture.append("one\ntwo\n");
    let saved = load(&fixture);
    let (first, second) = (saved.for_client("first"), saved.for_client("second"));
    let mut ahead = open(&fixture, &first, 0);
    ahead.read(&first, false, &mut Chunk::default()).unwrap().unwrap().done(1);
    first.save().unwrap();
    // It comes later, in the same process or after a crash: it has read nothing.
    assert_eq!(open(&fixture, &second, 0).offset(), 0);
    let again = load(&fixture);
    assert_eq!(open(&fixture, &again.for_client("second"), 0).offset(), 0);
    // What was there when a new client began is taken over, and not what was read since.
    let first = again.for_client("first");
    let mut ahead = open(&fixture, &first, 0);
    fixture.append("three\n");
    ahead.read(&first, false, &mut Chunk::default()).unwrap().unwrap().done(1);
    first.save().unwrap();
    assert_eq!(ahead.progress().acknowledged(), 14);
    assert_eq!(open(&fixture, &again.for_client("third"), 0).offset(), 8);
}

#[test]
fn nothing_is_written_where_nothing_is_new() {
    let fixture = Fixture::new();
    fixture.append("one\n");
    let positions = load(&fixture);
    let mut tail = open(&fixture, &positions, 0);
    let state = fixture.folder.path().join("positions.state.json");
    let is_written = || {
        let was_there = std::fs::remove_file(&state).is_ok();
        positions.save_changes().unwrap();
        (was_there, state.exists())
    };
    assert_eq!(is_written(), (false, true));
    assert_eq!(is_written(), (true, false));
    tail.read(&positions, false, &mut Chunk::default()).unwrap().unwrap().done(1);
    assert!(is_written().1);
    assert_eq!(is_written(), (true, false));
    positions.close_file(tail.progress());
    assert_eq!(is_written(), (false, false));
    positions.save().unwrap();
    assert!(state.exists());
}

#[test]
fn where_nothing_can_be_written_lines_have_no_origin() {
    let fixture = Fixture::new();
    fixture.append("one\n");
    let filename = fixture.path().join("positions.yaml").to_string_lossy().into_owned();
    let config = PositionsConfig { filename, ignore_invalid_yaml: true, ..PositionsConfig::default() };
    let positions = Positions::load(&config).unwrap();
    let mut tail = open(&fixture, &positions, 0);
    let mut chunk = Chunk::default();
    assert!(tail.read(&positions, false, &mut chunk).unwrap().is_some());
    assert_eq!(chunk.lines[0].text, "one");
    assert!(!tail.progress().source().unwrap().is_durable());
}

#[test]
fn zeros_are_no_text() {
    let check = |content: &str, want: &[&str]| {
        let fixture = Fixture::new();
        fixture.append(content);
        let mut tail = fixture.open();
        let mut got = Vec::new();
        while tail.offset() < content.len() as u64 {
            got.extend(fixture.read(&mut tail, false));
        }
        assert_eq!(got, want, "{content:?}");
        assert_eq!(tail.progress().acknowledged() as usize, content.len());
    };
    let zeros = |count| "\0".repeat(count);
    // After a power failure: in front of a line, behind half of one, alone.
    check(&format!("one\n{}two\n", zeros(5)), &["one", "two"]);
    check(&format!("one\nhal{}two\n", zeros(700)), &["one", "hal", "two"]);
    check(&format!("one\n{}\ntwo\n", zeros(700)), &["one", "two"]);
    check(&format!("one\n{}", zeros(600_000)), &["one"]);
    check(&format!("{}{}one\n", zeros(600_000), zeros(1)), &["one"]);
    // Some write them to part words.
    check("one\0two\0\n", &["one\0two\0"]);
}

#[test]
fn holes_are_passed_over() {
    let fixture = Fixture::new();
    fixture.append("one\n");
    let file = File::options().write(true).open(fixture.path()).unwrap();
    file.set_len(1 << 40).unwrap();
    fixture.append("two\n");
    let (mut tail, mut got) = (fixture.open(), Vec::new());
    for _ in 0..10 {
        got.extend(fixture.read(&mut tail, false));
    }
    assert_eq!(got, ["one", "two"]);
    assert_eq!(tail.progress().acknowledged(), (1 << 40) + 4);
    // A hole at the end, in which somebody writes later, behind it.
    file.set_len(1 << 41).unwrap();
    fixture.append("three\n");
    let got: Vec<_> = (0..10).flat_map(|_| fixture.read(&mut tail, false)).collect();
    assert_eq!(got, ["three"]);
}

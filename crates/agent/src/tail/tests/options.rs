//! `target_config`: where files begin, which are old, and what they are known by; and how often they are looked at.

use super::steps::Steps;
use super::*;
use crate::positions::IdentifiedBy;

#[test]
fn files_that_are_there_begin_at_their_ends() {
    let mut steps = Steps::new("*.log");
    steps.options.from_end = true;
    steps.write("a.log", 10);
    // Its last line has only begun.
    std::fs::write(steps.path("b.log"), "before\nbeg").unwrap();
    steps.written.clear();
    steps.start();
    assert_eq!(steps.lines(), [""; 0]);
    steps.write("a.log", 5);
    File::options().append(true).open(steps.path("b.log")).unwrap().write_all(b"un\n").unwrap();
    steps.written.push("begun".to_owned());
    // What comes later has no end to begin at, nor what takes its place.
    steps.write("c.log", 5);
    steps.rename("a.log", "a.log.1");
    steps.write("a.log", 5);
    steps.expect_all();
    // Nor what came while no agent ran.
    steps.kill();
    steps.write("d.log", 5);
    let before = steps.lines().len();
    steps.start();
    assert!(steps.lines().len() >= before + 5);
    steps.stop();
}

#[test]
fn where_they_began_is_saved_at_once() {
    let mut steps = Steps::new("*.log");
    steps.options.from_end = true;
    steps.write("a.log", 10);
    steps.written.clear();
    steps.start();
    steps.kill();
    steps.write("a.log", 3);
    steps.start();
    steps.expect_all();
}

#[test]
fn old_files_wait_until_they_are_written_to() {
    let old = SystemTime::now() - Duration::from_secs(3600);
    for from_end in [false, true] {
        let mut steps = Steps::new("*.log");
        (steps.options.ignore_older, steps.options.from_end) = (Some(Duration::from_secs(60)), from_end);
        let age = |steps: &Steps, name: &str| {
            File::options().append(true).open(steps.path(name)).unwrap().set_modified(old).unwrap();
        };
        steps.write("old.log", 10);
        if from_end {
            steps.written.clear();
        }
        age(&steps, "old.log");
        steps.start();
        assert_eq!(steps.lines(), [""; 0]);
        assert!(steps.poller.as_ref().unwrap().files.is_empty());
        // It is not forgotten meanwhile, as it is still there.
        steps.positions.pass(23 * 3600);
        steps.turns();
        steps.positions.pass(23 * 3600);
        steps.write("old.log", 2);
        steps.expect_all();
        // What was read to its end is not opened again; what was begun is.
        steps.write("begun.log", 5);
        steps.expect_all();
        steps.stop();
        steps.write("begun.log", 5);
        age(&steps, "old.log");
        age(&steps, "begun.log");
        steps.start();
        steps.expect_all();
        assert_eq!(steps.poller.as_ref().unwrap().files.len(), 1);
        steps.write("old.log", 1);
        steps.expect_all();
    }
}

#[test]
fn known_by_inode_though_the_beginning_changes() {
    use std::os::unix::fs::FileExt as _;
    for (by, again) in [(IdentifiedBy::Inode, 0), (IdentifiedBy::Auto, 4)] {
        let mut steps = Steps::new("app.log");
        steps.identity = by;
        steps.write("app.log", 3);
        steps.start();
        steps.expect_all();
        let file = File::options().write(true).open(steps.path("app.log")).unwrap();
        file.write_all_at(b"9", 0).unwrap();
        steps.write("app.log", 1);
        steps.turns();
        assert_eq!(steps.lines().len(), 4 + if again > 0 { 3 } else { 0 }, "{by:?}");
        // Truncation is seen by size.
        if by == IdentifiedBy::Inode {
            file.set_len(0).unwrap();
            steps.write("app.log", 1);
            steps.expect_all();
            steps.stop();
            file.write_all_at(b"8", 0).unwrap();
            steps.start();
            steps.write("app.log", 1);
            steps.expect_all();
        }
    }
}

#[test]
fn known_by_path_though_the_inode_changes() {
    let mut steps = Steps::new("app.log");
    steps.identity = IdentifiedBy::Path;
    steps.write("app.log", 10);
    steps.start();
    let remount = |steps: &Steps| {
        std::fs::copy(steps.path("app.log"), steps.path("app.tmp")).unwrap();
        steps.rename("app.tmp", "app.log");
    };
    remount(&steps);
    steps.write("app.log", 3);
    steps.expect_all();
    steps.stop();
    remount(&steps);
    steps.write("app.log", 3);
    steps.start();
    steps.expect_all();
    // Rotation is told by the beginning.
    steps.rename("app.log", "app.log.1");
    steps.write("app.log.1", 2);
    steps.write("app.log", 5);
    steps.expect_all();
    steps.stop();
    steps.write("app.log", 5);
    steps.rename("app.log", "app.log.2");
    steps.write("app.log", 5);
    steps.start();
    steps.expect_all();
}

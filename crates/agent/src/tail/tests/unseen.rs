//! What comes and goes while nobody looks, and leaves its path as it was; and what is written to where nobody looks any more.

use super::steps::Steps;
use super::*;
use crate::tail::watch::Watch;

/// Turns until all lines are there.
fn expect_soon(steps: &mut Steps) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while steps.lines().len() < steps.written.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} lines: {:?}",
            steps.lines().len(),
            steps.written.len(),
            steps.lines().last()
        );
        std::thread::sleep(Duration::from_millis(100));
        steps.turns();
    }
    steps.expect_all();
}

/// Whatever has happened is seen.
fn settle(steps: &mut Steps) {
    std::thread::sleep(Duration::from_millis(100));
    steps.expect_all();
}

/// An agent, told of changes or not.
fn started(glob: &str, is_told: bool) -> Steps {
    let mut steps = Steps::new(glob);
    steps.start();
    if !is_told {
        steps.poller.as_mut().unwrap().watch = Watch::blind();
    }
    steps.write("app.log", 10);
    steps.expect_all();
    steps
}

#[test]
fn generations_of_a_path_that_leads_nowhere() {
    for (glob, is_told) in [("app.log", true), ("app.log", false), ("app.log*", true), ("app.log*", false)] {
        let mut steps = started(glob, is_told);
        steps.rename("app.log", "app.log.1");
        settle(&mut steps);
        for round in 0..2 {
            for generation in 2..4 {
                steps.write("app.log", 10);
                steps.rename("app.log", &format!("app.log.{}", round * 10 + generation));
            }
            expect_soon(&mut steps);
        }
        steps.write("app.log", 10);
        expect_soon(&mut steps);
        assert_eq!(steps.options.metrics.lost_bytes.get(), 0);
    }
}

#[test]
fn generations_of_a_file_that_is_empty_before_and_after() {
    for (glob, is_told) in [("app.log", true), ("app.log", false), ("app.log*", true)] {
        let mut steps = started(glob, is_told);
        steps.copytruncate("app.log", "app.log.1");
        settle(&mut steps);
        for generation in 2..4 {
            steps.write("app.log", 10);
            steps.copytruncate("app.log", &format!("app.log.{generation}"));
        }
        expect_soon(&mut steps);
        steps.write("app.log", 10);
        expect_soon(&mut steps);
        assert_eq!(steps.options.metrics.lost_bytes.get(), 0);
    }
}

/// Another's log that appears beside one that is read is none of its generations.
#[test]
fn others_that_appear() {
    let mut steps = started("app.log", true);
    std::fs::write(steps.path("app-1.log"), "nobody's business\n").unwrap();
    steps.turns();
    steps.write("app.log", 10);
    steps.expect_all();
}

#[test]
fn a_folder_is_rotated_at_once() {
    const FILES: usize = 300;
    for (glob, is_told) in [("*.log", true), ("*", true), ("*.log", false)] {
        let mut steps = started(glob, is_told);
        (0..FILES).for_each(|file| steps.write(&format!("{file}.log"), 1));
        expect_soon(&mut steps);
        for _ in 0..2 {
            for file in 0..FILES {
                steps.rename(&format!("{file}.log"), &format!("{file}.log.1"));
                steps.write(&format!("{file}.log"), 2);
            }
            expect_soon(&mut steps);
        }
        assert_eq!((steps.missed(), steps.options.metrics.lost_bytes.get()), (0, 0));
    }
}

#[test]
fn closed_and_written_to_again() {
    for is_told in [true, false] {
        let mut steps = started("app.log", is_told);
        steps.rename("app.log", "app.log.1");
        steps.write("app.log", 10);
        expect_soon(&mut steps);
        let poller = steps.poller.as_mut().unwrap();
        poller.linger = Duration::ZERO;
        poller.close_finished();
        assert_eq!(poller.files.len(), 1, "it is closed");
        for name in ["app.log.1", "app.log.2"] {
            steps.write(name, 10);
            if !is_told {
                steps.poller.as_mut().unwrap().look_at_closed();
            }
            expect_soon(&mut steps);
            steps.poller.as_mut().unwrap().close_finished();
            std::fs::rename(steps.path(name), steps.path("app.log.2")).unwrap();
            steps.poller.as_mut().unwrap().look_at_closed();
        }
        assert_eq!((steps.missed(), steps.options.metrics.lost_bytes.get()), (0, 0));
    }
}

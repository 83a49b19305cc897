//! Files that are alike, or seem to be others than they are.

use super::steps::Steps;
use super::*;

/// All files begin with the same header.
fn headed(glob: &str) -> Steps {
    let mut steps = Steps::new(glob);
    steps.header = "#Fields: date time s-ip ".repeat(15);
    steps
}

/// Changes what was saved of each file.
fn alter(steps: &Steps, change: impl Fn(&mut serde_json::Value)) {
    let state = steps.folder.path().join("positions.state.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    value["files"].as_array_mut().unwrap().iter_mut().for_each(change);
    std::fs::write(&state, value.to_string()).unwrap();
}

#[test]
fn logs_of_several_programs_that_begin_alike() {
    for is_running in [true, false] {
        let mut steps = headed("*.log");
        steps.write("worker.log", 5);
        steps.write("worker-1.log", 0);
        steps.start();
        if !is_running {
            steps.stop();
        }
        for name in ["worker.log", "worker-1.log", "worker-2.log", "worker.log"] {
            steps.write(name, 7);
        }
        if !is_running {
            steps.start();
        }
        steps.expect_all();
        assert_eq!(steps.missed(), 0);
    }
}

#[test]
fn truncated_and_filled_with_more_that_begins_alike() {
    for (is_running, is_copied) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut steps = headed("app.log");
        steps.write("app.log", 5);
        steps.start();
        steps.expect_all();
        if !is_running {
            steps.stop();
        }
        if is_copied {
            steps.write("app.log", 5);
            steps.copytruncate("app.log", "app.log.1");
        } else {
            File::options().write(true).open(steps.path("app.log")).unwrap().set_len(0).unwrap();
        }
        steps.write("app.log", 30);
        if !is_running {
            steps.start();
        }
        steps.expect_all();
    }
}

#[test]
fn files_of_others_are_nobodys_generations() {
    let mut steps = Steps::new("app.log");
    let foreign = |steps: &Steps| {
        for name in ["app-1.log", "app.log.9"] {
            let mut file = File::options().append(true).create(true).open(steps.path(name)).unwrap();
            file.write_all(b"nobody asked for this\n").unwrap();
        }
    };
    foreign(&steps);
    std::thread::sleep(Duration::from_millis(100));
    steps.write("app.log", 5);
    steps.start();
    for generation in 1..4 {
        foreign(&steps);
        steps.rename("app.log", &format!("app.log.2024010{generation}"));
        steps.write("app.log", 5);
        foreign(&steps);
        if generation == 2 {
            steps.stop();
            steps.start();
        }
        steps.expect_all();
    }
    assert_eq!(steps.missed(), 0);
}

#[test]
fn made_empty_and_filled_while_no_agent_runs() {
    for glob in ["app.log", "app.log*"] {
        let mut steps = Steps::new(glob);
        File::create(steps.path("app.log")).unwrap();
        steps.start();
        steps.stop();
        steps.write("app.log", 10);
        steps.rename("app.log", "app.log.1");
        steps.write("app.log", 3);
        steps.start();
        steps.expect_all();
        assert_eq!(steps.missed(), 0, "{glob}");
    }
}

#[test]
fn a_disk_that_is_mounted_again_or_restored() {
    for (key, is_there) in [("device", true), ("inode", true), ("inode", false)] {
        let mut steps = headed("*.log");
        steps.write("app.log", 10);
        steps.start();
        steps.stop();
        alter(&steps, |file| {
            file["identity"][key] = (file["identity"][key].as_u64().unwrap() + 1_000_000).into()
        });
        if !is_there {
            // Another that begins alike is another.
            std::fs::remove_file(steps.path("app.log")).unwrap();
        }
        steps.write("app.log", 12);
        steps.start();
        steps.expect_all();
    }
}

#[test]
fn made_again_with_the_same_text() {
    for is_running in [true, false] {
        let mut steps = headed("*.log");
        steps.written = vec!["the same".to_owned(); 400];
        let text = "the same\n".repeat(200);
        std::fs::write(steps.path("app.log"), &text).unwrap();
        steps.start();
        if !is_running {
            steps.stop();
        }
        std::fs::remove_file(steps.path("app.log")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::write(steps.path("new"), &text).unwrap();
        File::options().write(true).open(steps.path("new")).unwrap().set_modified(later).unwrap();
        steps.rename("new", "app.log");
        if !is_running {
            steps.start();
        }
        steps.expect_all();
    }
}

#[test]
fn what_is_gone_before_it_was_delivered_is_told_once() {
    let mut steps = Steps::new("*.log");
    steps.write("app.log", 10);
    steps.write("gone.log", 10);
    steps.start();
    steps.stop();
    alter(&steps, |file| file["size"] = (file["offset"].as_u64().unwrap() + 1000).into());
    std::fs::remove_file(steps.path("gone.log")).unwrap();
    for _ in 0..2 {
        steps.start();
        steps.expect_all();
        assert_eq!(steps.options.metrics.lost_bytes.get(), 1000);
        steps.stop();
    }
}

#[test]
fn written_to_between_the_copy_and_the_truncation() {
    for glob in ["app.log", "app.log*"] {
        for after in [0, 5, 50] {
            let mut steps = headed(glob);
            steps.write("app.log", 20);
            steps.start();
            steps.write("app.log", 5);
            steps.expect_all();
            std::fs::copy(steps.path("app.log"), steps.path("app.log.1")).unwrap();
            steps.write("app.log", 3);
            steps.expect_all();
            File::options().write(true).open(steps.path("app.log")).unwrap().set_len(0).unwrap();
            if after > 0 {
                steps.write("app.log", after);
            }
            steps.expect_all();
            steps.write("app.log", 1);
            steps.stop();
            steps.start();
            steps.expect_all();
            assert_eq!((steps.missed(), steps.options.metrics.lost_bytes.get()), (0, 0));
        }
    }
}

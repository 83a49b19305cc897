//! Positions as they are kept over restarts.

use super::*;
use std::fs::File;
use std::path::Path;

fn positions(folder: &Path) -> Positions {
    let config = PositionsConfig {
        filename: folder.join("positions.yaml").to_string_lossy().into_owned(),
        ..PositionsConfig::default()
    };
    Positions::load(&config).unwrap()
}

#[test]
fn a_file_is_known_by_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("app.log"), folder.path().join("app.log.1"));
    std::fs::write(&old, "first line\nsecond\n").unwrap();
    let first = positions(folder.path());
    let (_, progress) = first.open_file(&old, &old, &File::open(&old).unwrap(), 0, 0).unwrap();
    progress.open(11).done(1);
    first.save().unwrap();

    std::fs::rename(&old, &new).unwrap();
    std::fs::write(&old, "other content\n").unwrap();
    let again = positions(folder.path());
    let offset =
        |path: &Path| again.open_file(path, path, &File::open(path).unwrap(), 0, 0).unwrap().1.acknowledged();
    assert_eq!(offset(&new), 11);
    assert_eq!(offset(&old), 0);
}

#[test]
fn promtails_file_is_read_in() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("app.log");
    std::fs::write(&log, "0123456789").unwrap();
    let yaml = format!("positions:\n  {}: \"4\"\n  cursor-abc: \"1718000000\"\n", log.display());
    std::fs::write(folder.path().join("positions.yaml"), yaml).unwrap();
    let positions = positions(folder.path());
    let (_, progress) = positions.open_file(&log, &log, &File::open(&log).unwrap(), 0, 0).unwrap();
    assert_eq!(progress.acknowledged(), 4);
    let place = LinePlace::before(positions.open_container("abc", 0).acknowledged()).unwrap();
    assert_eq!(place.time().nanos(), 1_718_000_000_000_000_000);
}

#[test]
fn cursors_of_journals_are_kept_as_promtail_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("positions.yaml"),
        "positions:\n  cursor-j: \"s=1;i=2\"\n  journal-k: s=3\n",
    )
    .unwrap();
    let first = positions(folder.path());
    assert_eq!(first.open_journal("k").acknowledged().as_deref(), Some("s=3"));
    let cursor = first.open_journal("j");
    assert_eq!(cursor.acknowledged().as_deref(), Some("s=1;i=2"));
    cursor.open("s=1;i=3".into()).0.done(1);
    let _waits = cursor.open("s=1;i=4".into());
    first.save().unwrap();
    assert_eq!(positions(folder.path()).open_journal("j").acknowledged().as_deref(), Some("s=1;i=3"));
    let written = std::fs::read_to_string(folder.path().join("positions.yaml")).unwrap();
    assert!(written.contains("cursor-j: ") && written.contains("s=1;i=3"), "{written}");
}

#[test]
fn a_broken_file_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("positions.yaml"), "\0\0\0").unwrap();
    let filename = folder.path().join("positions.yaml").to_string_lossy().into_owned();
    let config = PositionsConfig { filename, ..PositionsConfig::default() };
    let error = Positions::load(&config).err().unwrap();
    assert!(format!("{error:#}").contains("ignore_invalid_yaml"), "{error:#}");
    assert!(Positions::load(&PositionsConfig { ignore_invalid_yaml: true, ..config }).is_ok());
}

/// A file that lies anywhere.
#[derive(Clone)]
pub(super) struct Fake<'a> {
    pub(super) place: (u64, u64),
    pub(super) born: Option<i64>,
    pub(super) content: &'a str,
}

impl crate::tail::Identified for Fake<'_> {
    fn place(&self) -> std::io::Result<(u64, u64)> {
        Ok(self.place)
    }

    fn born(&self) -> std::io::Result<Option<i64>> {
        Ok(self.born)
    }

    fn size(&self) -> std::io::Result<u64> {
        Ok(self.content.len() as u64)
    }

    fn head(&self, bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.content.as_bytes().get(..bytes as usize).map(<[u8]>::to_vec))
    }

    fn before(&self, at: u64, bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
        let range = (at - bytes) as usize..at as usize;
        Ok(self.content.as_bytes().get(range).map(<[u8]>::to_vec))
    }
}

#[test]
fn a_file_that_takes_an_inode_takes_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let first = positions(folder.path()).of_jobs(["j".to_owned()]);
    let path = Path::new("/l/app.log");
    let old = Fake { place: (1, 7), born: None, content: "old text\n" };
    let open = |positions: &Positions, file: &Fake| positions.open_file(path, path, file, 0, 0).unwrap().1;
    let progress = open(&first, &old);
    progress.open(9).done(1);
    let source = progress.source().unwrap().id();
    first.save().unwrap();
    first.close_file(&progress);
    // Another has its inode before anybody has found where the old one went, and is read, and saved.
    let new = Fake { content: "other text\n", ..old.clone() };
    let other = open(&first, &new);
    assert_eq!(other.acknowledged(), 0);
    other.open(6).done(1);
    first.save().unwrap();
    let again = positions(folder.path()).of_jobs(["j".to_owned()]);
    let other = open(&again, &new);
    assert_eq!(other.acknowledged(), 6);
    again.save().unwrap();
    // The old one is found as a copy, and goes on with all that is known of it.
    let known = again.known_at(path, 0).into_iter().find(|known| !known.is_held).unwrap();
    assert_eq!(known.offset, 9);
    let copy = Fake { place: (1, 8), ..old.clone() };
    again.adopt(&known, again.identity(&copy).unwrap(), 9);
    let progress = open(&again, &copy);
    assert_eq!((progress.acknowledged(), progress.source().unwrap().id()), (9, source));
    assert!(progress.source().unwrap().is_durable());
    // What is held is nobody's to adopt.
    let held = again.known_at(path, 0).into_iter().find(|known| known.offset == 6).unwrap();
    again.adopt(&held, again.identity(&Fake { place: (1, 9), ..old }).unwrap(), 9);
    assert_eq!(again.offset_of(&new, path, 0), Some(6));
}

#[test]
fn an_inode_that_was_taken_later_is_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let positions = positions(folder.path()).of_jobs(["j".to_owned()]);
    let path = Path::new("/l/app.log");
    let old = Fake { place: (1, 7), born: Some(1), content: "the same\n" };
    let (_, progress) = positions.open_file(path, path, &old, 0, 0).unwrap();
    progress.open(9).done(1);
    positions.close_file(&progress);
    let offset = |born| positions.offset_of(&Fake { born, ..old.clone() }, path, 0);
    assert_eq!((offset(Some(1)), offset(None), offset(Some(2))), (Some(9), Some(9), None));
}

#[test]
fn only_time_in_which_an_agent_runs_makes_forget() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("app.log");
    std::fs::write(&log, "one\ntwo\n").unwrap();
    let first = positions(folder.path());
    let (_, progress) = first.open_file(&log, &log, &File::open(&log).unwrap(), 0, 0).unwrap();
    progress.open(4).done(1);
    first.save().unwrap();
    // Nobody ran for a week.
    let state = folder.path().join("positions.state.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    value["saved_at"] = (now() - 7 * 86_400).into();
    value["files"][0]["seen"] = (now() - 7 * 86_400).into();
    std::fs::write(&state, value.to_string()).unwrap();
    let again = positions(folder.path());
    again.save().unwrap();
    let offset = |positions: &Positions| positions.offset_of(&File::open(&log).unwrap(), &log, 0);
    assert_eq!(offset(&again), Some(4));
    // Hours of several runs add up.
    again.pass(13 * 3600);
    again.save().unwrap();
    let again = positions(folder.path());
    assert_eq!(offset(&again), Some(4));
    again.pass(12 * 3600);
    assert_eq!(offset(&again), None);
}

#[test]
fn of_one_place_few_generations_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let positions = positions(folder.path());
    let path = Path::new("/l/app.log");
    let file = Fake { place: (1, 7), born: Some(1), content: "text" };
    let (identity, mut progress) = positions.open_file(path, path, &file, 0, 0).unwrap();
    for _ in 0..100 {
        progress = positions.anew(&progress, identity);
    }
    assert!(positions.known().len() <= 5);
}

#[test]
fn what_nobody_reads_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let positions = positions(folder.path());
    let open = |inode: u64| {
        let path = std::path::PathBuf::from(format!("/l/{inode}.log"));
        let file = Fake { place: (1, inode), born: None, content: "text" };
        positions.open_file(&path, &path, &file, 0, 0).unwrap().1
    };
    let held = open(0);
    for inode in 1..=100 {
        let progress = open(inode);
        let entry = positions.entry(&progress).unwrap();
        positions.close_file(&progress);
        if inode % 2 == 0 {
            positions.end(entry);
        }
    }
    let mut inner = positions.shared.inner.lock();
    assert!(!inner.known.bound(100));
    assert!(inner.known.bound(60));
    let left: Vec<_> =
        inner.known.iter().map(|(_, known)| (known.holder.is_some(), known.has_ended)).collect();
    let count = |what: (bool, bool)| left.iter().filter(|is| **is == what).count();
    assert_eq!((count((true, false)), count((false, false)), count((false, true))), (1, 50, 4));
    assert!(!inner.known.bound(60));
    drop(held);
}

/// Writes something in place of a file, as a power cut does.
fn damage(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn a_damaged_state_gives_way_to_the_one_before() {
    for damaged in [&[0; 4096][..], b"", b"{\"files\":[{\"pa", b"null", b"{}", b"garbage \xff"] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("app.log");
        std::fs::write(&log, "one\ntwo\nthree\n").unwrap();
        let open = |positions: &Positions| {
            positions.open_file(&log, &log, &File::open(&log).unwrap(), 0, 0).unwrap().1
        };
        let first = positions(folder.path());
        let progress = open(&first);
        for end in [4, 8, 14] {
            progress.open(end).done(1);
            first.save().unwrap();
        }
        damage(folder.path(), "positions.state.json", damaged);
        let again = positions(folder.path());
        assert_eq!(again.damaged(), 1);
        let source = |progress: &Progress| progress.source().map(Source::id);
        let found = open(&again);
        assert_eq!((found.acknowledged(), source(&found)), (8, source(&progress)));
        // The good one is kept until there is another.
        again.save().unwrap();
        damage(folder.path(), "positions.state.json", damaged);
        assert_eq!(open(&positions(folder.path())).acknowledged(), 8);
        // Without any, Promtail's file is as good as it is.
        damage(folder.path(), "positions.state.json.old", damaged);
        let again = positions(folder.path());
        assert_eq!((again.damaged(), open(&again).acknowledged()), (2, 8));
        // And of that there is one more, too.
        damage(folder.path(), "positions.yaml", &[0; 100]);
        assert_eq!(open(&positions(folder.path())).acknowledged(), 8);
        damage(folder.path(), "positions.yaml.old", &[0; 100]);
        assert_eq!(open(&positions(folder.path())).acknowledged(), 0);
    }
}

#[test]
fn crashes_between_saves_cost_nothing() {
    use super::state::State;
    use disk::sim::SimFiles;

    let state = |name: u32| State { jobs: Some([format!("job {name}")].into()), ..State::default() };
    let named = |state: State| state.jobs.unwrap().first().unwrap()[4..].parse::<u32>().unwrap();
    let document =
        |files: &SimFiles| disk::Document::on(Arc::new(files.clone()), "d/positions.state.json".into());
    for (fuel, seed) in (0..1200).step_by(7).flat_map(|fuel| (0..5).map(move |seed| (fuel, seed))) {
        let files = SimFiles::new();
        document(&files).write(&state(0).print().unwrap()).unwrap();
        let (mut files, mut last) = (files, 0);
        for round in 0..3 {
            let mut kept = document(&files);
            let found = named(kept.read(State::parse).unwrap().value.unwrap());
            assert!(found == last || found == last + 1, "{found} {last} {fuel} {seed}");
            last = found;
            files.crash_after(fuel + round);
            while kept.write(&state(last + 1).print().unwrap()).is_ok() {
                last += 1;
            }
            files = files.restart(seed + u64::from(round == 1));
        }
    }
}

#[test]
fn names_that_are_no_text_come_back() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.log"));
    std::fs::write(&log, "one\ntwo\n").unwrap();
    let first = positions(folder.path());
    let (_, progress) = first.open_file(&log, &log, &File::open(&log).unwrap(), 0, 0).unwrap();
    progress.open(4).done(1);
    first.save().unwrap();
    let again = positions(folder.path());
    assert_eq!(again.known_at(&log, 0).iter().map(|known| known.offset).collect::<Vec<_>>(), [4]);
}

#[test]
fn nothing_new_is_not_written() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("app.log");
    std::fs::write(&log, "one\ntwo\n").unwrap();
    let positions = positions(folder.path());
    let (_, progress) = positions.open_file(&log, &log, &File::open(&log).unwrap(), 0, 0).unwrap();
    // Each file is another one when it is written.
    let written = || {
        let inode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().ino();
        (inode("positions.state.json"), inode("positions.yaml"))
    };
    positions.save_changes().unwrap();
    let before = written();
    positions.save_changes().unwrap();
    assert_eq!(written(), before);
    progress.open(4).done(1);
    positions.save_changes().unwrap();
    let after = written();
    assert!(after.0 != before.0 && after.1 != before.1);
    positions.save_changes().unwrap();
    assert_eq!(written(), after);
}

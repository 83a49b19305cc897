//! What every ingest log promises: one suite, run over each implementation.

use std::sync::Arc;

use bytes::Bytes;
use disk::sim::SimFiles;
use disk::{LogOptions, OsFiles};

use super::kv::tenant;
use crate::*;

fn records(bodies: &[&str]) -> Vec<Record> {
    let of = |(n, body): (usize, &&str)| Record {
        tenant: tenant(["a", "b"][n % 2]),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    bodies.iter().enumerate().map(of).collect()
}

/// `open` opens the log anew on the same storage.
fn check<L: IngestLog>(mut open: impl FnMut() -> (L, Recovered)) {
    let all = |recovered: Recovered| recovered.map(Result::unwrap).collect::<Vec<_>>();
    let (mut log, recovered) = open();
    assert_eq!(all(recovered), []);
    assert_eq!(log.take_checkpoint(), None);
    let writer = log.writer().clone();
    let first = records(&["one", "", "three"]);
    let range = log.append(&first).unwrap().into_inner();
    assert_eq!(range.end - range.start, 3);
    let second = records(&["four"]);
    let later = log.append(&second).unwrap().into_inner();
    assert!(later.start >= range.end && later.end - later.start == 1 && log.next() >= later.end);
    drop(log);

    let (mut log, recovered) = open();
    assert_eq!(log.writer(), &writer);
    let expected: Vec<_> = range.clone().zip(first).chain(later.clone().zip(second)).collect();
    assert_eq!(all(recovered), expected);
    assert!(log.next() >= later.end);
    assert!(!log.can_trim(0));
    log.checkpoint(b"one").unwrap();
    log.checkpoint(b"two").unwrap();
    assert_eq!(log.take_checkpoint(), None, "only what was found at open");
    log.trim(range.end).unwrap();
    assert!(!log.can_trim(range.end));
    drop(log);

    let (mut log, recovered) = open();
    let kept = all(recovered);
    assert!(kept.ends_with(&expected[3..]), "trimmed too much: {kept:?}");
    assert_eq!(log.take_checkpoint().as_deref(), Some(&b"two"[..]));
    assert_eq!(log.take_checkpoint(), None);
    assert!(log.can_trim(log.next()));
    log.trim(log.next()).unwrap();
    assert!(!log.can_trim(log.next()));
    log.skip_to(1_000);
    let range = log.append(&records(&["last"])).unwrap().into_inner();
    assert!(range.start >= 1_000);
    drop(log);

    let (log, recovered) = open();
    assert_eq!(all(recovered).last().map(|(position, _)| *position), Some(range.start));
    assert!(log.next() >= range.end);
}

#[test]
fn disk() {
    for segment_bytes in [1, 100, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes };
        check(|| {
            let (log, recovered) = DiskIngestLog::open(dir.path().join("wal"), options).unwrap();
            (log, Box::new(recovered))
        });
        let files = SimFiles::new();
        check(|| {
            let (log, recovered) = DiskIngestLog::open_on(Arc::new(files.clone()), "wal", options).unwrap();
            (log, Box::new(recovered))
        });
    }
}

#[test]
fn a_new_folder_is_a_new_writer() {
    let open = || DiskIngestLog::open_on(Arc::new(SimFiles::new()), "wal", LogOptions::default()).unwrap().0;
    assert_ne!(open().writer(), open().writer());
}

#[test]
fn records_of_another_version_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = disk::Log::open_on(OsFiles::shared(), dir.path(), LogOptions::default()).unwrap();
    let bad: [&[u8]; 5] = [b"", b"\x01", b"\x02\x01ahi", b"\x01\x09short", b"\x01\x01/hi"];
    log.append(&bad.map(Bytes::from_static)).unwrap();
    log.append(&[Bytes::from_static(b"\x01\x01ahi")]).unwrap();
    drop(log);
    let (_log, mut recovered) = DiskIngestLog::open(dir.path(), LogOptions::default()).unwrap();
    let found: Vec<_> = recovered.by_ref().map(Result::unwrap).collect();
    assert_eq!(found, [(5, Record { tenant: tenant("a"), body: "hi".into() })]);
    assert_eq!((recovered.unreadable(), recovered.counts().records), (5, 6));
}

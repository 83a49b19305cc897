//! Archives that are written bit by bit, or never to their ends.

use super::steps::Steps;
use super::*;
use crate::tail::archive::{DecompressionConfig, SETTLED};
use crate::tail::poller::Reading;

fn pack(suffix: &str, text: &str) -> Vec<u8> {
    let level = flate2::Compression::default();
    let text = text.as_bytes();
    match suffix {
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "z" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "bz2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(text, 3).unwrap(),
    }
}

fn steps() -> Steps {
    let mut steps = Steps::new("*");
    let decompression = DecompressionConfig { enabled: true, ..DecompressionConfig::default() };
    steps.options.jobs = vec![Reading { decompression, ..Reading::default() }];
    steps
}

fn is_open(path: &std::path::Path) -> bool {
    let mut open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path))
}

fn numbered(steps: &mut Steps, count: usize) -> String {
    let begin = steps.written.len();
    // They hold little that is packed well.
    let line = |n: usize| format!("{n:06} {:x}", xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()));
    steps.written.extend((begin..begin + count).map(line));
    steps.written[begin..].iter().map(|line| format!("{line}\n")).collect()
}

/// Appends, as if it had been done so long ago.
fn append(steps: &Steps, name: &str, bytes: &[u8], age: Duration) {
    let mut file = File::options().append(true).create(true).open(steps.path(name)).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn the_rest_of_an_archive_comes_later() {
    for suffix in ["gz", "z", "bz2", "zst"] {
        for at in [10, 0, 4] {
            let mut steps = steps();
            steps.start();
            let text = numbered(&mut steps, 5_000);
            let packed = pack(suffix, &text);
            let name = format!("a.{suffix}");
            // A third, half of it, and all but a little.
            let first = if at == 0 { packed.len() / 2 } else { packed.len() - at };
            append(&steps, &name, &packed[..first], SETTLED);
            steps.turns();
            let lines = steps.lines();
            assert!(
                lines.iter().zip(&steps.written).all(|(line, want)| line == want),
                "{suffix}: a torn line"
            );
            assert!(lines.len() <= 5_000);
            // That nothing comes for a while says nothing; nor does what is being written just now.
            std::thread::sleep(Duration::from_millis(20));
            steps.turns();
            append(&steps, &name, &packed[first..first + 2], Duration::ZERO);
            steps.turns();
            append(&steps, &name, &packed[first + 2..], SETTLED);
            steps.expect_all();
        }
    }
}

#[test]
fn members_come_one_by_one() {
    let mut steps = steps();
    steps.start();
    for _ in 0..3 {
        let text = numbered(&mut steps, 1000);
        let packed = pack("gz", &text);
        let (first, second) = packed.split_at(packed.len() / 3);
        append(&steps, "a.gz", first, SETTLED);
        steps.turns();
        append(&steps, "a.gz", second, SETTLED);
        steps.expect_all();
        std::thread::sleep(Duration::from_millis(30));
        // Closed, and opened again for the next.
        steps.expect_all();
    }
}

#[test]
fn what_is_damaged_ends() {
    for suffix in ["gz", "z", "bz2", "zst"] {
        let mut steps = steps();
        steps.start();
        let mut packed = pack(suffix, &numbered(&mut steps, 20_000));
        let middle = packed.len() / 2;
        packed[middle..middle + 100].fill(0x5a);
        append(&steps, &format!("a.{suffix}"), &packed, 2 * SETTLED);
        let whole = numbered(&mut steps, 10);
        append(&steps, "b.log", whole.as_bytes(), SETTLED);
        steps.turns();
        let deadline = Instant::now() + Duration::from_secs(20);
        // The torn line is handed on in the end, and the file closed.
        while is_open(&steps.path(&format!("a.{suffix}"))) {
            assert!(Instant::now() < deadline, "{suffix} is still open");
            std::thread::sleep(Duration::from_millis(50));
            steps.turns();
        }
        let lines = steps.lines();
        assert!(steps.written[20_000..].iter().all(|line| lines.contains(line)), "{suffix}");
    }
}

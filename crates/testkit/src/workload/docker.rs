//! Log lines as Docker's json-file driver writes them.

use std::io::Write;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::logs::write_line;

/// Writes about so many bytes of records, which repeat after a while; tells how many records they are. The same seed gives the
/// same bytes.
pub fn docker_lines(out: &mut impl Write, bytes: u64, seed: u64) -> std::io::Result<u64> {
    /// What is made anew; the rest repeats it.
    const BLOCK: u64 = 4 << 20;
    let mut random = StdRng::seed_from_u64(seed);
    let (mut block, mut records, mut line) = (Vec::new(), 0, String::new());
    while (block.len() as u64) < BLOCK.min(bytes) {
        line.clear();
        write_line(&mut random, &mut line);
        line.push('\n');
        let time = format!("2026-01-02T03:{:02}:{:02}.{records:09}Z", records / 60 % 60, records % 60);
        serde_json::to_writer(&mut block, &json!({"log": line, "stream": "stdout", "time": time}))?;
        block.push(b'\n');
        records += 1;
    }
    let times = bytes.checked_div(block.len() as u64).unwrap_or(0).max(1);
    (0..times).try_for_each(|_| out.write_all(&block))?;
    Ok(records * times)
}

/// Writes so many records of a service that logs JSON, all of them different. The same seed gives the same bytes.
pub fn container_lines(out: &mut impl Write, records: u64, seed: u64) -> std::io::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut line, mut written) = (String::new(), 0);
    while written < records {
        line.clear();
        write_line(&mut random, &mut line);
        // Of the lines of a fleet those that are JSON.
        if !line.starts_with('{') {
            continue;
        }
        line.push('\n');
        let (second, nanos) = (written / 100, written % 100 * 9_999_999 + 1);
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        let time = format!("2026-01-02T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z");
        serde_json::to_writer(&mut *out, &json!({"log": line, "stream": "stdout", "time": time}))?;
        out.write_all(b"\n")?;
        written += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_its_records() {
        let mut out = Vec::new();
        let records = docker_lines(&mut out, 10_000, 7).unwrap();
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count() as u64, records);
        let first: serde_json::Value =
            serde_json::from_slice(out.split(|b| *b == b'\n').next().unwrap()).unwrap();
        assert!(first["log"].as_str().unwrap().ends_with('\n'));
    }
}

//! Docker's json-file records: one JSON object a line; long messages come in several records.

use super::file::{Line, Stream};
use crate::pipeline::{DockerRecord, read_rfc3339};

/// Joins the records of one file to the messages that were written.
///
/// All records of a message but the last lack its line end, and carry the time of the first; those of
/// stdout and stderr may take turns.
#[derive(Debug)]
pub(super) struct Joiner {
    stdout: Option<Partial>,
    stderr: Option<Partial>,
    max_bytes: usize,
}

#[derive(Debug)]
struct Partial {
    /// Offset of the first record.
    start: u64,
    time_text: String,
    text: String,
}

impl Joiner {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { stdout: None, stderr: None, max_bytes }
    }

    /// Takes the record that begins at `start`; finished messages are appended to `out`. What is no record is a
    /// line of its own.
    pub(super) fn push(&mut self, record: &str, start: u64, out: &mut Vec<Line>) {
        let Ok(record) = serde_json::from_str::<DockerRecord<'_>>(record) else {
            out.push(Line { text: record.to_owned(), stream: None, time: None });
            return;
        };
        let stream = if record.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
        let differs = self.slot(stream).as_ref().is_some_and(|p| p.time_text != record.time);
        if differs {
            // The writer ended without a line end, and another began.
            self.emit(stream, out);
        }
        if record.log.ends_with('\n') && self.slot(stream).is_none() {
            // The usual case: a message in one record.
            out.push(Line::of_container(record.log.into_owned(), stream, &record.time));
            return;
        }
        let max_bytes = self.max_bytes;
        let partial = self.slot(stream).get_or_insert_with(|| Partial {
            start,
            time_text: record.time.clone().into_owned(),
            text: String::new(),
        });
        partial.text.push_str(&record.log);
        let complete = partial.text.ends_with('\n') || partial.text.len() >= max_bytes;
        if complete {
            self.emit(stream, out);
        }
    }

    /// Ends messages that wait for a line end.
    pub(super) fn flush(&mut self, out: &mut Vec<Line>) {
        self.emit(Stream::Stdout, out);
        self.emit(Stream::Stderr, out);
    }

    /// Where the first unfinished message begins.
    pub(super) fn held_from(&self) -> Option<u64> {
        self.stdout.iter().chain(&self.stderr).map(|p| p.start).min()
    }

    fn slot(&mut self, stream: Stream) -> &mut Option<Partial> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn emit(&mut self, stream: Stream, out: &mut Vec<Line>) {
        let Some(partial) = self.slot(stream).take() else { return };
        out.push(Line::of_container(partial.text, stream, &partial.time_text));
    }
}

impl Line {
    /// A container's message, without its line end.
    fn of_container(mut text: String, stream: Stream, time: &str) -> Self {
        if text.ends_with('\n') {
            text.pop();
            // A terminal ends its lines with both.
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Self { text, stream: Some(stream), time: read_rfc3339(time) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(records: &[(&str, &str, &str)], want: &[(&str, &str)]) {
        let mut joiner = Joiner::new(1 << 20);
        let mut out = Vec::new();
        for (i, (log, stream, second)) in records.iter().enumerate() {
            let record = serde_json::json!({"log": log, "stream": stream, "time": format!("2024-01-02T03:04:0{second}Z")});
            joiner.push(&record.to_string(), i as u64, &mut out);
        }
        joiner.flush(&mut out);
        let shown: Vec<_> = out.iter().map(|l| (l.text.as_str(), l.time.unwrap().to_string())).collect();
        let want: Vec<_> = want.iter().map(|(text, s)| (*text, format!("2024-01-02T03:04:0{s}Z"))).collect();
        assert_eq!(shown, want);
    }

    #[test]
    fn joins_partial_records() {
        check(&[("ab", "stdout", "1"), ("cd\n", "stdout", "1")], &[("abcd", "1")]);
        check(
            &[("a", "stdout", "1"), ("x\n", "stderr", "2"), ("b\n", "stdout", "1")],
            &[("x", "2"), ("ab", "1")],
        );
        check(&[("a", "stdout", "1"), ("b\n", "stdout", "3")], &[("a", "1"), ("b", "3")]);
        check(&[("tty\r\n", "stdout", "1"), ("", "stdout", "2")], &[("tty", "1"), ("", "2")]);
    }
}

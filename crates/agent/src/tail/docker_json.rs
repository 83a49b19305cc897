//! Docker's json-file records: one JSON object a line; long messages come in several records.

use super::file::{Line, Stream};
use crate::json_text::unescape;
use crate::pipeline::{DockerRecord, read_rfc3339};
use crate::source::Ranges;

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
    /// All records.
    ranges: Ranges,
    time_text: String,
    text: String,
}

impl Joiner {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { stdout: None, stderr: None, max_bytes }
    }

    /// Takes the record that lies, with its line end, in these bytes of the file; finished messages are appended to `out`. What is no
    /// record is a line of its own.
    pub(super) fn push(&mut self, record: &str, bytes: std::ops::Range<u64>, out: &mut Vec<Line>) {
        let ranges = Ranges::one(bytes.start, bytes.end);
        if let Some((log, stream, time)) = read_usual(record) {
            return self.take(log, stream, time, ranges, out);
        }
        match serde_json::from_str::<DockerRecord<'_>>(record) {
            Ok(record) => {
                let stream = if record.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
                self.take(record.log.into_owned(), stream, &record.time, ranges, out);
            }
            Err(_) => out.push(Line { text: record.to_owned(), stream: None, time: None, ranges }),
        }
    }

    fn take(&mut self, log: String, stream: Stream, time: &str, ranges: Ranges, out: &mut Vec<Line>) {
        let max_bytes = self.max_bytes;
        let slot = self.slot(stream);
        if slot.as_ref().is_some_and(|partial| partial.time_text != time) {
            // The writer ended without a line end, and another began.
            out.extend(slot.take().map(|partial| partial.end(stream)));
        }
        let Some(partial) = slot else {
            if log.ends_with('\n') {
                // The usual case: a message in one record.
                return out.push(Line::of_container(log, stream, time, ranges));
            }
            let start = ranges.as_slice().first().map_or(0, |range| range.start);
            *slot = Some(Partial { start, ranges, time_text: time.to_owned(), text: log });
            return;
        };
        partial.text.push_str(&log);
        partial.ranges.join(&ranges);
        if partial.text.ends_with('\n') || partial.text.len() >= max_bytes {
            out.extend(slot.take().map(|partial| partial.end(stream)));
        }
    }

    /// Ends messages that wait for a line end.
    pub(super) fn flush(&mut self, out: &mut Vec<Line>) {
        out.extend(self.stdout.take().map(|partial| partial.end(Stream::Stdout)));
        out.extend(self.stderr.take().map(|partial| partial.end(Stream::Stderr)));
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
}

impl Partial {
    fn end(self, stream: Stream) -> Line {
        Line::of_container(self.text, stream, &self.time_text, self.ranges)
    }
}

/// A record byte for byte as Docker writes it where no attributes are asked for: message, stream, time. Any other takes a parser.
fn read_usual(record: &str) -> Option<(String, Stream, &str)> {
    let (log, rest) = unescape(record.strip_prefix("{\"log\":\"")?)?;
    let rest = rest.strip_prefix(",\"stream\":\"std")?;
    let (stream, rest) = match rest.strip_prefix("out\"") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix("err\"")?),
    };
    let time = rest.strip_prefix(",\"time\":\"")?.strip_suffix("\"}")?;
    let is_plain = time.bytes().all(|byte| byte.is_ascii_digit() || b"-+.:TZ".contains(&byte));
    is_plain.then_some((log, stream, time))
}

impl Line {
    /// A container's message, without its line end.
    fn of_container(mut text: String, stream: Stream, time: &str, ranges: Ranges) -> Self {
        if text.ends_with('\n') {
            text.pop();
            // A terminal ends its lines with both.
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Self { text, stream: Some(stream), time: read_rfc3339(time), ranges }
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
            let start = 10 * i as u64;
            joiner.push(&record.to_string(), start..start + 10, &mut out);
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
    #[test]
    fn usual_records_are_read_as_a_parser_reads_them() {
        let usual = |log: &str| {
            let record = format!(r#"{{"log":"{log}","stream":"stderr","time":"2024-01-02T03:04:05.5Z"}}"#);
            let read = read_usual(&record).map(|(log, stream, time)| (log, stream, time.to_owned()));
            let parsed: DockerRecord<'_> = serde_json::from_str(&record).unwrap();
            if let Some((log, _, time)) = &read {
                assert_eq!((log.as_str(), time.as_str()), (&*parsed.log, &*parsed.time));
            }
            read.is_some()
        };
        assert!(usual(r#"{\"level\":\"info\",\"x\":\"\u003c\u0026é\\\"}\n"#));
        assert!(usual(""));
        assert!(!usual(r"\ud83d\ude00\n"), "a parser's");
        for other in [
            r#"{"log":"x","stream":"stdout","attrs":{"tag":"t"},"time":"2024-01-02T03:04:05Z"}"#,
            r#"{"stream":"stdout","time":"2024-01-02T03:04:05Z"}"#,
            r#"{"log":"x","stream":"stdout","time":"2024","x":"y"}"#,
            r#"{"log":"x","stream":"stdout","time":"2024-01-02T03:04:05Z"}}"#,
        ] {
            assert!(read_usual(other).is_none(), "{other}");
        }
    }

    /// Which records go into which message, as a plain reading of the rules has it.
    fn plain(records: &[(bool, bool, u8)]) -> Vec<Vec<usize>> {
        let mut messages = Vec::new();
        let mut open: [Option<(u8, Vec<usize>)>; 2] = [None, None];
        for (i, (is_stderr, ends, time)) in records.iter().enumerate() {
            let slot = &mut open[usize::from(*is_stderr)];
            if slot.as_ref().is_some_and(|(begun, _)| begun != time) {
                messages.extend(slot.take().map(|(_, parts)| parts));
            }
            slot.get_or_insert((*time, Vec::new())).1.push(i);
            if *ends {
                messages.extend(slot.take().map(|(_, parts)| parts));
            }
        }
        messages.extend(open.into_iter().flatten().map(|(_, parts)| parts));
        messages
    }

    proptest::proptest! {
        #[test]
        fn messages_have_the_bytes_of_their_records(
            records in proptest::collection::vec((proptest::bool::ANY, proptest::bool::ANY, 0u8..3), 0..20),
        ) {
            let (mut joiner, mut out) = (Joiner::new(1 << 20), Vec::new());
            for (i, (is_stderr, ends, time)) in records.iter().enumerate() {
                let (stream, end) = (if *is_stderr { "stderr" } else { "stdout" }, if *ends { "\n" } else { "" });
                let record = serde_json::json!({"log": format!("{i} {end}"), "stream": stream, "time": format!("2024-01-02T03:04:0{time}Z")});
                joiner.push(&record.to_string(), 10 * i as u64..10 * i as u64 + 10, &mut out);
            }
            joiner.flush(&mut out);
            let text = |parts: &Vec<usize>| parts.iter().map(|i| format!("{i} ")).collect::<String>();
            let ranges = |parts: &Vec<usize>| {
                let mut ranges = Ranges::None;
                parts.iter().for_each(|i| ranges.join(&Ranges::one(10 * *i as u64, 10 * *i as u64 + 10)));
                ranges
            };
            let want: Vec<_> = plain(&records).iter().map(|parts| (text(parts), ranges(parts))).collect();
            let got: Vec<_> = out.into_iter().map(|line| (line.text, line.ranges)).collect();
            proptest::prop_assert_eq!(got, want);
        }
    }
}

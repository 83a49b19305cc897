//! Pushes in JSON, the present and the legacy form.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};

use super::{PushEntry, PushRequest, PushStream, rfc3339};
use crate::json::{Kind, Reader};
use crate::{JsonError, Str};

/// `{"streams":[{"stream":{…},"values":[["<ns>","<line>",{…}]]}]}`
pub(super) fn decode(body: Bytes) -> Result<PushRequest, JsonError> {
    Decoder::new(body).request(Decoder::stream)
}

/// `{"streams":[{"labels":"{…}","entries":[{"ts":"<RFC 3339>","line":"…"}]}]}`
pub(super) fn decode_legacy(body: Bytes) -> Result<PushRequest, JsonError> {
    Decoder::new(body).request(Decoder::legacy_stream)
}

/// Where strings go: those without escapes share the body, the others lie one behind the other in
/// buffers of their own, so that a line costs no allocation either way.
struct Decoder {
    text: Str,
    unescaped: BytesMut,
    /// The string being unescaped.
    scratch: Vec<u8>,
}

/// How much is allocated at once for strings with escapes.
const BUFFER: usize = 64 << 10;

type ReadStream = fn(&mut Decoder, &mut Reader<'_>) -> Result<PushStream, JsonError>;

impl Decoder {
    fn new(body: Bytes) -> Self {
        Self { text: Str::from_utf8_lossy(body), unescaped: BytesMut::new(), scratch: Vec::new() }
    }

    fn request(mut self, read_stream: ReadStream) -> Result<PushRequest, JsonError> {
        let mut request = PushRequest::default();
        let text = self.text.clone();
        let mut reader = Reader::new(&text);
        if !reader.null()? {
            reader.object(|reader, key| match &*key {
                "streams" => elements(reader, |reader| {
                    request.streams.push(read_stream(&mut self, reader)?);
                    Ok(())
                }),
                _ => reader.skip().map(drop),
            })?;
        }
        reader.end()?;
        Ok(request)
    }

    fn stream(&mut self, reader: &mut Reader<'_>) -> Result<PushStream, JsonError> {
        let mut stream = PushStream { labels: "{}".to_owned(), ..PushStream::default() };
        reader.object(|reader, key| match &*key {
            "stream" if !reader.null()? => {
                stream.labels = labels(reader)?;
                Ok(())
            }
            "values" => elements(reader, |reader| {
                stream.entries.push(self.entry(reader)?);
                Ok(())
            }),
            "stream" => Ok(()),
            _ => reader.skip().map(drop),
        })?;
        Ok(stream)
    }

    /// `["<ns>", "<line>", {metadata}]`; further elements are ignored.
    fn entry(&mut self, reader: &mut Reader<'_>) -> Result<PushEntry, JsonError> {
        let mut entry = PushEntry::default();
        let mut has_timestamp = false;
        reader.array(|reader, index| {
            match index {
                0 => {
                    entry.timestamp_ns = timestamp(reader)?;
                    has_timestamp = true;
                }
                1 => entry.line = self.text(reader)?,
                2 => entry.metadata = self.metadata(reader)?,
                _ => drop(reader.skip()?),
            }
            Ok(())
        })?;
        if has_timestamp { Ok(entry) } else { Err(reader.error("an entry must have a timestamp")) }
    }

    fn metadata(&mut self, reader: &mut Reader<'_>) -> Result<Vec<(Str, Str)>, JsonError> {
        let mut metadata = Vec::new();
        reader.object(|reader, name| {
            let name = match name {
                Cow::Borrowed(name) => self.text.slice_ref(name),
                Cow::Owned(name) => name.into(),
            };
            metadata.push((name, self.text(reader)?));
            Ok(())
        })?;
        Ok(metadata)
    }

    fn legacy_stream(&mut self, reader: &mut Reader<'_>) -> Result<PushStream, JsonError> {
        let mut stream = PushStream::default();
        reader.object(|reader, key| match &*key {
            "labels" => {
                stream.labels = reader.string()?.into_owned();
                Ok(())
            }
            "entries" => elements(reader, |reader| {
                stream.entries.push(self.legacy_entry(reader)?);
                Ok(())
            }),
            _ => reader.skip().map(drop),
        })?;
        Ok(stream)
    }

    fn legacy_entry(&mut self, reader: &mut Reader<'_>) -> Result<PushEntry, JsonError> {
        let mut entry = PushEntry::default();
        reader.object(|reader, key| {
            match &*key {
                "ts" | "timestamp" => {
                    let text = reader.string()?;
                    entry.timestamp_ns = rfc3339::parse(&text)
                        .ok_or_else(|| reader.error(format!("timestamp {text:?} is not RFC 3339")))?;
                }
                "line" => entry.line = self.text(reader)?,
                _ => drop(reader.skip()?),
            }
            Ok(())
        })?;
        Ok(entry)
    }

    fn text(&mut self, reader: &mut Reader<'_>) -> Result<Str, JsonError> {
        let quoted = reader.quoted()?;
        if !quoted.escaped {
            return Ok(self.text.slice_ref(quoted.source));
        }
        self.scratch.clear();
        reader.unescape(quoted, &mut self.scratch)?;
        if self.unescaped.capacity() < self.scratch.len() {
            self.unescaped = BytesMut::with_capacity(self.scratch.len().max(BUFFER.min(self.text.len())));
        }
        self.unescaped.extend_from_slice(&self.scratch);
        Ok(Str::from_utf8_lossy(self.unescaped.split().freeze()))
    }
}

/// An array whose nulls are skipped; null itself is an empty one.
fn elements<'a>(
    reader: &mut Reader<'a>,
    mut element: impl FnMut(&mut Reader<'a>) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    if reader.null()? {
        return Ok(());
    }
    reader.array(|reader, _| if reader.null()? { Ok(()) } else { element(reader) })
}

/// Nanoseconds as a decimal string; only a string, as a number may have lost digits on its way.
fn timestamp(reader: &mut Reader<'_>) -> Result<i64, JsonError> {
    if reader.peek()? != Kind::String {
        return Err(reader.error("a timestamp must be a string with nanoseconds since the epoch"));
    }
    let text = reader.string()?;
    text.parse().map_err(|_| {
        reader.error(format!("timestamp {text:?} is not a number of nanoseconds since the epoch"))
    })
}

/// A label object as the text that protobuf pushes have, sorted by name; of equal names the last
/// wins. Values that are not strings are taken as their source text.
fn labels(reader: &mut Reader<'_>) -> Result<String, JsonError> {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    reader.object(|reader, name| {
        let value = match reader.peek()? {
            Kind::String => reader.string()?,
            _ => Cow::Borrowed(reader.skip()?),
        };
        pairs.push((name, value));
        Ok(())
    })?;
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut text = String::from("{");
    for (i, (name, value)) in pairs.iter().enumerate() {
        if pairs.get(i + 1).is_some_and(|(next, _)| next == name) {
            continue;
        }
        let comma = if text.len() == 1 { "" } else { ", " };
        let _ = write!(text, "{comma}{name}={}", model::quote(value));
    }
    text.push('}');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(values: &str) -> Result<PushRequest, JsonError> {
        decode(format!(r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[{values}]}}]}}"#).into())
    }

    #[test]
    fn accepted() {
        type Entry<'a> = (i64, &'a str, &'a [(&'a str, &'a str)]);
        fn check(values: &str, expect: &[Entry<'_>]) {
            let request = one(values).unwrap();
            assert_eq!(request.streams[0].labels, r#"{a="b"}"#);
            let found: Vec<_> = request.streams[0]
                .entries
                .iter()
                .map(|e| {
                    (e.timestamp_ns, e.line.as_str(), e.metadata.iter().map(|(n, v)| (&**n, &**v)).collect())
                })
                .collect::<Vec<(_, _, Vec<_>)>>();
            let expect: Vec<_> = expect.iter().map(|(t, l, m)| (*t, *l, m.to_vec())).collect();
            assert_eq!(found, expect, "{values}");
        }
        check(r#"["1","x"]"#, &[(1, "x", &[])]);
        check(
            r#" [ "1" , "x\n\"" , { "k" : "v\t" } ] , null , ["2",""]"#,
            &[(1, "x\n\"", &[("k", "v\t")]), (2, "", &[])],
        );
        check(r#"["1"]"#, &[(1, "", &[])]);
        check(r#"["-5","x",{},"more",[1]]"#, &[(-5, "x", &[])]);
        check("[\"1\",\"tab\there\"]", &[(1, "tab\there", &[])]);
    }

    #[test]
    fn refused() {
        for values in [
            r#"[1,"x"]"#,
            r#"["1.5","x"]"#,
            r#"["","x"]"#,
            r#"["99999999999999999999","x"]"#,
            r#"["1",5]"#,
            r#"["1",null]"#,
            r#"["1","x",["a"]]"#,
            r#"["1","x",{"a":1}]"#,
            r#"["1","x",{"a":null}]"#,
            r#"["1","x",null]"#,
            r#"[]"#,
            r#"{"ts":"1"}"#,
            r#"["1","x""#,
            r#"["1","\x"]"#,
            r#"["1","\u12g4"]"#,
        ] {
            let error = one(values).unwrap_err();
            assert!(
                error.path.starts_with("streams[0].values[0]") || error.problem.contains("',' or"),
                "{error}"
            );
        }
        for body in ["", "[]", "{", r#"{"streams":{}}"#, r#"{"streams":[1]}"#, r#"{"streams":[]} x"#] {
            assert!(decode(Bytes::from_static(body.as_bytes())).is_err(), "{body}");
        }
    }

    #[test]
    fn odd_labels_and_nulls() {
        let labels = |stream: &str| {
            let body = format!(
                r#"{{"other":{{"x":[1,{{}}]}},"streams":[null,{{"values":null,"stream":{stream},"x":1}}]}}"#
            );
            decode(body.into()).unwrap().streams.remove(0).labels
        };
        assert_eq!(labels("null"), "{}");
        assert_eq!(labels("{}"), "{}");
        assert_eq!(labels(r#"{"b":1.50,"a":"q\"","c":true,"b":"last"}"#), r#"{a="q\"", b="last", c="true"}"#);
        assert_eq!(labels(r#"{"n":12}"#), r#"{n="12"}"#);
        for body in ["null", "{}", r#"{"streams":null}"#, " {\"streams\" : [ ] }\n"] {
            assert_eq!(decode(Bytes::from_static(body.as_bytes())), Ok(PushRequest::default()), "{body}");
        }
    }

    #[test]
    fn lines_share_the_body_and_bad_bytes_are_replaced() {
        let body = Bytes::from_static(b"{\"streams\":[{\"stream\":{},\"values\":[[\"1\",\"shared\"]]}]}");
        let line = decode(body.clone()).unwrap().streams[0].entries[0].line.clone();
        assert!(body.as_ptr_range().contains(&line.as_ptr()));
        let body = Bytes::from_static(b"{\"streams\":[{\"stream\":{},\"values\":[[\"1\",\"\xff\xfe\"]]}]}");
        assert_eq!(decode(body).unwrap().streams[0].entries[0].line, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn lines_with_escapes_share_buffers_too() {
        let long = "\\\"".repeat(BUFFER);
        let values = format!(r#"["1","a\n"],["2","\u00e9"],["3","{long}"],["4","\t"]"#);
        let entries = one(&values).unwrap().streams.remove(0).entries;
        let lines: Vec<_> = entries.iter().map(|e| e.line.as_str()).collect();
        assert_eq!(lines, ["a\n", "é", "\"".repeat(BUFFER).as_str(), "\t"]);
        assert_eq!(lines[0].as_ptr().wrapping_add(2), lines[1].as_ptr());
    }

    #[test]
    fn legacy() {
        let body = r#"{"streams":[{"labels":"{app=\"x\"}","entries":[{"ts":"2024-01-02T03:04:05.6Z","line":"l","x":0}]}]}"#;
        let request = decode_legacy(Bytes::from_static(body.as_bytes())).unwrap();
        assert_eq!(request.streams[0].labels, r#"{app="x"}"#);
        assert_eq!(request.streams[0].entries[0].timestamp_ns, 1_704_164_645_600_000_000);
        assert_eq!(request.streams[0].entries[0].line, "l");
        let bad = r#"{"streams":[{"labels":"{}","entries":[{"ts":"yesterday","line":"l"}]}]}"#;
        let error = decode_legacy(Bytes::from_static(bad.as_bytes())).unwrap_err().to_string();
        assert_eq!(error, "streams[0].entries[0].ts: timestamp \"yesterday\" is not RFC 3339 (at byte 55)");
    }
}

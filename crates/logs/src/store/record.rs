//! The body of an ingest log record: one push, normalised, so that replay needs no rule of ingest.
//!
//! Layout, all numbers varints (`i` = zigzag): version; in version 2, which has them: sources; per source: id (16 bytes), low;
//! pieces; per piece: place of the source, start (`i` difference to the end before), length; in both: streams; per stream: labels text; rows; timestamps (first `i`, then
//! `i` differences); line lengths; lines; columns; per column: name; values; row differences if not every row has one;
//! per value 0 (as before) or length + 1 and the text.

use bytes::Bytes;
use model::Labels;

use crate::store::codec::{CodecError, Reader, put_i64, put_str, put_u64};
use crate::store::origins::Origins;
use crate::store::rows::{Column, Rows, StreamRows};

/// Nobody said where the rows come from.
const PLAIN: u8 = 1;
/// Begins with what the rows come from.
const WITH_ORIGINS: u8 = 2;

/// Writes the record of a push.
pub fn encode(rows: &Rows) -> Bytes {
    let lines: usize = rows.streams.iter().map(|s| s.lines.len() + 8 * s.len() + 64).sum();
    let mut out = Vec::with_capacity(lines + 64);
    if rows.origins.is_empty() {
        out.push(PLAIN);
    } else {
        out.push(WITH_ORIGINS);
        rows.origins.encode(&mut out);
    }
    put_u64(&mut out, rows.streams.len() as u64);
    for stream in &rows.streams {
        encode_stream(stream, &mut out);
    }
    out.into()
}

fn encode_stream(stream: &StreamRows, out: &mut Vec<u8>) {
    put_str(out, &stream.labels.to_string());
    put_u64(out, stream.len() as u64);
    let mut before = 0i64;
    for &timestamp in &stream.timestamps {
        put_i64(out, timestamp.wrapping_sub(before));
        before = timestamp;
    }
    let mut start = 0;
    for &end in &stream.line_ends {
        put_u64(out, u64::from(end - start));
        start = end;
    }
    out.extend_from_slice(stream.lines.as_bytes());
    put_u64(out, stream.columns.len() as u64);
    for column in &stream.columns {
        encode_column(column, stream.len(), out);
    }
}

fn encode_column(column: &Column, rows: usize, out: &mut Vec<u8>) {
    put_str(out, &column.name);
    put_u64(out, column.rows.len() as u64);
    if column.rows.len() < rows {
        let mut before = 0;
        for &row in &column.rows {
            put_u64(out, u64::from(row - before));
            before = row;
        }
    }
    let mut before = None;
    for (place, value) in column.places() {
        if before.as_ref() == Some(&place) {
            out.push(0);
        } else {
            put_u64(out, value.len() as u64 + 1);
            out.extend_from_slice(value.as_bytes());
            before = Some(place);
        }
    }
}

/// Reads what the rows of a record come from; `None` when it does not say.
pub fn origins(body: &[u8]) -> Result<Option<Origins>, CodecError> {
    head(&mut Reader::new(body))
}

fn head(reader: &mut Reader<'_>) -> Result<Option<Origins>, CodecError> {
    match reader.byte()? {
        PLAIN => Ok(None),
        WITH_ORIGINS => Origins::decode(reader).map(Some),
        other => Err(CodecError::Version(other)),
    }
}

/// Reads the rows of a record back; equal to what was encoded but for their origins, which no row has after that.
pub fn decode(body: &[u8]) -> Result<Rows, CodecError> {
    let mut reader = Reader::new(body);
    head(&mut reader)?;
    let streams = (0..reader.count()?).map(|_| decode_stream(&mut reader)).collect::<Result<_, _>>()?;
    if reader.remaining() > 0 {
        return Err(CodecError::Invalid("bytes after the end"));
    }
    Ok(Rows { streams, ..Rows::default() })
}

fn decode_stream(reader: &mut Reader<'_>) -> Result<StreamRows, CodecError> {
    let labels = Labels::parse(reader.str()?).map_err(|_| CodecError::Invalid("labels"))?;
    let mut rows = StreamRows::new(labels);
    let count = reader.count()?;
    rows.timestamps.reserve_exact(count);
    let mut timestamp = 0i64;
    for _ in 0..count {
        timestamp = timestamp.wrapping_add(reader.i64()?);
        rows.timestamps.push(timestamp);
    }
    rows.line_ends.reserve_exact(count);
    let mut end = 0u64;
    for _ in 0..count {
        end =
            end.checked_add(reader.u64()?).filter(|e| *e <= i32::MAX as u64).ok_or(CodecError::Truncated)?;
        rows.line_ends.push(end as u32);
    }
    rows.lines = reader.text(end as usize)?.to_owned();
    if !rows.line_ends.iter().all(|e| rows.lines.is_char_boundary(*e as usize)) {
        return Err(CodecError::Utf8);
    }
    rows.columns = (0..reader.count()?).map(|_| decode_column(reader, count)).collect::<Result<_, _>>()?;
    Ok(rows)
}

fn decode_column(reader: &mut Reader<'_>, count: usize) -> Result<Column, CodecError> {
    let mut column = Column::new(reader.str()?.into());
    let values = reader.count()?;
    let mut at = Vec::with_capacity(values);
    if values > count {
        return Err(CodecError::Invalid("number of values"));
    } else if values == count {
        at.extend(0..count as u32);
    } else {
        let mut row = 0u64;
        for i in 0..values {
            let step = reader.u64()?;
            row = row.checked_add(step).filter(|r| *r < count as u64).ok_or(CodecError::Invalid("row"))?;
            if i > 0 && step == 0 {
                return Err(CodecError::Invalid("row"));
            }
            at.push(row as u32);
        }
    }
    let mut value = "";
    for (i, row) in at.into_iter().enumerate() {
        match reader.u64()? {
            0 if i == 0 => return Err(CodecError::Invalid("value")),
            0 => {}
            length => value = reader.text(usize::try_from(length - 1).map_err(|_| CodecError::Truncated)?)?,
        }
        column.set(row, value);
    }
    Ok(column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::origins::Piece;
    use proptest::prelude::*;
    use wire::loki::Source;

    fn rows() -> impl Strategy<Value = Rows> {
        let entry = (any::<i64>(), ".{0,8}", proptest::collection::vec(("[a-c]", "[x-z]{0,2}"), 0..4));
        let stream = ("[a-z]{1,3}", proptest::collection::vec(entry, 0..6)).prop_map(|(app, entries)| {
            let mut stream = StreamRows::new(Labels::from_pairs([("app", app)]));
            for (timestamp, line, metadata) in entries {
                stream.push(timestamp, &line);
                metadata.iter().for_each(|(name, value)| stream.set_metadata(name, value));
            }
            stream
        });
        let source = any::<u128>().prop_map(|id| Source { id, low: 7 });
        let sources = proptest::collection::vec(source, 0..2);
        (proptest::collection::vec(stream, 0..4), sources).prop_map(|(mut streams, sources)| {
            for (n, stream) in streams.iter_mut().enumerate().filter(|(_, s)| !s.is_empty()) {
                let start = 10 * n as u64;
                stream.set_origin(sources.iter().map(|_| Piece { source: 0, start, end: start + 3 }));
            }
            let origins = Origins::of(sources, &streams);
            Rows { streams, origins }
        })
    }

    #[test]
    fn records_of_the_first_version_are_read() {
        let mut stream = StreamRows::new(Labels::from_pairs([("a", "b")]));
        stream.push(3, "xy");
        let rows = Rows { streams: vec![stream], ..Rows::default() };
        let body = b"\x01\x01\x07{a=\"b\"}\x01\x06\x02xy\x00";
        assert_eq!(encode(&rows)[..], body[..], "who sends no origins writes what was always written");
        assert_eq!((decode(body), origins(body)), (Ok(rows), Ok(None)));
    }

    fn plain(rows: &Rows) -> Vec<String> {
        rows.streams
            .iter()
            .map(|s| {
                let lines: Vec<_> = (0..s.len()).map(|r| (s.timestamps[r], s.line(r))).collect();
                let columns: Vec<(_, Vec<_>)> =
                    s.columns.iter().map(|c| (&c.name, c.iter().collect())).collect();
                format!("{} {lines:?} {columns:?}", s.labels)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn comes_back(rows in rows()) {
            let body = encode(&rows);
            prop_assert_eq!(plain(&decode(&body).unwrap()), plain(&rows));
            prop_assert_eq!(origins(&body).unwrap().unwrap_or_default(), rows.origins);
        }

        #[test]
        fn cut_records_are_refused(rows in rows(), cut: proptest::sample::Index) {
            let body = encode(&rows);
            let cut = cut.index(body.len());
            prop_assert!(decode(&body[..cut]).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>) {
            for version in [PLAIN, WITH_ORIGINS] {
                bytes.insert(0, version);
                let _ = decode(&bytes);
            }
        }
    }
}

//! Makes a block out of streams: those in order of their labels, entries in order of time, metadata columns and fields of lines
//! chosen by counting.

use std::sync::Arc;

use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use block::{Batches, BlockEnd, BlockSummary, SealError, SealedBlock};
use hashbrown::HashSet;
use logql::Metadata;
use model::{Labels, Timestamp};
use shred::Lines;

use crate::ingest::level::DETECTED_LEVEL;
use crate::store::entries::{Entries, as_strings, relayout};
use crate::store::head::LogsHead;
use crate::store::index::{GRANULE_ROWS, IndexBuilder, IndexStream, RestNames};
use crate::store::merge::merge_overlaps;
use crate::store::needles::Needles;
use crate::store::plan::{Census, Plan};
use crate::store::schema;

/// A stream of a block to be: its entries, ascending and without duplicates.
#[derive(Debug, Clone)]
pub(crate) struct SealStream {
    pub(crate) labels: Labels,
    pub(crate) pieces: Vec<Entries>,
}

/// Seals all rows of a head into one block, or none if there is no row.
pub(crate) fn seal(head: &LogsHead) -> Result<Vec<SealedBlock>, SealError> {
    let mut streams = Vec::new();
    for selection in head.select(&[], i64::MIN, i64::MAX)? {
        let pieces = merge_overlaps(selection.chunks.iter().map(|c| vec![c.entries.clone()]).collect())?;
        streams.push(SealStream { labels: selection.labels, pieces });
    }
    seal_streams(streams)
}

/// Seals streams, sorted by their labels, into one block, or none if there is no row. The lines of a piece may be texts or taken
/// apart; each piece is dropped when it is written.
pub(crate) fn seal_streams(streams: Vec<SealStream>) -> Result<Vec<SealedBlock>, SealError> {
    let rows: usize = streams.iter().flat_map(|s| &s.pieces).map(Entries::len).sum();
    if rows == 0 {
        return Ok(Vec::new());
    }
    let mut census = Census::new(rows as u64);
    streams.iter().flat_map(|s| &s.pieces).for_each(|piece| census.add(piece));
    let pieces = streams.into_iter().flat_map(|stream| {
        let labels = stream.labels;
        stream.pieces.into_iter().map(move |piece| Ok((labels.clone(), piece)))
    });
    Ok(vec![seal_pieces(census.finish(), pieces)])
}

/// Seals pieces as they come: sorted by labels, then ascending in time and without duplicates. The plan was made of them, or of
/// enough of them to stand for all.
pub(crate) fn seal_pieces<I>(plan: Plan, pieces: I) -> SealedBlock
where
    I: Iterator<Item = Result<(Labels, Entries), SealError>> + Send + 'static,
{
    let schema = schema::schema(&plan.columns, &plan.shredder.table().fields);
    let parquet = plan.settings();
    let mut index = IndexBuilder::new();
    let needles = Needles::new(&plan, &mut index);
    let writing = Writing {
        schema: schema.clone(),
        plan,
        index,
        needles,
        pieces,
        cut: None,
        stream: None,
        rest: HashSet::new(),
        line: String::new(),
    };
    SealedBlock { schema, batches: Box::new(writing), parquet }
}

/// Hands the rows out in batches of a granule, many small streams or a part of a large one at a time.
struct Writing<I> {
    schema: SchemaRef,
    plan: Plan,
    index: IndexBuilder,
    needles: Needles,
    pieces: I,
    /// The rest of a piece that did not fit.
    cut: Option<(Labels, Entries)>,
    /// The stream of the row before.
    stream: Option<Labels>,
    /// Metadata names in the map.
    rest: HashSet<Arc<str>>,
    line: String,
}

impl<I: Iterator<Item = Result<(Labels, Entries), SealError>>> Writing<I> {
    fn batch(&mut self) -> Result<Option<RecordBatch>, SealError> {
        let mut taken: Vec<(Labels, Int64Array, Metadata)> = Vec::new();
        let mut room = GRANULE_ROWS as usize;
        while room > 0 {
            let Some((labels, piece)) = self.cut.take().map(Ok).or_else(|| self.pieces.next()).transpose()?
            else {
                break;
            };
            let count = piece.len().min(room);
            if count < piece.len() {
                self.cut = Some((labels.clone(), piece.slice(count..piece.len())));
            }
            room -= count;
            if count > 0 {
                let piece = if count < piece.len() { piece.slice(0..count) } else { piece };
                self.add(&labels, &piece)?;
                let metadata = relayout(&piece.metadata, piece.len(), &self.plan.columns);
                self.note_rest(&metadata);
                taken.push((labels, piece.timestamps, metadata));
            }
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let lines = self.plan.shredder.finish_batch();
        self.needles.add(&lines, taken.iter().map(|(_, _, metadata)| metadata), &mut self.index);
        Ok(Some(schema::batch(&self.schema, &self.plan.columns, &taken, &lines)?))
    }

    /// Takes the lines of a piece apart and notes its rows in the index.
    fn add(&mut self, labels: &Labels, piece: &Entries) -> Result<(), SealError> {
        if self.stream.as_ref() != Some(labels) {
            self.index.stream(labels.clone());
            self.stream = Some(labels.clone());
        }
        let times = piece.timestamps.values();
        let levels = levels(&piece.metadata);
        let note = |index: &mut IndexBuilder, row: usize, time: i64, bytes: usize| {
            index.row(time, bytes);
            match &levels {
                Noted::Column(levels) if levels.is_valid(row) => index.level(levels.value(row)),
                Noted::Column(_) | Noted::None => index.level(""),
                Noted::InMap => {}
            }
        };
        match &piece.lines {
            Lines::Absent => return Err(SealError::Other("rows are sealed without their lines".to_owned())),
            Lines::Text(lines) => {
                for (row, time) in times.iter().enumerate() {
                    let line = lines.value(row);
                    self.plan.shredder.push(line);
                    note(&mut self.index, row, *time, line.len());
                }
            }
            Lines::Shredded(lines) => {
                for (row, time) in times.iter().enumerate() {
                    self.line.clear();
                    lines.line(row, &mut self.line);
                    self.plan.shredder.push(&self.line);
                    note(&mut self.index, row, *time, self.line.len());
                }
            }
        }
        Ok(())
    }

    fn note_rest(&mut self, metadata: &Metadata) {
        let keys = metadata.rest.as_ref().and_then(|rest| as_strings(rest.keys().as_ref()));
        for name in keys.iter().flat_map(|keys| keys.iter().flatten()) {
            if !self.rest.contains(name) {
                self.rest.insert(name.into());
            }
        }
    }
}

/// Where the levels of entries are.
enum Noted<'a> {
    Column(&'a StringArray),
    /// Among rare names, where they are not looked for.
    InMap,
    None,
}

fn levels(metadata: &Metadata) -> Noted<'_> {
    let keys = metadata.rest.as_ref().and_then(|rest| as_strings(rest.keys().as_ref()));
    if keys.is_some_and(|keys| keys.iter().flatten().any(|key| key == DETECTED_LEVEL)) {
        return Noted::InMap;
    }
    let column = metadata.columns.iter().find(|(name, _)| **name == *DETECTED_LEVEL);
    column.map_or(Noted::None, |(_, levels)| Noted::Column(levels))
}

impl<I: Iterator<Item = Result<(Labels, Entries), SealError>>> Iterator for Writing<I> {
    type Item = Result<RecordBatch, SealError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

impl<I: Iterator<Item = Result<(Labels, Entries), SealError>> + Send> Batches for Writing<I> {
    fn end(mut self: Box<Self>) -> Result<BlockEnd, SealError> {
        let summary = summary(self.index.streams());
        let rest = RestNames::new(self.rest.into_iter().collect());
        let index = self.index.finish(self.plan.shredder.table(), &self.plan.columns, &rest);
        Ok(BlockEnd { index, summary })
    }
}

fn summary(streams: &[IndexStream]) -> BlockSummary {
    BlockSummary {
        min_time: Timestamp(streams.iter().map(IndexStream::first).min().unwrap_or_default()),
        max_time: Timestamp(streams.iter().map(IndexStream::last).max().unwrap_or_default()),
        rows: streams.last().map_or(0, |s| s.rows.end),
        bytes: streams.iter().flat_map(|s| &s.parts).map(|p| p.bytes).sum(),
        detail: serde_json::json!({ "streams": streams.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entries::tests::plain;
    use crate::store::index::BlockIndex;
    use crate::store::rows::{Rows, StreamRows};

    fn head(streams: &[&str], pushes: i64, line: impl Fn(i64, &str) -> String) -> LogsHead {
        let head = LogsHead::default();
        for push in 0..pushes {
            let streams = streams.iter().map(|app| {
                let mut rows = StreamRows::new(Labels::from_pairs([("app", *app)]));
                for i in 0..150 {
                    // Every second push repeats the one before.
                    let time = (push / 2 * 150 + i) ^ 5;
                    rows.push(time, &line(time, app));
                    rows.set_metadata("detected_level", if i % 2 == 0 { "info" } else { "warn" });
                    if time == 700 {
                        rows.set_metadata("rare", "x");
                        rows.set_metadata("line", "reserved");
                    }
                }
                rows
            });
            head.insert(Rows { streams: streams.collect(), ..Rows::default() });
        }
        head
    }

    fn written(mut block: SealedBlock) -> (BlockIndex, BlockSummary, Vec<Entries>) {
        let batches: Vec<RecordBatch> = block.batches.by_ref().collect::<Result<_, _>>().unwrap();
        let BlockEnd { index, summary } = block.batches.end().unwrap();
        let index = BlockIndex::decode(&index).unwrap();
        let entries = batches.iter().map(|b| schema::entries(b, &index.table, true, None).unwrap()).collect();
        (index, summary, entries)
    }

    #[test]
    fn streams_follow_each_other_without_duplicates() {
        let line = |time: i64, app: &str| format!("line {time} of {app}");
        let head = head(&["b", "a", "c"], 40, line);
        let (index, summary, entries) = written(seal(&head).unwrap().remove(0));
        assert_eq!(index.columns, ["detected_level".into()]);
        assert_eq!(index.rest, RestNames::new(vec!["rare".into(), "line".into()]));
        assert_eq!((summary.rows, summary.min_time.0), (9000, 0));
        let rows: Vec<_> = entries.iter().flat_map(plain).collect();
        assert_eq!(rows.len(), 9000);
        assert_eq!(rows.iter().map(|r| r.1.len() as u64).sum::<u64>(), summary.bytes);
        for (stream, app) in index.streams.iter().zip(["a", "b", "c"]) {
            assert_eq!(stream.labels.get("app"), Some(app));
            let rows = &rows[stream.rows.start as usize..stream.rows.end as usize];
            assert!(rows.iter().enumerate().all(|(i, r)| r.0 == i as i64 && r.1 == line(i as i64, app)));
            assert_eq!(rows[700].2.len(), 3);
            assert_eq!((stream.first(), stream.last()), (0, 2999));
        }
    }

    #[test]
    fn blocks_are_sealed_again_out_of_what_was_taken_apart() {
        let line = |time: i64, app: &str| match time % 3 {
            0 => format!(
                r#"{{"level":"info","app":"{app}","id":"{:032x}","ms":{time},"amount":{}.50}}"#,
                time * 7919,
                time
            ),
            1 => format!("level=warn app={app} id={:016x} dur={time}ms", time * 31),
            _ => format!("{{\"{time}\":\"a structure of its own\"}}"),
        };
        let (index, _, entries) = written(seal(&head(&["a"], 40, line)).unwrap().remove(0));
        assert!(index.table.shapes.len() >= 2 && index.table.fields.len() >= 5, "{:?}", index.table.fields);
        let stream = SealStream { labels: index.streams[0].labels.clone(), pieces: entries.clone() };
        let (again, summary, entries_again) = written(seal_streams(vec![stream]).unwrap().remove(0));
        assert_eq!(again.streams, index.streams);
        assert_eq!(summary.rows, 3000);
        let rows = |entries: &[Entries]| entries.iter().flat_map(plain).collect::<Vec<_>>();
        assert_eq!(rows(&entries_again), rows(&entries));
        assert!(rows(&entries).iter().all(|r| r.1 == line(r.0, "a")));
        assert!(seal_streams(Vec::new()).unwrap().is_empty());
    }
}

//! The columns of a logs block: readable by any Parquet reader without further files.
//!
//! `stream_id`, `labels` (JSON text), `timestamp`, a column per frequent structured metadata name, `metadata` (a map of the
//! rest), `line`. This file is the only place that knows how a line is stored.

use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, Int64Array, MapArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow_select::concat::concat;
use logql::{Metadata, MetadataNeeds, Needs};
use model::Labels;

use crate::store::entries::{Entries, as_strings, map_fields, relayout};
use crate::store::index::BlockIndex;
use crate::store::merge::empty_maps;

/// The stream's id, xxh3-64 of its canonical label text.
pub const STREAM_ID: &str = "stream_id";
/// The stream's labels as a JSON object.
pub const LABELS: &str = "labels";
/// The entry's time, nanoseconds, UTC.
pub const TIMESTAMP: &str = "timestamp";
/// Metadata without a column of its own.
pub const METADATA: &str = "metadata";
/// The line.
pub const LINE: &str = "line";

/// Names that a metadata column cannot have; metadata so named stays in the map.
pub const RESERVED: [&str; 5] = [STREAM_ID, LABELS, TIMESTAMP, METADATA, LINE];

/// The schema of a block whose frequent metadata names are `columns`.
pub fn schema(columns: &[Arc<str>]) -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let labels = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut fields = vec![
        Field::new(STREAM_ID, DataType::UInt64, false),
        Field::new(LABELS, labels, false),
        Field::new(TIMESTAMP, DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
    ];
    fields.extend(columns.iter().map(|name| text(name, true)));
    fields.push(Field::new(METADATA, map_type(), false));
    fields.push(text(LINE, false));
    Arc::new(Schema::new(fields))
}

fn map_type() -> DataType {
    let names = map_fields();
    let pair =
        vec![Field::new(names.key, DataType::Utf8, false), Field::new(names.value, DataType::Utf8, true)];
    let entry = Field::new(names.entry, DataType::Struct(Fields::from(pair)), false);
    DataType::Map(Arc::new(entry), false)
}

/// Builds a batch of rows; each piece belongs to one stream.
pub fn batch(
    schema: &SchemaRef,
    columns: &[Arc<str>],
    pieces: &[(Labels, Entries)],
) -> Result<RecordBatch, ArrowError> {
    let rows = pieces.iter().map(|(_, e)| e.len()).sum();
    let mut ids = Vec::with_capacity(rows);
    let mut labels = StringDictionaryBuilder::<Int32Type>::new();
    let mut timestamps = Vec::with_capacity(rows);
    let mut metadata: Vec<Metadata> = Vec::with_capacity(pieces.len());
    for (stream, entries) in pieces {
        ids.resize(ids.len() + entries.len(), stream.stream_id().0);
        labels.append_values(labels_json(stream), entries.len());
        timestamps.extend_from_slice(entries.timestamps.values());
        metadata.push(relayout(&entries.metadata, entries.len(), columns));
    }
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(ids)),
        Arc::new(labels.finish()),
        Arc::new(TimestampNanosecondArray::from(timestamps).with_timezone("UTC")),
    ];
    for at in 0..columns.len() {
        arrays.push(concat(&metadata.iter().map(|m| &m.columns[at].1 as &dyn Array).collect::<Vec<_>>())?);
    }
    let rest =
        metadata.into_iter().zip(pieces).map(|(m, (_, e))| m.rest.map_or_else(|| empty_maps(e.len()), Ok));
    let rest = rest.collect::<Result<Vec<_>, _>>()?;
    arrays.push(concat(&rest.iter().map(|m| m as &dyn Array).collect::<Vec<_>>())?);
    arrays.push(concat(&pieces.iter().map(|(_, e)| &e.lines as &dyn Array).collect::<Vec<_>>())?);
    RecordBatch::try_new(schema.clone(), arrays)
}

/// A label set as a JSON object, names sorted.
pub fn labels_json(labels: &Labels) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    serde_json::Value::Object(map).to_string()
}

/// Which columns of a block a query reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// Names of the columns.
    pub columns: Vec<String>,
}

impl Projection {
    /// The columns that satisfy the needs in this block.
    pub fn new(index: &BlockIndex, needs: &Needs) -> Self {
        let wanted = |name: &Arc<str>| match &needs.metadata {
            MetadataNeeds::All => true,
            MetadataNeeds::Names(names) => names.contains(name),
        };
        let rest = match &needs.metadata {
            MetadataNeeds::All => !index.rest.is_empty(),
            MetadataNeeds::Names(names) => names.iter().any(|name| index.rest.may_hold(name)),
        };
        let mut columns = vec![TIMESTAMP.to_owned()];
        columns.extend(index.columns.iter().filter(|c| wanted(c)).map(|c| c.to_string()));
        columns.extend(rest.then(|| METADATA.to_owned()));
        columns.extend(needs.lines.then(|| LINE.to_owned()));
        Self { columns }
    }
}

/// Takes the entries out of a batch that was read with a [`Projection`].
pub fn entries(batch: &RecordBatch) -> Result<Entries, ArrowError> {
    let broken =
        |name: &str| ArrowError::SchemaError(format!("column '{name}' of the block has an unexpected type"));
    let mut lines = StringArray::new_null(0);
    let mut timestamps = None;
    let mut metadata = Metadata::empty();
    let schema = batch.schema();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        match field.name().as_str() {
            TIMESTAMP => {
                let times = array
                    .as_any()
                    .downcast_ref::<TimestampNanosecondArray>()
                    .ok_or_else(|| broken(TIMESTAMP))?;
                timestamps = Some(Int64Array::new(times.values().clone(), None));
            }
            LINE => lines = as_strings(array.as_ref()).ok_or_else(|| broken(LINE))?.clone(),
            METADATA => {
                let rest = array.as_any().downcast_ref::<MapArray>().ok_or_else(|| broken(METADATA))?;
                metadata.rest = Some(rest.clone());
            }
            STREAM_ID | LABELS => {}
            name => {
                let values = as_strings(array.as_ref()).ok_or_else(|| broken(name))?;
                metadata.columns.push((name.into(), values.clone()));
            }
        }
    }
    Ok(Entries { timestamps: timestamps.ok_or_else(|| broken(TIMESTAMP))?, lines, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entries::tests::{entries as make, plain};

    #[test]
    fn rows_survive_the_batch() {
        let a = make(&[(1, "x", &[("k", "v"), ("rare", "r")]), (2, "y", &[])]);
        let b = make(&[(1, "z", &[("line", "named like the column")])]);
        let columns: Vec<Arc<str>> = vec!["k".into()];
        let pieces = [
            (Labels::from_pairs([("app", "a")]), a.clone()),
            (Labels::from_pairs([("app", "b")]), b.clone()),
        ];
        let batch = batch(&schema(&columns), &columns, &pieces).unwrap();
        assert_eq!(batch.num_rows(), 3);
        let back = entries(&batch).unwrap();
        assert_eq!(plain(&back), [plain(&a), plain(&b)].concat());
        assert_eq!(labels_json(&pieces[0].0), r#"{"app":"a"}"#);
    }
}

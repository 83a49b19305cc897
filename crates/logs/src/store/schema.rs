//! The columns of a logs block: readable by any Parquet reader without further files.
//!
//! `stream_id`, `labels` (JSON text), `timestamp`, a column per frequent structured metadata name, `metadata` (a map of the
//! rest); then the lines: `shape`, a column `line.<name>` per field, `rest`, and `line` for those that are kept as they are. This file
//! is the only place that knows how a line is stored.

use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal64Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, MapArray, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow_select::concat::concat;
use logql::{Metadata, MetadataNeeds, Needs};
use model::Labels;
use shred::{Columns, FieldId, Kind, Lines, ShreddedLines, Table, Values, rest_item};

use crate::store::entries::{Entries, as_strings, map_fields};
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
/// The line with gaps: its number in the table of the index, a space, and its text form ([`shred::Shape::to_text`]).
pub const SHAPE: &str = "shape";
/// Begins the name of each column of values.
pub const FIELD_PREFIX: &str = "line.";
/// The values of gaps without a column.
pub const REST: &str = "rest";
/// The line, if it is not taken apart.
pub const LINE: &str = "line";

/// Decimal digits of a 64-bit integer that can all be used.
const DECIMAL_DIGITS: u8 = 18;

/// Whether a metadata column cannot have this name; metadata so named stays in the map.
pub fn is_reserved(name: &str) -> bool {
    matches!(name, STREAM_ID | LABELS | TIMESTAMP | METADATA | SHAPE | REST | LINE)
        || name.starts_with(FIELD_PREFIX)
}

/// The name of the column of a field.
pub fn field_column(name: &str) -> String {
    format!("{FIELD_PREFIX}{name}")
}

/// The schema of a block whose frequent metadata names are `columns`.
pub fn schema(columns: &[Arc<str>], fields: &[shred::Field]) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let dictionary = Kind::Dictionary.data_type();
    let mut all = vec![
        Field::new(STREAM_ID, DataType::UInt64, false),
        Field::new(LABELS, dictionary.clone(), false),
        Field::new(TIMESTAMP, DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
    ];
    all.extend(columns.iter().map(|name| text(name)));
    all.push(Field::new(METADATA, map_type(), false));
    all.push(Field::new(SHAPE, dictionary, true));
    all.extend(fields.iter().map(|f| Field::new(field_column(&f.name), column_type(f.kind), true)));
    all.push(Field::new(REST, DataType::List(rest_item()), true));
    all.push(text(LINE));
    Arc::new(Schema::new(all))
}

/// The type of a field in a block: others shall see decimals as decimals.
fn column_type(kind: Kind) -> DataType {
    match kind {
        Kind::Decimal { scale } => DataType::Decimal64(DECIMAL_DIGITS, scale.min(DECIMAL_DIGITS) as i8),
        kind => kind.data_type(),
    }
}

fn map_type() -> DataType {
    let names = map_fields();
    let pair =
        vec![Field::new(names.key, DataType::Utf8, false), Field::new(names.value, DataType::Utf8, true)];
    let entry = Field::new(names.entry, DataType::Struct(Fields::from(pair)), false);
    DataType::Map(Arc::new(entry), false)
}

/// Builds a batch of rows out of pieces that each belong to one stream, and the lines of all of them. The metadata of the pieces is
/// laid out in `columns`.
pub fn batch(
    schema: &SchemaRef,
    columns: &[Arc<str>],
    pieces: &[(Labels, Int64Array, Metadata)],
    lines: &ShreddedLines,
) -> Result<RecordBatch, ArrowError> {
    let rows = lines.len();
    let mut ids = Vec::with_capacity(rows);
    let mut labels = StringDictionaryBuilder::<Int32Type>::new();
    let mut timestamps = Vec::with_capacity(rows);
    for (stream, times, _) in pieces {
        ids.resize(ids.len() + times.len(), stream.stream_id().0);
        labels.append_values(labels_json(stream), times.len());
        timestamps.extend_from_slice(times.values());
    }
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(ids)),
        Arc::new(labels.finish()),
        Arc::new(TimestampNanosecondArray::from(timestamps).with_timezone("UTC")),
    ];
    for at in 0..columns.len() {
        arrays.push(concat(
            &pieces.iter().map(|(_, _, m)| &m.columns[at].1 as &dyn Array).collect::<Vec<_>>(),
        )?);
    }
    let rest = pieces.iter().map(|(_, times, m)| m.rest.clone().map_or_else(|| empty_maps(times.len()), Ok));
    let rest = rest.collect::<Result<Vec<_>, _>>()?;
    arrays.push(concat(&rest.iter().map(|m| m as &dyn Array).collect::<Vec<_>>())?);
    arrays.push(Arc::new(shape_column(lines)));
    for (field, values) in lines.table.fields.iter().zip(&lines.fields) {
        arrays.push(field_array(field.kind, values.as_ref(), rows));
    }
    arrays.push(match &lines.rest {
        Some(rest) => Arc::new(rest.clone()),
        None => new_null_array(&DataType::List(rest_item()), rows),
    });
    arrays.push(match &lines.raw {
        Some(raw) => Arc::new(raw.clone()),
        None => new_null_array(&DataType::Utf8, rows),
    });
    RecordBatch::try_new(schema.clone(), arrays)
}

/// The shapes as numbered texts, each once.
fn shape_column(lines: &ShreddedLines) -> DictionaryArray<Int32Type> {
    let mut places: Vec<i32> = vec![-1; lines.table.shapes.len()];
    let mut texts: Vec<String> = Vec::new();
    let keys = lines.shapes.iter().map(|shape| {
        let id = shape? as usize;
        if places[id] < 0 {
            places[id] = texts.len() as i32;
            texts.push(format!("{id} {}", lines.table.shapes[id].to_text(&lines.table)));
        }
        Some(places[id])
    });
    let keys: Int32Array = keys.collect();
    DictionaryArray::new(keys, Arc::new(StringArray::from_iter_values(texts)))
}

fn field_array(kind: Kind, values: Option<&Values>, rows: usize) -> ArrayRef {
    match (values, column_type(kind)) {
        (None, data_type) => new_null_array(&data_type, rows),
        (Some(Values::Integer(values)), data_type @ DataType::Decimal64(..)) => {
            Arc::new(values.reinterpret_cast::<Decimal64Type>().with_data_type(data_type))
        }
        (Some(values), _) => values.to_array(),
    }
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
    /// The time that all entries are given, if their own are not read.
    pub instant: Option<i64>,
}

impl Projection {
    /// The columns that satisfy the needs in this block: metadata by `needs`, lines by `lines`.
    pub fn new(index: &BlockIndex, needs: &Needs, lines: &Columns) -> Self {
        let rest = match &needs.metadata {
            MetadataNeeds::All => !index.rest.is_empty(),
            MetadataNeeds::Names(names) => names.iter().any(|name| index.rest.may_hold(name)),
        };
        let mut columns = vec![TIMESTAMP.to_owned()];
        let wanted = index.columns.iter().filter(|name| needs.metadata.wants(name));
        columns.extend(wanted.map(|name| name.to_string()));
        columns.extend(rest.then(|| METADATA.to_owned()));
        let all = || (0..index.table.fields.len() as u32).map(FieldId).collect();
        let (fields, rest, raw): (Vec<FieldId>, _, _) = match lines {
            Columns::Nothing => return Self { columns, instant: None },
            Columns::Some { fields, rest, raw } => (fields.clone(), *rest, *raw),
            Columns::All => (all(), true, true),
        };
        columns.push(SHAPE.to_owned());
        let fields = fields.iter().filter_map(|id| index.table.fields.get(id.0 as usize));
        columns.extend(fields.map(|field| field_column(&field.name)));
        columns.extend(rest.then(|| REST.to_owned()));
        columns.extend(raw.then(|| LINE.to_owned()));
        Self { columns, instant: None }
    }

    /// Times alone.
    pub fn times() -> Self {
        Self { columns: vec![TIMESTAMP.to_owned()], instant: None }
    }

    /// The same without times; all entries are given `instant`.
    pub fn at(mut self, instant: i64) -> Self {
        self.columns.retain(|column| column != TIMESTAMP);
        Self { instant: Some(instant), ..self }
    }

    /// Whether anything of the lines is read.
    pub fn has_lines(&self) -> bool {
        self.columns.iter().any(|column| column == SHAPE)
    }
}

fn broken(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column '{name}' of the block has an unexpected type or content"))
}

/// Takes the entries out of a batch that was read with a [`Projection`], of which columns may lack that are null in all of its rows.
/// `table` is that of the block's index, `has_lines` says whether lines were asked for, `instant` is that of the projection.
pub fn entries(
    batch: &RecordBatch,
    table: &Arc<Table>,
    has_lines: bool,
    instant: Option<i64>,
) -> Result<Entries, ArrowError> {
    let mut timestamps = instant.map(|instant| Int64Array::from_value(instant, batch.num_rows()));
    let mut metadata = Metadata::empty();
    let mut lines = None;
    let mut raw = None;
    let mut rest = None;
    let mut fields: Vec<Option<Values>> = Vec::new();
    // Fields stand in the order of the table.
    let mut next_field = 0;
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
            METADATA => {
                let rest = array.as_any().downcast_ref::<MapArray>().ok_or_else(|| broken(METADATA))?;
                metadata.rest = Some(rest.clone());
            }
            SHAPE => lines = Some(shape_numbers(array, table)?),
            REST => {
                let list = array.as_list_opt::<i32>().ok_or_else(|| broken(REST))?;
                rest = (list.null_count() < list.len()).then(|| list.clone());
            }
            LINE => {
                let texts = as_strings(array.as_ref()).ok_or_else(|| broken(LINE))?;
                raw = (texts.null_count() < texts.len()).then(|| texts.clone());
            }
            STREAM_ID | LABELS => {}
            name => match name.strip_prefix(FIELD_PREFIX) {
                None => {
                    let values = as_strings(array.as_ref()).ok_or_else(|| broken(name))?;
                    metadata.columns.push((name.into(), values.clone()));
                }
                Some(short) => {
                    let found = table.fields[next_field..].iter().position(|f| *f.name == *short);
                    let id = next_field + found.ok_or_else(|| broken(name))?;
                    fields.resize(table.fields.len(), None);
                    fields[id] =
                        Some(field_values(table.fields[id].kind, array).ok_or_else(|| broken(name))?);
                    next_field = id + 1;
                }
            },
        }
    }
    fields.resize(table.fields.len(), None);
    let lines = match lines.or_else(|| has_lines.then(|| UInt32Array::new_null(batch.num_rows()))) {
        Some(shapes) => Lines::Shredded(ShreddedLines { table: table.clone(), shapes, raw, fields, rest }),
        None => Lines::Absent,
    };
    Ok(Entries { timestamps: timestamps.ok_or_else(|| broken(TIMESTAMP))?, lines, metadata })
}

/// Shapes by their numbers.
fn shape_numbers(array: &ArrayRef, table: &Table) -> Result<UInt32Array, ArrowError> {
    let shapes = array.as_dictionary_opt::<Int32Type>().ok_or_else(|| broken(SHAPE))?;
    let texts = shapes.values().as_string_opt::<i32>().ok_or_else(|| broken(SHAPE))?;
    let number = |text: Option<&str>| {
        let number = text?.split_once(' ')?.0.parse::<u32>().ok()?;
        ((number as usize) < table.shapes.len()).then_some(number)
    };
    let numbers: Vec<Option<u32>> = texts.iter().map(number).collect();
    let (keys, present) = (shapes.keys().values(), shapes.keys().nulls());
    let mut out = Vec::with_capacity(keys.len());
    for (row, key) in keys.iter().enumerate() {
        out.push(match numbers.get(*key as usize) {
            Some(Some(number)) => *number,
            // Under a null the key says nothing.
            _ if present.is_some_and(|present| present.is_null(row)) => 0,
            _ => return Err(broken(SHAPE)),
        });
    }
    Ok(UInt32Array::new(out.into(), present.cloned()))
}

fn field_values(kind: Kind, array: &ArrayRef) -> Option<Values> {
    match kind {
        Kind::Decimal { .. } => {
            let decimals = array.as_primitive_opt::<Decimal64Type>()?;
            Some(Values::Integer(decimals.reinterpret_cast::<Int64Type>()))
        }
        kind => Values::from_array(kind, array),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entries::relayout;
    use crate::store::entries::tests::{entries as make, plain};
    use shred::shred_all;

    #[test]
    fn rows_survive_the_batch() {
        let json = |id: i32, amount: &str| format!(r#"{{"level":"info","id":{id},"amount":{amount}}}"#);
        let (first, second) = (json(1, "1.50"), json(-7, "22.5"));
        let a = make(&[(1, &first, &[("k", "v"), ("rare", "r")]), (2, "y", &[])]);
        let b = make(&[(1, &second, &[("line", "named like the column"), ("line.x", "too")])]);
        let columns: Vec<Arc<str>> = vec!["k".into()];
        let labels = |app: &str| Labels::from_pairs([("app", app)]);
        let piece = |app: &str, e: &Entries| {
            (labels(app), e.timestamps.clone(), relayout(&e.metadata, e.len(), &columns))
        };
        let lines = StringArray::from(vec![first.as_str(), "y", second.as_str()]);
        let lines = shred_all(&lines);
        let schema = schema(&columns, &lines.table.fields);
        let batch = batch(&schema, &columns, &[piece("a", &a), piece("b", &b)], &lines).unwrap();
        assert_eq!(batch.num_rows(), 3);
        let back = entries(&batch, &lines.table, true, None).unwrap();
        assert_eq!(plain(&back), [plain(&a), plain(&b)].concat());
        assert_eq!(labels_json(&labels("a")), r#"{"app":"a"}"#);
        // With a table that lacks the shapes, the block is damaged.
        let table = Table { shapes: Vec::new(), fields: lines.table.fields.clone() };
        assert!(entries(&batch, &Arc::new(table), true, None).is_err());
    }
}

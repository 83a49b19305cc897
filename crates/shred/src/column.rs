//! Columns of a batch under construction.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow_array::{
    DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, ListArray, StringArray, UInt32Array,
};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::lines::rest_item;
use crate::{Kind, ShapeId, Values};

/// Texts, one after the other.
#[derive(Debug)]
struct Texts {
    ends: Vec<i32>,
    bytes: String,
}

impl Default for Texts {
    fn default() -> Self {
        Self { ends: vec![0], bytes: String::new() }
    }
}

impl Texts {
    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as i32);
    }

    fn get(&self, at: usize) -> &[u8] {
        &self.bytes.as_bytes()[self.ends[at] as usize..self.ends[at + 1] as usize]
    }

    fn finish(&mut self, nulls: Option<arrow_buffer::NullBuffer>) -> StringArray {
        let Self { ends, bytes } = std::mem::take(self);
        // The next batch is likely to be of this size.
        *self = Self { ends: Vec::with_capacity(ends.len()), bytes: String::with_capacity(bytes.len()) };
        self.ends.push(0);
        let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
        StringArray::new(ends, Buffer::from_vec(bytes.into_bytes()), nulls)
    }
}

/// The values of a field. Rows without one are null.
#[derive(Debug)]
pub(crate) struct Column {
    rows: usize,
    valid: NullBufferBuilder,
    cells: Cells,
}

#[derive(Debug)]
enum Cells {
    Dictionary { keys: Vec<i32>, texts: Texts, places: HashTable<i32>, hasher: DefaultHashBuilder },
    Text(Texts),
    Integer(Vec<i64>),
    Hex { bytes: Vec<u8>, width: usize },
}

impl Column {
    pub(crate) fn new(kind: Kind) -> Self {
        let cells = match kind {
            Kind::Dictionary => Cells::Dictionary {
                keys: Vec::new(),
                texts: Texts::default(),
                places: HashTable::new(),
                hasher: DefaultHashBuilder::default(),
            },
            Kind::Text => Cells::Text(Texts::default()),
            Kind::Integer | Kind::Decimal { .. } => Cells::Integer(Vec::new()),
            Kind::Hex { bytes } => Cells::Hex { bytes: Vec::new(), width: usize::from(bytes) },
        };
        Self { rows: 0, valid: NullBufferBuilder::new(0), cells }
    }

    /// Fills up with nulls.
    fn pad(&mut self, row: usize) {
        let missing = row - self.rows;
        if missing == 0 {
            return;
        }
        self.valid.append_n_nulls(missing);
        self.rows = row;
        match &mut self.cells {
            Cells::Dictionary { keys, .. } => keys.resize(row, 0),
            Cells::Text(texts) => texts.ends.resize(row + 1, texts.bytes.len() as i32),
            Cells::Integer(values) => values.resize(row, 0),
            Cells::Hex { bytes, width } => bytes.resize(row * *width, 0),
        }
    }

    #[inline]
    fn begin(&mut self, row: usize) {
        self.pad(row);
        self.valid.append_non_null();
        self.rows = row + 1;
    }

    #[inline]
    pub(crate) fn push_text(&mut self, row: usize, text: &str) {
        self.begin(row);
        match &mut self.cells {
            Cells::Text(texts) => texts.push(text),
            Cells::Dictionary { keys, texts, places, hasher } => {
                if let Some(&key) = keys.last().filter(|_| texts.len() > 0)
                    && texts.get(key as usize) == text.as_bytes()
                {
                    keys.push(key);
                    return;
                }
                let hash = hasher.hash_one(text.as_bytes());
                let key = match places.find(hash, |key| texts.get(*key as usize) == text.as_bytes()) {
                    Some(key) => *key,
                    None => {
                        let key = texts.len() as i32;
                        texts.push(text);
                        places.insert_unique(hash, key, |key| hasher.hash_one(texts.get(*key as usize)));
                        key
                    }
                };
                keys.push(key);
            }
            // The kind of a column says which values it is given.
            Cells::Integer(values) => values.push(0),
            Cells::Hex { bytes, width } => bytes.resize((row + 1) * *width, 0),
        }
    }

    #[inline]
    pub(crate) fn push_number(&mut self, row: usize, value: i64) {
        self.begin(row);
        if let Cells::Integer(values) = &mut self.cells {
            values.push(value);
        }
    }

    #[inline]
    pub(crate) fn push_hex(&mut self, row: usize, value: &[u8]) {
        self.begin(row);
        if let Cells::Hex { bytes, .. } = &mut self.cells {
            bytes.extend_from_slice(value);
        }
    }

    /// The column of a batch, `None` if it has no value.
    pub(crate) fn finish(&mut self, rows: usize) -> Option<Values> {
        if self.rows == 0 {
            return None;
        }
        self.pad(rows);
        self.rows = 0;
        let nulls = self.valid.finish();
        Some(match &mut self.cells {
            Cells::Dictionary { keys, texts, places, .. } => {
                places.clear();
                let capacity = keys.len();
                let keys =
                    Int32Array::new(std::mem::replace(keys, Vec::with_capacity(capacity)).into(), nulls);
                Values::Dictionary(DictionaryArray::new(keys, Arc::new(texts.finish(None))))
            }
            Cells::Text(texts) => Values::Text(texts.finish(nulls)),
            Cells::Integer(values) => {
                let capacity = values.len();
                let values = std::mem::replace(values, Vec::with_capacity(capacity));
                Values::Integer(Int64Array::new(values.into(), nulls))
            }
            Cells::Hex { bytes, width } => {
                let capacity = bytes.len();
                let bytes = std::mem::replace(bytes, Vec::with_capacity(capacity));
                Values::Hex(FixedSizeBinaryArray::new(*width as i32, Buffer::from_vec(bytes), nulls))
            }
        })
    }
}

/// Shapes, raw lines and rest values of a batch.
#[derive(Debug)]
pub(crate) struct Rows {
    shapes: Vec<u32>,
    shaped: NullBufferBuilder,
    /// Has as many ends as rows once there is a raw line.
    raw: Texts,
    any_raw: bool,
    rest: Texts,
    /// How many rest values each row has; rows behind the last one that has any are missing.
    rest_counts: Vec<usize>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            shapes: Vec::new(),
            shaped: NullBufferBuilder::new(0),
            raw: Texts::default(),
            any_raw: false,
            rest: Texts::default(),
            rest_counts: Vec::new(),
        }
    }
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.shapes.len()
    }

    pub(crate) fn push_raw(&mut self, line: &str) {
        self.any_raw = true;
        self.shapes.push(0);
        self.shaped.append_null();
        self.raw.push(line);
    }

    /// Adds a row and says its number.
    #[inline]
    pub(crate) fn push_shape(&mut self, shape: ShapeId) -> usize {
        self.shapes.push(shape.0);
        self.shaped.append_non_null();
        self.raw.ends.push(self.raw.bytes.len() as i32);
        self.shapes.len() - 1
    }

    /// Adds a rest value to the last row.
    pub(crate) fn push_rest(&mut self, text: &str) {
        self.rest_counts.resize(self.shapes.len(), 0);
        if let Some(count) = self.rest_counts.last_mut() {
            *count += 1;
        }
        self.rest.push(text);
    }

    pub(crate) fn finish(&mut self) -> (UInt32Array, Option<StringArray>, Option<ListArray>) {
        let rows = self.shapes.len();
        let shaped = self.shaped.finish();
        let raw = self.raw.finish(shaped.as_ref().map(|nulls| nulls.inner()).map(|bits| (!bits).into()));
        let raw = std::mem::take(&mut self.any_raw).then_some(raw);
        let rest = (!self.rest_counts.is_empty()).then(|| {
            self.rest_counts.resize(rows, 0);
            let offsets = OffsetBuffer::from_lengths(self.rest_counts.drain(..));
            ListArray::new(rest_item(), offsets, Arc::new(self.rest.finish(None)), None)
        });
        (UInt32Array::new(std::mem::take(&mut self.shapes).into(), shaped), raw, rest)
    }
}

//! Attributes out of stored columns: values by name, from columns of their own or from lists.

use arrow_array::builder::{ArrayBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, Float64Array, Int64Array, ListArray, StringArray};
use traceql::AttributeColumn;

/// A value on its way into a column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    Str(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// OTLP/JSON of the array.
    Array(&'a str),
}

/// Fills the typed columns of one attribute; rows must come in order.
#[derive(Debug, Default)]
pub(crate) struct Picker {
    strings: StringBuilder,
    ints: Int64Builder,
    floats: Float64Builder,
    bools: BooleanBuilder,
    arrays: StringBuilder,
}

impl Picker {
    /// Sets the value of a row.
    pub(crate) fn set(&mut self, row: usize, value: Found<'_>) {
        match value {
            Found::Str(text) => {
                self.strings.append_nulls(row - self.strings.len());
                self.strings.append_value(text);
            }
            Found::Int(n) => {
                self.ints.append_nulls(row - self.ints.len());
                self.ints.append_value(n);
            }
            Found::Float(f) => {
                self.floats.append_nulls(row - self.floats.len());
                self.floats.append_value(f);
            }
            Found::Bool(b) => {
                self.bools.append_nulls(row - self.bools.len());
                self.bools.append_value(b);
            }
            Found::Array(json) => {
                self.arrays.append_nulls(row - self.arrays.len());
                self.arrays.append_value(json);
            }
        }
    }

    /// The columns, `rows` long.
    pub(crate) fn finish(mut self, rows: usize) -> AttributeColumn {
        let text = |mut b: StringBuilder| {
            (b.len() > 0).then(|| {
                b.append_nulls(rows - b.len());
                b.finish()
            })
        };
        AttributeColumn {
            strings: text(self.strings),
            ints: (self.ints.len() > 0).then(|| {
                self.ints.append_nulls(rows - self.ints.len());
                self.ints.finish()
            }),
            floats: (self.floats.len() > 0).then(|| {
                self.floats.append_nulls(rows - self.floats.len());
                self.floats.finish()
            }),
            bools: (self.bools.len() > 0).then(|| {
                self.bools.append_nulls(rows - self.bools.len());
                self.bools.finish()
            }),
            arrays: text(self.arrays),
        }
    }
}

/// The column of lists of attributes.
#[derive(Debug)]
pub(crate) struct AttributeList<'a> {
    offsets: &'a [i32],
    keys: &'a StringArray,
    strings: &'a StringArray,
    ints: &'a Int64Array,
    floats: &'a Float64Array,
    bools: &'a BooleanArray,
    json: &'a StringArray,
}

impl<'a> AttributeList<'a> {
    /// Looks at a column made by [`crate::columns::AttributeLists`].
    pub(crate) fn of(list: &'a ListArray) -> Self {
        let items = list.values().as_struct();
        Self {
            offsets: list.value_offsets(),
            keys: items.column(0).as_string(),
            strings: items.column(1).as_string(),
            ints: items.column(2).as_primitive(),
            floats: items.column(3).as_primitive(),
            bools: items.column(4).as_boolean(),
            json: items.column(5).as_string(),
        }
    }

    fn find(&self, row: usize, name: &str) -> Option<Found<'a>> {
        let mut items = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        self.value(items.find(|at| self.keys.value(*at) == name)?)
    }

    /// The attributes of a row: name, and value unless it is one that only JSON can say.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (&'a str, Result<Found<'a>, &'a str>)> {
        (self.offsets[row] as usize..self.offsets[row + 1] as usize).map(|at| {
            let json = self.json.is_valid(at).then(|| self.json.value(at));
            (self.keys.value(at), self.value(at).filter(|_| json.is_none()).ok_or(json.unwrap_or("{}")))
        })
    }

    fn value(&self, at: usize) -> Option<Found<'a>> {
        Some(if self.strings.is_valid(at) {
            Found::Str(self.strings.value(at))
        } else if self.ints.is_valid(at) {
            Found::Int(self.ints.value(at))
        } else if self.floats.is_valid(at) {
            Found::Float(self.floats.value(at))
        } else if self.bools.is_valid(at) {
            Found::Bool(self.bools.value(at))
        } else {
            let json = self.json.is_valid(at).then(|| self.json.value(at))?;
            Found::Array(json.strip_prefix("{\"arrayValue\":")?.strip_suffix('}')?)
        })
    }

    /// One attribute over rows `from..from + rows` of the list.
    pub(crate) fn attribute(&self, name: &str, from: usize, rows: usize) -> AttributeColumn {
        let mut picker = Picker::default();
        for row in 0..rows {
            if let Some(found) = self.find(from + row, name) {
                picker.set(row, found);
            }
        }
        picker.finish(rows)
    }

    /// One attribute: what stands in its own columns, else what the list has.
    pub(crate) fn overlay(&self, name: &str, own: AttributeColumn, rows: usize) -> AttributeColumn {
        let mut picker = Picker::default();
        for row in 0..rows {
            if let Some(found) = own_value(&own, row).or_else(|| self.find(row, name)) {
                picker.set(row, found);
            }
        }
        picker.finish(rows)
    }
}

/// What stands at a row of an attribute's columns.
pub(crate) fn own_value(own: &AttributeColumn, row: usize) -> Option<Found<'_>> {
    fn at<A: Array>(array: &Option<A>, row: usize) -> Option<&A> {
        array.as_ref().filter(|a| a.is_valid(row))
    }
    at(&own.strings, row)
        .map(|a| Found::Str(a.value(row)))
        .or_else(|| at(&own.ints, row).map(|a| Found::Int(a.value(row))))
        .or_else(|| at(&own.floats, row).map(|a| Found::Float(a.value(row))))
        .or_else(|| at(&own.bools, row).map(|a| Found::Bool(a.value(row))))
        .or_else(|| at(&own.arrays, row).map(|a| Found::Array(a.value(row))))
}

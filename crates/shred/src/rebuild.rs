//! Shredded lines as text again.

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, StringArray};

use crate::value::{number_len, push_hex, push_number};
use crate::{Form, Gap, ShreddedLines, Source, Values};

impl ShreddedLines {
    /// Appends the line of a row. What was not read is left out.
    pub fn line(&self, row: usize, out: &mut String) {
        let Some(shape) = self.shape(row) else {
            if let Some(raw) = self.raw.as_ref().filter(|raw| raw.is_valid(row)) {
                out.push_str(raw.value(row));
            }
            return;
        };
        for (at, literal) in shape.literals.iter().enumerate() {
            out.push_str(literal);
            if let Some(gap) = shape.gaps.get(at) {
                self.append_value(row, *gap, out);
            }
        }
    }

    /// Appends the text of a gap of the row's shape. What was not read is left out.
    #[inline]
    pub fn append_value(&self, row: usize, gap: Gap, out: &mut String) {
        let id = match gap.source {
            Source::Rest(place) => return out.push_str(self.rest_value(row, place).unwrap_or_default()),
            Source::Field(id) => id.0 as usize,
        };
        match self.fields.get(id) {
            Some(Some(Values::Integer(values))) if values.is_valid(row) => {
                push_number(values.value(row), self.table.fields[id].kind, gap.form, out);
            }
            Some(Some(Values::Hex(values))) if values.is_valid(row) => push_hex(values.value(row), out),
            Some(Some(values)) => out.push_str(values.text(row).unwrap_or_default()),
            _ => {}
        }
    }

    /// Bytes of the line of a row, without making it. Columns whose values are known to have all one length are not looked at.
    pub fn line_len(&self, row: usize) -> usize {
        let Some(shape) = self.shape(row) else {
            return self.raw.as_ref().filter(|raw| raw.is_valid(row)).map_or(0, |raw| raw.value(row).len());
        };
        shape.literal_bytes() + shape.gaps.iter().map(|gap| self.value_len(row, *gap)).sum::<usize>()
    }

    fn value_len(&self, row: usize, gap: Gap) -> usize {
        let id = match gap.source {
            Source::Rest(place) => return self.rest_value(row, place).map_or(0, str::len),
            Source::Field(id) => id.0 as usize,
        };
        match self.fields.get(id) {
            Some(Some(Values::Integer(values))) if values.is_valid(row) => {
                number_len(values.value(row), self.table.fields[id].kind, gap.form)
            }
            Some(Some(Values::Hex(values))) if values.is_valid(row) => values.value(row).len() * 2,
            Some(Some(values)) => values.text(row).map_or(0, str::len),
            _ => self.table.constant_len(gap).unwrap_or_default(),
        }
    }

    /// A value of the row's list of rest values.
    pub fn rest_value(&self, row: usize, place: u32) -> Option<&str> {
        let rest = self.rest.as_ref().filter(|rest| rest.is_valid(row))?;
        let (start, end) = (rest.value_offsets()[row], rest.value_offsets()[row + 1]);
        let at = i64::from(start) + i64::from(place);
        let values = rest.values().as_string_opt::<i32>()?;
        (at < i64::from(end)).then(|| values.value(at as usize))
    }

    /// All lines as texts.
    pub fn to_text(&self) -> StringArray {
        let mut lines = StringBuilder::with_capacity(self.len(), self.len() * 128);
        let mut line = String::new();
        for row in 0..self.len() {
            line.clear();
            self.line(row, &mut line);
            lines.append_value(&line);
        }
        lines.finish()
    }
}

impl Values {
    /// The text of a row's value, of values that are kept as text.
    #[inline]
    pub fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Dictionary(values) if values.is_valid(row) => {
                let texts = values.values().as_string_opt::<i32>()?;
                let key = values.keys().value(row) as usize;
                (key < texts.len()).then(|| texts.value(key))
            }
            Self::Text(values) if values.is_valid(row) => Some(values.value(row)),
            _ => None,
        }
    }
}

impl Gap {
    /// A gap whose value is written as it is stored.
    pub(crate) fn plain(source: Source) -> Self {
        Self { source, form: Form::Plain }
    }
}

//! Numbers and texts of labels over columns: what `unwrap` and grouping take from rows that pass.

use arrow_array::{Array as _, Int32Array};
use shred::{Kind, Source, Values};

use super::cells::gap_text;
use super::decide::{Label, Memory, decimal, known_field, read};

impl Memory<'_> {
    /// The numbers of a label in the rows, which are reduced to those that have one. Rows whose text is empty or missing are left
    /// out, those whose text is no number go to `odd`.
    pub(crate) fn numbers<E>(
        &self,
        label: Label<'_>,
        plain: bool,
        rows: &mut Vec<u32>,
        odd: &mut Vec<u32>,
        convert: impl Fn(&str) -> Result<f64, E>,
    ) -> Vec<f64> {
        let mut numbers = Vec::with_capacity(rows.len());
        if let Label::Gap(gap, _) = label
            && let Some(Some((Values::Integer(array), kind))) = known_field(self.lines, gap)
            && plain
        {
            let values = array.values();
            match kind {
                Kind::Decimal { scale } => {
                    numbers.extend(rows.iter().map(|row| decimal(values[*row as usize], scale)));
                }
                _ => numbers.extend(rows.iter().map(|row| values[*row as usize] as f64)),
            }
            return numbers;
        }
        if !self.is_known(label) {
            odd.append(rows);
            return numbers;
        }
        let mut buffers = (String::new(), String::new());
        rows.retain(|row| {
            let text = self.text(label, *row as usize, &mut buffers).unwrap_or_default();
            if text.is_empty() {
                return false;
            }
            match convert(text) {
                Ok(number) => {
                    numbers.push(number);
                    true
                }
                Err(_) => {
                    odd.push(*row);
                    false
                }
            }
        });
        numbers
    }

    /// Whether [`Memory::text`] tells the label of every row.
    pub(crate) fn is_known(&self, label: Label<'_>) -> bool {
        match label {
            Label::Unknown => false,
            Label::Missing | Label::Text(_) | Label::Column(_) => true,
            Label::Gap(gap, _) => known_field(self.lines, gap).is_some(),
        }
    }

    /// The value of a label in a row.
    pub(crate) fn text<'t>(
        &'t self,
        label: Label<'t>,
        row: usize,
        buffers: &'t mut (String, String),
    ) -> Option<&'t str> {
        match label {
            Label::Missing | Label::Unknown => None,
            Label::Text(text) => Some(text),
            Label::Column(column) => {
                let values = &self.view.batch.metadata.columns[column].1;
                values.is_valid(row).then(|| values.value(row))
            }
            Label::Gap(gap, reading) => {
                let raw = gap_text(self.lines, gap, row, &mut buffers.0)?;
                read(reading, raw, &mut buffers.1)
            }
        }
    }

    /// The codes of a label whose values are a dictionary: rows with equal codes have equal values.
    pub(crate) fn codes(&self, label: Label<'_>) -> Option<(&Int32Array, usize)> {
        let Label::Gap(gap, _) = label else { return None };
        let Source::Field(_) = gap.source else { return None };
        match known_field(self.lines, gap) {
            Some(Some((Values::Dictionary(array), _))) => Some((array.keys(), array.values().len())),
            _ => None,
        }
    }
}

//! Gives the index of a block what needles may be searched in: of each granule every text once.

use std::ops::Range;

use arrow_array::StringArray;
use arrow_array::cast::AsArray;
use block::needle::{FixedId, is_token_byte};
use logql::Metadata;
use shred::{Form, Kind, Shape, ShreddedLines, Values};

use crate::store::index::IndexBuilder;
use crate::store::plan::Plan;

/// Shorter values are taken as text, even if all have one length.
const MIN_FIXED: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Needles {
    /// By field: the column of values of one length, if it is one.
    fields: Vec<Option<FixedId>>,
    /// The same by metadata column.
    columns: Vec<Option<FixedId>>,
    /// By shape: whether its lines must be given as they are.
    whole: Vec<bool>,
    line: String,
}

impl Needles {
    /// Declares the columns of the plan.
    pub(crate) fn new(plan: &Plan, index: &mut IndexBuilder) -> Self {
        let fields = plan.fields().map(|(field, profile)| match field.kind {
            Kind::Hex { bytes } => index.fixed(usize::from(bytes) * 2),
            Kind::Text => profile.length.filter(|n| *n >= MIN_FIXED).and_then(|n| index.fixed(n)),
            _ => None,
        });
        let fields = fields.collect();
        let columns = plan.ids.iter().map(|length| length.and_then(|n| index.fixed(n))).collect();
        Self { fields, columns, whole: Vec::new(), line: String::new() }
    }

    /// Adds the rows of a granule, or of a part of one, after they were counted.
    pub(crate) fn add<'a>(
        &mut self,
        lines: &ShreddedLines,
        metadata: impl Iterator<Item = &'a Metadata>,
        index: &mut IndexBuilder,
    ) {
        let shapes = &lines.table.shapes;
        let known = self.whole.len()..shapes.len();
        self.whole.extend(shapes[known].iter().map(splits_tokens));
        let mut seen = vec![false; shapes.len()];
        for (row, shape) in lines.shapes.iter().enumerate() {
            let Some(shape) = shape else { continue };
            let shape = shape as usize;
            if self.whole[shape] {
                self.line.clear();
                lines.line(row, &mut self.line);
                index.text(&self.line);
            } else if !std::mem::replace(&mut seen[shape], true) {
                shapes[shape].literals.iter().for_each(|literal| index.text(literal));
            }
        }
        for ((field, values), fixed) in lines.table.fields.iter().zip(&lines.fields).zip(&self.fields) {
            if let Some(values) = values {
                add_values(field.kind, values, *fixed, index);
            }
        }
        lines.raw.iter().flat_map(|raw| raw.iter().flatten()).for_each(|line| index.text(line));
        let rest = lines.rest.as_ref().and_then(|rest| rest.values().as_string_opt::<i32>());
        rest.iter().flat_map(|rest| rest.iter().flatten()).for_each(|value| index.text(value));
        metadata.for_each(|metadata| self.add_metadata(metadata, index));
    }

    fn add_metadata(&self, metadata: &Metadata, index: &mut IndexBuilder) {
        for ((_, values), fixed) in metadata.columns.iter().zip(&self.columns) {
            add_texts(values, *fixed, index);
        }
        let Some(rest) = &metadata.rest else { return };
        let (offsets, values) = (rest.value_offsets(), rest.values().as_string_opt::<i32>());
        let range: Range<i32> = offsets.first().copied().unwrap_or(0)..offsets.last().copied().unwrap_or(0);
        if let Some(values) = values {
            add_texts(&values.slice(range.start as usize, range.len()), None, index);
        }
    }
}

/// Whether a gap begins or ends within a token, so that a token of a line is neither in a literal nor in a value.
fn splits_tokens(shape: &Shape) -> bool {
    let touches = |byte: Option<&u8>| byte.is_some_and(|byte| is_token_byte(*byte));
    let last = shape.gaps.len();
    shape.literals.iter().enumerate().any(|(at, literal)| {
        let literal = literal.as_bytes();
        let between = 0 < at && at < last;
        (between && literal.is_empty())
            || (at > 0 && touches(literal.first()))
            || (at < last && touches(literal.last()))
    })
}

fn add_values(kind: Kind, values: &Values, fixed: Option<FixedId>, index: &mut IndexBuilder) {
    match (values, fixed) {
        (Values::Dictionary(values), _) => {
            // A batch's dictionary holds what occurs in it.
            let texts = values.values().as_string_opt::<i32>();
            texts.iter().flat_map(|texts| texts.iter().flatten()).for_each(|text| index.text(text));
        }
        (Values::Text(values), fixed) => add_texts(values, fixed, index),
        (Values::Hex(values), Some(fixed)) => {
            values.iter().flatten().for_each(|bytes| index.hex(fixed, bytes));
        }
        (Values::Hex(values), None) => {
            let mut text = String::new();
            for bytes in values.iter().flatten() {
                text.clear();
                shred::push_hex(bytes, &mut text);
                index.text(&text);
            }
        }
        (Values::Integer(values), _) => {
            let form = match kind {
                Kind::Decimal { scale } => Form::Decimals(scale),
                _ => Form::Plain,
            };
            let ends = [values.iter().flatten().min(), values.iter().flatten().max()];
            let longest = ends.into_iter().flatten().map(|value| shred::number_len(value, kind, form)).max();
            longest.into_iter().for_each(|longest| index.numbers(longest));
        }
    }
}

/// Values in a row that are the same are given once.
fn add_texts(values: &StringArray, fixed: Option<FixedId>, index: &mut IndexBuilder) {
    let mut before = None;
    for value in values.iter().flatten() {
        if before == Some(value) {
            continue;
        }
        before = Some(value);
        match fixed {
            Some(fixed) => index.value(fixed, value),
            None => index.text(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::StringArray;

    #[test]
    fn lines_are_never_taken_apart_inside_of_a_token() {
        let lines = StringArray::from(vec![
            r#"{"a":"x-1","n":-17,"d":1.50,"l":[1,"y"],"t":true,"o":{"e":""}}"#,
            "a=1 msg=\"hello there\" d= flag e=5s",
            "10.1.2.3 - - [17] \"GET /a/v1_x?q=1 HTTP/1.1\" 200 größe7ü rt=0.5",
        ]);
        let shredded = shred::shred_all(&lines);
        assert_eq!(shredded.table.shapes.len(), 3);
        assert!(!shredded.table.shapes.iter().any(splits_tokens));
    }
}

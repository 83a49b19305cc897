//! Reading a value of shredded lines.

use arrow_array::Array as _;
use shred::{Gap, Shape, ShreddedLines, Source, Values};

/// The text of a gap in a row, made in `buffer` if it is not kept as text. `None` if there is none, or if it was not read.
#[inline]
pub(crate) fn gap_text<'t>(
    lines: &'t ShreddedLines,
    gap: Gap,
    row: usize,
    buffer: &'t mut String,
) -> Option<&'t str> {
    match gap.source {
        Source::Rest(place) => lines.rest_value(row, place),
        Source::Field(field) => match lines.fields.get(field.0 as usize)?.as_ref()? {
            values @ (Values::Dictionary(_) | Values::Text(_)) => values.text(row),
            Values::Integer(values) if values.is_null(row) => None,
            Values::Hex(values) if values.is_null(row) => None,
            Values::Integer(_) | Values::Hex(_) => {
                buffer.clear();
                lines.append_value(row, gap, buffer);
                Some(buffer)
            }
        },
    }
}

/// Whether the values of all gaps of the shape have been read.
pub(crate) fn is_read(lines: &ShreddedLines, shape: &Shape) -> bool {
    shape.gaps.iter().all(|gap| match gap.source {
        Source::Field(field) => lines.fields.get(field.0 as usize).is_some_and(Option::is_some),
        Source::Rest(_) => lines.rest.is_some(),
    })
}

/// Whether the length of lines of the shape is known from the values that have been read, and from those that have all one length.
pub(crate) fn is_measured(lines: &ShreddedLines, shape: &Shape) -> bool {
    shape.gaps.iter().all(|gap| match gap.source {
        Source::Field(field) => {
            lines.fields.get(field.0 as usize).is_some_and(Option::is_some)
                || lines.table.constant_len(*gap).is_some()
        }
        Source::Rest(_) => lines.rest.is_some(),
    })
}

//! `| json`: every scalar member becomes a label, nested names joined by `_`.

use super::json_text::{Fault, MALFORMED_OBJECT, Scanner, Value, unescape};
use crate::names::{NameId, Names};
use crate::row::{Line, Row, Text};

/// Objects nested deeper than this are skipped.
const MAX_DEPTH: usize = 64;

/// Why reading stops.
enum Stop {
    Fault(Fault),
    /// All wanted labels are there.
    Complete,
}

pub(super) fn run(row: &mut Row<'_, '_>, names: &mut Names) {
    if row.is_complete() {
        return;
    }
    row.with_line(|line, row| {
        let mut reader = Reader { scanner: Scanner::new(line.text), line, row, names, path: Vec::new(), unescaped: String::new() };
        if let Err(Stop::Fault(fault)) = reader.object(0) {
            row.fail("JSONParserErr", Some(fault));
        }
    });
}

struct Reader<'r, 'l, 'v, 'b> {
    scanner: Scanner<'l>,
    line: Line<'l, 'b>,
    row: &'r mut Row<'v, 'b>,
    names: &'r mut Names,
    /// The raw keys down to the current object, each followed by NUL.
    path: Vec<u8>,
    unescaped: String,
}

impl<'b> Reader<'_, '_, '_, 'b> {
    fn object(&mut self, depth: usize) -> Result<(), Stop> {
        let mut more = self.scanner.open().map_err(Stop::Fault)?;
        while more {
            let Some((start, end, escaped)) = self.scanner.key().map_err(Stop::Fault)? else { return Ok(()) };
            let above = self.path.len();
            if escaped {
                self.unescaped.clear();
                if !unescape(&self.line.text[start..end], &mut self.unescaped) {
                    return Err(Stop::Fault("Encountered an invalid escape sequence in a string"));
                }
                self.path.extend_from_slice(self.unescaped.as_bytes());
            } else {
                self.path.extend_from_slice(&self.line.text.as_bytes()[start..end]);
            }
            self.member(depth)?;
            self.path.truncate(above);
            more = self.scanner.next_member().map_err(Stop::Fault)?;
        }
        Ok(())
    }

    /// Reads the value of the member whose key ends `path`.
    fn member(&mut self, depth: usize) -> Result<(), Stop> {
        if self.scanner.at_object() && depth + 1 < MAX_DEPTH {
            let (start, mark) = (self.scanner, self.row.mark());
            self.path.push(0);
            return self.object(depth + 1).map_err(|stop| match stop {
                // An object without an end gives nothing at all.
                Stop::Fault(_) if { start }.value().is_err() => {
                    self.row.rollback(mark);
                    Stop::Fault(MALFORMED_OBJECT)
                }
                stop => stop,
            });
        }
        let value = match self.scanner.value().map_err(Stop::Fault)? {
            Value::Null | Value::Object { .. } | Value::Array { .. } => return Ok(()),
            value => value,
        };
        let Some(name) = self.name() else { return Ok(()) };
        if !self.row.accepts(name) {
            return Ok(());
        }
        let value = text(&self.line, value, self.row);
        self.row.add(name, value);
        if self.row.is_complete() { Err(Stop::Complete) } else { Ok(()) }
    }

    fn name(&mut self) -> Option<NameId> {
        let id = self.names.sanitized(&self.path)?;
        Some(self.row.parsed_name(id, self.names))
    }
}

/// The text of a scalar, or the source of an object or array.
pub(super) fn text<'b>(line: &Line<'_, 'b>, value: Value, row: &mut Row<'_, 'b>) -> Text<'b> {
    match value {
        Value::Null => Text::Batch(""),
        Value::Scalar { start, end } | Value::Object { start, end } | Value::Array { start, end } => line.slice(start, end),
        Value::String { start, end, escaped: false } if !line.text[start..end].contains('\u{fffd}') => line.slice(start, end),
        Value::String { start, end, .. } => {
            let raw = line.text[start..end].replace('\u{fffd}', " ");
            let made = row.make_with(|out| if unescape(&raw, out) { Ok(()) } else { Err(()) });
            made.unwrap_or(Text::Batch(""))
        }
    }
}

//! `| unpack`: undoes Promtail's pack stage.

use super::json::text;
use super::json_text::{Fault, Scanner, Value};
use crate::names::Names;
use crate::row::{Line, Row, Text};

pub(super) fn run(row: &mut Row<'_, '_>, names: &mut Names) {
    let entry = row.with_line(|line, row| match members(&line, row) {
        Ok(members) => {
            let entry = members.iter().find(|(key, _)| *key == b"_entry").map(|(_, value)| *value)?;
            for (key, value) in members {
                if key == b"_entry" {
                    continue;
                }
                let Some(name) = names.sanitized(key) else { continue };
                let name = row.parsed_name(name, names);
                if row.accepts(name) {
                    row.add(name, value);
                }
            }
            Some(entry)
        }
        Err(fault) => {
            row.fail("JSONParserErr", Some(fault));
            None
        }
    });
    if let Some(entry) = entry {
        let text = row.resolve(entry).to_owned();
        row.set_line(&text);
    }
}

/// The members that are strings.
fn members<'l, 'b>(line: &Line<'l, 'b>, row: &mut Row<'_, 'b>) -> Result<Vec<(&'l [u8], Text<'b>)>, Fault> {
    let mut scanner = Scanner::new(line.text);
    let mut members = Vec::new();
    let mut more = scanner.open()?;
    while more {
        let Some((start, end, _)) = scanner.key()? else { break };
        if let value @ Value::String { .. } = scanner.value()? {
            members.push((&scanner.text[start..end], text(line, value, row)));
        }
        more = scanner.next_member()?;
    }
    Ok(members)
}

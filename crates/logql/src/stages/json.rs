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
        let mut reader = Reader {
            scanner: Scanner::new(line.text),
            line,
            row,
            names,
            path: Vec::new(),
            unescaped: String::new(),
        };
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
        Value::Scalar { start, end } | Value::Object { start, end } | Value::Array { start, end } => {
            line.slice(start, end)
        }
        Value::String { start, end, escaped: false } if !line.text[start..end].contains('\u{fffd}') => {
            line.slice(start, end)
        }
        Value::String { start, end, .. } => {
            let raw = line.text[start..end].replace('\u{fffd}', " ");
            let made = row.make_with(|out| if unescape(&raw, out) { Ok(()) } else { Err(()) });
            made.unwrap_or(Text::Batch(""))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::{Int64Array, StringArray};
    use model::Labels;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;
    use crate::batch::{EntryBatch, Metadata};
    use crate::needs::MetadataNeeds;
    use crate::row::{BatchView, Wanted};

    /// The labels that the stage makes of a line.
    fn parse(line: &str, wanted: Option<&[&str]>) -> BTreeMap<String, String> {
        let batch = EntryBatch {
            labels: Labels::from_pairs([("app", "x")]),
            timestamps: Int64Array::from(vec![0]),
            lines: StringArray::from(vec![line]).into(),
            metadata: Metadata::empty(),
        };
        let mut names = Names::new();
        let wanted =
            wanted.map_or(Wanted::All, |wanted| Wanted::Names(wanted.iter().map(|n| names.id(n)).collect()));
        let view = BatchView::new(&batch, &mut names, &MetadataNeeds::All);
        let mut row = Row::new(&view, &wanted);
        row.load(0, &mut names);
        run(&mut row, &mut names);
        row.parsed_labels().map(|(id, value)| (names.text(id).to_string(), value.to_owned())).collect()
    }

    fn check(line: &str, want: &[(&str, &str)]) {
        let want: BTreeMap<String, String> =
            want.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(parse(line, None), want, "{line}");
    }

    #[test]
    fn members() {
        check(r#"{"app":"z","n":{"v":1},"t":[1]}"#, &[("app_extracted", "z"), ("n_v", "1")]);
        check(
            r#"{"a":"1","a":"2","b":true,"c":null,"d":-1.50,"e":"x\ty"}"#,
            &[("a", "1"), ("b", "true"), ("d", "-1.50"), ("e", "x\ty")],
        );
        check(
            r#"{"a":{"b":{"c":1}},"1x":2,"y z":3} trailing"#,
            &[("a_b_c", "1"), ("_1x", "2"), ("y_z", "3")],
        );
        check("{}", &[]);
    }

    #[test]
    fn faults() {
        let error = |details| [("__error__", "JSONParserErr"), ("__error_details__", details)];
        check("not json", &error(MALFORMED_OBJECT));
        check("[1]", &error(MALFORMED_OBJECT));
        check("", &error(MALFORMED_OBJECT));
        let with = |label: (&'static str, &'static str), details| [&[label][..], &error(details)].concat();
        check(r#"{"a":1,"b":{"c":2"#, &with(("a", "1"), MALFORMED_OBJECT));
        check(r#"{"a":1,"b":[2"#, &with(("a", "1"), "Value is array, but can't find closing ']' symbol"));
        check(r#"{"a":1,"b":"2"#, &with(("a", "1"), "Value is string, but can't find closing '\"' symbol"));
        check(r#"{"a":1,"b":f"#, &with(("a", "1"), "Unknown value type"));
        check(r#"{"a":1,"b":"#, &with(("a", "1"), "Malformed JSON error"));
        check(r#"{"b":{"c":2,"d":x},"e":1}"#, &with(("b_c", "2"), "Unknown value type"));
    }

    #[test]
    fn reading_stops_when_all_is_found() {
        assert_eq!(parse(r#"{"a":1,"b":2,"c":"#, Some(&["b"])).len(), 1);
        assert!(parse(r#"{"a":1,"c":"#, Some(&["b"])).contains_key("__error__"));
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            (-1e9..1e9).prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        let value = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                proptest::collection::btree_map("[a-z\"\\\\é]{1,4}", inner, 0..4)
                    .prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map("[a-z]{1,4}", value, 0..6)
            .prop_map(|m| Json::Object(m.into_iter().collect()))
    }

    /// What the stage should make of a valid object.
    fn flatten(path: &str, json: &Json, out: &mut BTreeMap<String, String>) {
        match json {
            Json::Object(members) => {
                for (key, value) in members {
                    let key: String = key
                        .bytes()
                        .map(|b| if b.is_ascii_alphanumeric() { b as char } else { '_' })
                        .collect();
                    let path = if path.is_empty() { key } else { format!("{path}_{key}") };
                    flatten(&path, value, out);
                }
            }
            Json::Array(_) | Json::Null => {}
            Json::String(text) => {
                out.entry(path.to_owned()).or_insert_with(|| text.replace('\u{fffd}', " "));
            }
            other => {
                out.entry(path.to_owned()).or_insert_with(|| other.to_string());
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(json in json(), pretty in any::<bool>()) {
            let line = if pretty { serde_json::to_string_pretty(&json).unwrap() } else { json.to_string() };
            let mut want = BTreeMap::new();
            flatten("", &json, &mut want);
            if let Some(value) = want.remove("app") {
                want.entry("app_extracted".to_owned()).or_insert(value);
            }
            prop_assert_eq!(parse(&line, None), want, "{}", line);
        }

        #[test]
        fn wanted_labels_have_the_same_values(json in json(), pick in any::<proptest::sample::Index>()) {
            let whole = parse(&json.to_string(), None);
            if !whole.is_empty() {
                let (name, value) = whole.iter().nth(pick.index(whole.len())).unwrap();
                let part = parse(&json.to_string(), Some(&[name]));
                prop_assert_eq!(part.into_iter().collect::<Vec<_>>(), [(name.clone(), value.clone())]);
            }
        }

        #[test]
        fn cut_lines_neither_panic_nor_invent(json in json(), cut in any::<proptest::sample::Index>()) {
            let line = json.to_string();
            let mut at = cut.index(line.len());
            while !line.is_char_boundary(at) {
                at -= 1;
            }
            let (whole, part) = (parse(&line, None), parse(&line[..at], None));
            for (name, value) in part.iter().filter(|(name, _)| !name.starts_with("__error")) {
                // A number may be cut short.
                prop_assert!(whole.get(name).is_some_and(|w| w.starts_with(value.as_str())), "{} {}", name, value);
            }
        }
    }
}

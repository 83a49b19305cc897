//! Takes the lines of a block apart, a batch at a time.

use std::sync::Arc;

use arrow_array::StringArray;
use hashbrown::HashMap;

use crate::column::{Column, Rows};
use crate::survey::{Profile, Survey};
use crate::trie::Trie;
use crate::value::{decimal, hex, integer};
use crate::{Field, FieldId, Form, Gap, Kind, Shape, ShapeId, ShreddedLines, Source, Syntax, Table};

/// Shapes of a block, at most.
const MAX_SHAPES: usize = 16_384;
/// Shapes that differ only in how values are written, at most.
const MAX_VARIANTS: usize = 64;
/// The value of a gap is kept among the rest.
const REST: u8 = u8::MAX;

/// Turns lines into shapes and values; the columns are chosen by a [`Survey`], shapes are added as they are met.
#[derive(Debug)]
pub struct Shredder {
    trie: Trie,
    /// By skeleton.
    found: Vec<Found>,
    min_seen: u32,
    table: Arc<Table>,
    profiles: Vec<Profile>,
    names: HashMap<Arc<str>, FieldId>,
    /// By path.
    field_of_path: Vec<Option<FieldId>>,
    columns: Vec<Column>,
    rows: Rows,
    gaps: Vec<(u32, u32)>,
    values: Vec<Value>,
    codes: Vec<u8>,
    hex: Vec<u8>,
}

/// A skeleton that lines of the block had.
#[derive(Debug, Default)]
struct Found {
    seen: u32,
    variants: Vec<Variant>,
}

/// A shape of a skeleton.
#[derive(Debug)]
struct Variant {
    /// Per gap 0, [`REST`], or 1 + the digits after the point.
    codes: Box<[u8]>,
    shape: ShapeId,
}

/// A value that waits for the shape of its line.
#[derive(Debug, Clone, Copy)]
enum Value {
    Text,
    Number(i64),
    /// Bytes in the buffer.
    Hex(u32, u32),
    Rest,
}

impl Shredder {
    pub(crate) fn new(trie: Trie, seen: Vec<u32>, fields: Vec<(Field, Profile)>, min_seen: u32) -> Self {
        let (fields, profiles): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let ids = fields.iter().zip(0..).map(|(field, id)| (field.name.clone(), FieldId(id)));
        Self {
            trie,
            found: seen.into_iter().map(|seen| Found { seen, variants: Vec::new() }).collect(),
            min_seen,
            names: ids.collect(),
            columns: fields.iter().map(|field| Column::new(field.kind)).collect(),
            table: Arc::new(Table { shapes: Vec::new(), fields }),
            profiles,
            field_of_path: Vec::new(),
            rows: Rows::default(),
            gaps: Vec::new(),
            values: Vec::new(),
            codes: Vec::new(),
            hex: Vec::new(),
        }
    }

    /// The fields, and the shapes met so far.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// What the survey knows of a field.
    pub fn profile(&self, field: FieldId) -> Profile {
        self.profiles.get(field.0 as usize).copied().unwrap_or_default()
    }

    /// Adds a line to the batch.
    pub fn push(&mut self, line: &str) {
        match self.take_apart(line) {
            None => self.rows.push_raw(line),
            Some(shape) => {
                let row = self.rows.push_shape(shape);
                self.keep_values(line, shape, row);
            }
        }
    }

    /// Finds the shape of a line and leaves its values in `values`.
    fn take_apart(&mut self, line: &str) -> Option<ShapeId> {
        let number = self.trie.find(line, &mut self.gaps)? as usize;
        if self.found.len() <= number {
            self.found.resize_with(number + 1, Found::default);
        }
        let found = &mut self.found[number];
        found.seen = found.seen.saturating_add(1);
        // Texts differ in any word, so it takes more of them to see a structure.
        let factor = if self.trie.skeletons[number].syntax == Syntax::Text { 4 } else { 1 };
        if found.seen < self.min_seen * factor {
            return None;
        }
        for path in &self.trie.paths[self.field_of_path.len()..] {
            self.field_of_path.push(self.names.get(path).copied());
        }
        let skeleton = &self.trie.skeletons[number];
        self.values.clear();
        self.codes.clear();
        self.hex.clear();
        for (path, &(start, end)) in skeleton.paths.iter().zip(&self.gaps) {
            let text = &line.as_bytes()[start as usize..end as usize];
            let field = path.and_then(|path| self.field_of_path[path as usize]);
            let kind = field.map(|id| self.table.fields[id.0 as usize].kind);
            let (value, code) = match kind {
                None => (Value::Rest, REST),
                Some(Kind::Dictionary | Kind::Text) => (Value::Text, 0),
                Some(Kind::Integer) => integer(text).map_or((Value::Rest, REST), |n| (Value::Number(n), 0)),
                Some(Kind::Decimal { scale }) => decimal(text, scale)
                    .map_or((Value::Rest, REST), |(n, digits)| (Value::Number(n), 1 + digits)),
                Some(Kind::Hex { bytes }) => {
                    let start = self.hex.len();
                    self.hex.resize(start + usize::from(bytes), 0);
                    match hex(text, &mut self.hex[start..]) {
                        true => (Value::Hex(start as u32, self.hex.len() as u32), 0),
                        false => (Value::Rest, REST),
                    }
                }
            };
            self.values.push(value);
            self.codes.push(code);
        }
        let variants = &mut found.variants;
        match variants.iter().position(|v| *v.codes == *self.codes) {
            Some(at) => {
                // The one that was asked for last is asked for first.
                variants.swap(0, at);
                Some(variants[0].shape)
            }
            None => self.add_shape(number),
        }
    }

    #[cold]
    fn add_shape(&mut self, number: usize) -> Option<ShapeId> {
        let (skeleton, variants) = (&self.trie.skeletons[number], &mut self.found[number].variants);
        if self.table.shapes.len() >= MAX_SHAPES || variants.len() >= MAX_VARIANTS {
            return None;
        }
        let mut rest = 0;
        let gaps = skeleton.paths.iter().zip(&self.codes).map(|(path, code)| {
            let field = path.and_then(|path| self.field_of_path[path as usize]);
            match (field, *code) {
                (Some(id), code) if code != REST => {
                    let form = code.checked_sub(1).map_or(Form::Plain, Form::Decimals);
                    Gap { source: Source::Field(id), form }
                }
                _ => {
                    rest += 1;
                    Gap::plain(Source::Rest(rest - 1))
                }
            }
        });
        let gaps = gaps.collect();
        let shape = Shape { syntax: skeleton.syntax, literals: skeleton.literals.clone(), gaps };
        let id = ShapeId(self.table.shapes.len() as u32);
        Arc::make_mut(&mut self.table).shapes.push(shape);
        variants.push(Variant { codes: self.codes.as_slice().into(), shape: id });
        Some(id)
    }

    fn keep_values(&mut self, line: &str, shape: ShapeId, row: usize) {
        let gaps = &self.table.shapes[shape.0 as usize].gaps;
        for ((gap, value), &(start, end)) in gaps.iter().zip(&self.values).zip(&self.gaps) {
            let text = &line[start as usize..end as usize];
            match (gap.source, value) {
                (Source::Rest(_), _) | (_, Value::Rest) => self.rows.push_rest(text),
                (Source::Field(id), value) => {
                    let column = &mut self.columns[id.0 as usize];
                    match value {
                        Value::Number(number) => column.push_number(row, *number),
                        Value::Hex(from, to) => column.push_hex(row, &self.hex[*from as usize..*to as usize]),
                        Value::Text | Value::Rest => column.push_text(row, text),
                    }
                }
            }
        }
    }

    /// How many lines the batch has.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Hands out the batch and begins another one. Fields that no line of the batch has are `None`.
    pub fn finish_batch(&mut self) -> ShreddedLines {
        let rows = self.rows.len();
        let fields: Vec<_> = self.columns.iter_mut().map(|column| column.finish(rows)).collect();
        for (at, values) in fields.iter().enumerate() {
            let holds = &self.table.fields[at].holds;
            if let Some(grown) = values.as_ref().and_then(|values| holds.grown(values)) {
                Arc::make_mut(&mut self.table).fields[at].holds = grown;
            }
        }
        let (shapes, raw, rest) = self.rows.finish();
        ShreddedLines { table: self.table.clone(), shapes, raw, fields, rest }
    }
}

/// Takes the lines of one batch apart, with a column for whatever they hold.
pub fn shred_all(lines: &StringArray) -> ShreddedLines {
    let mut survey = Survey::new();
    lines.iter().flatten().for_each(|line| survey.add(line));
    let mut shredder = survey.shredder(u64::MAX, 0);
    lines.iter().for_each(|line| shredder.push(line.unwrap_or_default()));
    shredder.finish_batch()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lines;
    use arrow_array::{Array, BooleanArray, UInt32Array};
    use proptest::prelude::*;

    fn check(lines: &[String]) -> ShreddedLines {
        let texts = StringArray::from_iter_values(lines);
        let shredded = shred_all(&texts);
        same(&shredded, lines);
        // A sample that saw little gives other columns, more rest values and raw lines, and the same lines.
        let mut survey = Survey::new();
        lines.iter().step_by(3).for_each(|line| survey.add(line));
        let mut shredder = survey.finish();
        let mut parts = Vec::new();
        for part in lines.chunks(7) {
            part.iter().for_each(|line| shredder.push(line));
            parts.push(shredder.finish_batch());
        }
        for part in &mut parts {
            part.table = shredder.table().clone();
        }
        if let Some(joined) = ShreddedLines::concat(&parts).unwrap() {
            same(&joined, lines);
        }
        shredded
    }

    fn same(shredded: &ShreddedLines, lines: &[String]) {
        assert_eq!(shredded.len(), lines.len());
        let back = shredded.to_text();
        for (row, line) in lines.iter().enumerate() {
            assert_eq!(back.value(row), line);
            assert_eq!(shredded.line_len(row), line.len(), "{line}");
        }
        let table = &shredded.table;
        assert_eq!(Table::decode(&table.encode()).as_ref(), Ok(&**table));
        for shape in &table.shapes {
            assert_eq!(Shape::parse(&shape.to_text(table), table).as_ref(), Ok(shape));
        }
    }

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_of_one_program_share_shapes() {
        let lines: Vec<String> = (0..100)
            .map(|i| {
                format!(
                    r#"{{"level":"info","id":"{:032x}","n":{i},"d":{:.2},"http":{{"code":200}}}}"#,
                    i * 7919,
                    i as f64 / 7.0
                )
            })
            .collect();
        let shredded = check(&lines);
        let table = &shredded.table;
        assert_eq!(table.shapes.len(), 1);
        let kinds: Vec<(&str, Kind)> = table.fields.iter().map(|f| (&*f.name, f.kind)).collect();
        let expect = [
            ("level", Kind::Dictionary),
            ("id", Kind::Hex { bytes: 16 }),
            ("n", Kind::Integer),
            ("d", Kind::Decimal { scale: 2 }),
            ("http.code", Kind::Integer),
        ];
        assert_eq!(kinds, expect);
        assert!(shredded.raw.is_none() && shredded.rest.is_none());
        let odd = UInt32Array::from_iter_values((0..100).filter(|i| i % 2 == 1));
        let keep: BooleanArray = (0..100).map(|i| Some(i % 2 == 1)).collect();
        let expect: Vec<String> = lines.iter().skip(1).step_by(2).cloned().collect();
        same(&shredded.take(&odd).unwrap(), &expect);
        same(&shredded.filter(&keep).unwrap(), &expect);
        same(&shredded.slice(10, 20), &lines[10..30]);
        let Lines::Shredded(part) = Lines::Shredded(shredded).slice(99, 1) else { panic!() };
        same(&part, &lines[99..]);
    }

    #[test]
    fn strays_are_rest_values() {
        let mut lines: Vec<String> = (0..200).map(|i| format!("id={:016x} n={i}", i * 31)).collect();
        lines.extend(owned(&["id=xyz n=12", "id=0000000000000ABC n=007", "id=0123456789abcdef n=-0"]));
        let shredded = check(&lines);
        assert_eq!(shredded.table.shapes.len(), 4);
        assert_eq!(shredded.rest_value(200, 0), Some("xyz"));
        assert_eq!(shredded.rest_value(201, 1), Some("007"));
        assert_eq!(shredded.rest_value(0, 0), None);
    }

    #[test]
    fn rare_structures_stay_raw() {
        let mut survey = Survey::new();
        let lines = owned(&[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"b":3}"#, "{"]);
        lines.iter().for_each(|line| survey.add(line));
        let mut shredder = survey.finish();
        lines.iter().for_each(|line| shredder.push(line));
        let shredded = shredder.finish_batch();
        same(&shredded, &lines);
        // What was counted before counts; the second time a structure is met makes it a shape.
        assert_eq!((shredded.shapes.null_count(), shredded.table.shapes.len()), (1, 2));
    }

    #[test]
    fn noise_does_not_crowd_structures_out() {
        let noise = |i: usize| format!("{{\"{:x}\":1,\"{:x}\":2}}", i, i * 7919);
        let good = |i: usize| format!(r#"{{"level":"info","n":{i}}}"#);
        let mut survey = Survey::new();
        (0..9000).for_each(|i| survey.add(&noise(i)));
        (0..10).for_each(|i| survey.add(&good(i)));
        let mut shredder = survey.finish();
        (9000..30_000).for_each(|i| shredder.push(&noise(i)));
        (10..20).for_each(|i| shredder.push(&good(i)));
        let batch = shredder.finish_batch();
        assert_eq!((batch.shapes.null_count(), batch.table.shapes.len()), (21_000, 1));
        same(&batch.slice(21_000, 10), &(10..20).map(good).collect::<Vec<_>>());
    }

    #[test]
    fn hostile_lines_come_back() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(2000), "}".repeat(2000));
        let wide = format!("{{{}}}", (0..600).map(|i| format!("\"k{i}\":{i}")).collect::<Vec<_>>().join(","));
        let long = format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(1 << 20));
        check(&owned(&[
            "",
            " ",
            "{}",
            "{ }",
            " {} ",
            "{}{}",
            r#"{"a":1,"a":2}"#,
            r#"{"a" : 1 , "b":  "x"}"#,
            r#"{"a":"\u0041\n\"}"#,
            r#"{"a":"\ud83d\ude00","b":"\ud800"}"#,
            r#"{"a":1e5,"b":-0,"c":-0.0,"d":123456789012345678901234567890}"#,
            r#"{"a":0.10,"b":1.000,"c":9223372036854775808}"#,
            r#"{"a":{"b":{"c":[1,[2,{"d":"]}"}]]}}}"#,
            r#"{"a":"#,
            r#"{"a":"x"#,
            "{\"a\":\"\u{0}\"}",
            "a=\u{1}b\u{2} c=\u{3}",
            "\u{1}\u{2}\u{3}",
            "a=1 b=\"x \\\" y\" c d= e=\"\"",
            "a=1 a=2 a=3",
            "a==",
            "=",
            "\"",
            "a=\"",
            "ü=ö \u{1f600}=\"\u{1f600}\"",
            r#"{"":1,"a.b":1,"a":{"b":2},"#,
            r#"{"a.b":1,"a":{"b":2}}"#,
            r#"{"":"empty key"}"#,
            "level=info\tmsg=x  y=z ",
            "\r\n",
            "a=1\nb=2",
            r#"{"a":[],"b":{},"c":[{}]}"#,
            &deep,
            &wide,
            &long,
            "10.0.0.1 - - [1793620800] \"GET /a/17 HTTP/1.1\" 200 1234 \"-\" \"curl/8.5.0\" rt=0.123",
        ]));
    }

    /// Lines made of pieces that scanners care about.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{"),
            Just("}"),
            Just("\""),
            Just("\\"),
            Just(":"),
            Just(","),
            Just("["),
            Just("]"),
            Just("="),
            Just(" "),
            Just("a"),
            Just("\"a\":"),
            Just("\"b\":\"x\""),
            Just("1"),
            Just("0"),
            Just("-"),
            Just("."),
            Just("1.50"),
            Just("deadbeef"),
            Just("null"),
            Just("\u{1}"),
            Just("\u{2}"),
            Just("\u{0}"),
            Just("ü"),
            Just("\t"),
            Just("\\u00e9"),
            Just("k=v"),
            Just("k=\"q\""),
            Just("e5"),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn structured() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            "-?[0-9]{1,20}",
            "[0-9]{1,3}\\.[0-9]{1,4}",
            "\"[0-9a-f]{8}\"",
            "\"[0-9a-fA-F]{7,9}\"",
            "\"[a-c]{0,2}\"",
            "\"(\\\\[n\"u]|x|ü){0,3}\"",
            "(true|null|\\[1,\"a\"\\])",
            "\\{\"a\":[0-9]\\}",
        ];
        let json = proptest::collection::vec(("[abc]", "[ ]?", value), 0..5).prop_map(|members| {
            let members: Vec<String> = members.iter().map(|(k, s, v)| format!("\"{k}\":{s}{v}")).collect();
            format!("{{{}}}", members.join(","))
        });
        let bare =
            prop_oneof!["[0-9a-f]{8}", "-?[0-9.]{0,6}", "[a-z]{0,2}", "\"[a-z ü]{0,3}\"", "\"\\\\\"x\""];
        let logfmt = proptest::collection::vec(("[abc]{1,2}", bare), 1..5)
            .prop_map(|pairs| pairs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "));
        let words = proptest::collection::vec(
            prop_oneof!["[0-9.:]{1,6}", "[a-z]{1,3}", "\\[[0-9]{1,3}\\]", "\"[a-z0-9/ ]{0,6}\""],
            1..6,
        );
        prop_oneof![json, logfmt, words.prop_map(|words| words.join(" "))]
    }

    proptest! {
        #[test]
        fn lines_come_back(lines in proptest::collection::vec(prop_oneof![structured(), structured(), hostile(), ".{0,20}"], 0..60)) {
            check(&lines);
        }

        #[test]
        fn the_walk_finds_what_the_parser_finds(lines in proptest::collection::vec(prop_oneof![structured(), hostile()], 1..60)) {
            let mut trie = Trie::new();
            let mut gaps = Vec::new();
            for line in lines.iter().chain(&lines) {
                let found = trie.find(line, &mut gaps);
                let parsed = crate::scan::parse(line);
                prop_assert_eq!(found.is_some(), parsed.is_some(), "{}", line);
                if let (Some(found), Some(parsed)) = (found, parsed) {
                    let expect: Vec<_> = parsed.pieces.iter().map(|p| (p.start as u32, p.end as u32)).collect();
                    prop_assert_eq!(&gaps, &expect, "{}", line);
                    prop_assert_eq!(trie.skeletons[found as usize].syntax, parsed.syntax);
                }
            }
        }
    }
}

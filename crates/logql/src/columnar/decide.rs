//! Label filters over columns: dictionary entries are asked once, integers are compared as integers.

use std::convert::Infallible;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef};
use hashbrown::HashMap;
use memchr::memchr2;
use model::MatchOp;
use shred::{Gap, Kind, Lines, ShreddedLines, Source, Values};

use super::Tri;
use super::cells::gap_text;
use super::program::{Ambient, Class, Origins, Plans, Program, Reading};
use crate::ast::{CompareOp, Literal};
use crate::names::{NameId, Names};
use crate::row::BatchView;
use crate::stages::{LabelFilter, Stage, Verdict, unescape};

/// What is kept from batch to batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProgramState {
    plans: Vec<Plans>,
    memos: Memos,
}

/// Verdicts on the entries of dictionaries, by condition (its place in the plan's memory, which does not move), field and reading.
type Memos = HashMap<(usize, u32, Reading), (ArrayRef, Vec<Option<Tri>>)>;

/// Rows of one class that pass; all ascending.
pub(crate) struct Known<'p> {
    /// Where the labels come from after all parsers.
    pub(crate) labels: Labels<'p>,
    pub(crate) rows: Vec<u32>,
}

/// Where labels come from, for the rows of a class.
#[derive(Clone, Copy)]
pub(crate) struct Labels<'p> {
    names: &'p [NameId],
    origins: &'p [Origins],
    ambient: &'p [Ambient<'p>],
}

/// Where one label comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Label<'p> {
    Missing,
    Text(&'p str),
    /// A column of the metadata.
    Column(usize),
    Gap(Gap, Reading),
    Unknown,
}

impl<'p> Labels<'p> {
    pub(crate) fn get(&self, id: NameId) -> Label<'p> {
        let Some(at) = self.names.iter().position(|n| *n == id) else { return Label::Unknown };
        match &self.origins[at] {
            Origins::Text(text) => Label::Text(text),
            Origins::Gap(gap, reading) => Label::Gap(*gap, *reading),
            Origins::Ambient => match self.ambient[at] {
                Ambient::Nowhere => Label::Missing,
                Ambient::Stream(value) => Label::Text(value),
                Ambient::Column(column) => Label::Column(column),
                Ambient::Unknown => Label::Unknown,
            },
        }
    }
}

impl Program {
    /// Decides on rows of the batch (ascending). `take` gets the rows that pass, class by class; the rows whose text must be asked
    /// are returned, ascending.
    pub(crate) fn decide<'b, E>(
        &self,
        stages: &[Stage],
        view: &BatchView<'b>,
        rows: &[u32],
        names: &mut Names,
        state: &mut ProgramState,
        mut take: impl FnMut(Known<'_>, &mut Memory<'_>, &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<Vec<u32>, E> {
        let Lines::Shredded(lines) = &view.batch.lines else { return Ok(rows.to_vec()) };
        let context = self.context(view, names);
        let plans = Plans::fit(&mut state.plans, &lines.table, &context);
        let mut class_of = |row: u32| {
            let row = row as usize;
            if lines.shapes.is_null(row) {
                return 0;
            }
            let shape = lines.shapes.value(row) as usize;
            plans.known_class(shape).unwrap_or_else(|| self.class(stages, plans, shape, names))
        };
        // Mostly all rows are of one class.
        let first = rows.first().map_or(0, |row| class_of(*row));
        let same = rows.iter().take_while(|row| class_of(**row) == first).count();
        let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); first];
        by_class.push(rows[..same].to_vec());
        for row in &rows[same..] {
            let class = class_of(*row);
            if by_class.len() <= class {
                by_class.resize_with(class + 1, Vec::new);
            }
            by_class[class].push(*row);
        }
        let mut odd = Vec::new();
        for (class, mut rows) in by_class.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let Class::Known(states) = &plans.classes[class] else {
                odd.append(&mut rows);
                continue;
            };
            let Some((last, failed)) = states.last() else { continue };
            if *failed && self.looks_at_errors {
                odd.append(&mut rows);
                continue;
            }
            let mut memory =
                Memory { view, lines, memos: &mut state.memos, looks_at_errors: self.looks_at_errors };
            let labels = |origins| Labels { names: &self.names, origins, ambient: &context.ambient };
            let mut parsers = 0;
            for stage in &stages[..self.length] {
                match stage {
                    Stage::LabelFilter(filter) => {
                        memory.filter(filter, labels(&states[parsers].0), &mut rows, &mut odd);
                    }
                    _ => parsers += 1,
                }
            }
            if *failed {
                odd.append(&mut rows);
            } else if !rows.is_empty() {
                take(Known { labels: labels(last), rows }, &mut memory, &mut odd)?;
            }
        }
        odd.sort_unstable();
        Ok(odd)
    }
}

impl Program {
    /// The rows that are not known to be dropped, ascending.
    pub(crate) fn undropped(
        &self,
        stages: &[Stage],
        view: &BatchView<'_>,
        rows: &[u32],
        names: &mut Names,
        state: &mut ProgramState,
    ) -> Vec<u32> {
        let mut left = Vec::new();
        let odd = self.decide(stages, view, rows, names, state, |mut known, _, _| {
            left.append(&mut known.rows);
            Ok::<(), Infallible>(())
        });
        left.extend(odd.into_iter().flatten());
        left.sort_unstable();
        left
    }
}

/// A batch and what is remembered of others.
pub(crate) struct Memory<'m> {
    pub(crate) view: &'m BatchView<'m>,
    pub(crate) lines: &'m ShreddedLines,
    memos: &'m mut Memos,
    looks_at_errors: bool,
}

/// Of each row, or the same of all.
enum Tris {
    All(Tri),
    Each(Vec<Tri>),
}

impl Tris {
    fn at(&self, i: usize) -> Tri {
        match self {
            Self::All(tri) => *tri,
            Self::Each(tris) => tris[i],
        }
    }

    fn combine(self, other: Self, count: usize, both: impl Fn(Tri, Tri) -> Tri) -> Self {
        match (&self, &other) {
            (Self::All(a), Self::All(b)) => Self::All(both(*a, *b)),
            _ => Self::Each((0..count).map(|i| both(self.at(i), other.at(i))).collect()),
        }
    }
}

impl Memory<'_> {
    /// Reduces the rows to those that pass; those whose text must be asked go to `odd`.
    pub(crate) fn filter(
        &mut self,
        filter: &LabelFilter,
        labels: Labels<'_>,
        rows: &mut Vec<u32>,
        odd: &mut Vec<u32>,
    ) {
        match self.decide(filter, labels, rows) {
            Tris::All(Tri::Pass) => {}
            Tris::All(Tri::Drop) => rows.clear(),
            Tris::All(Tri::Odd) => odd.append(rows),
            Tris::Each(tris) => {
                let mut kept = 0;
                for (i, tri) in tris.into_iter().enumerate() {
                    match tri {
                        Tri::Pass => {
                            rows[kept] = rows[i];
                            kept += 1;
                        }
                        Tri::Odd => odd.push(rows[i]),
                        Tri::Drop => {}
                    }
                }
                rows.truncate(kept);
            }
        }
    }

    fn decide(&mut self, filter: &LabelFilter, labels: Labels<'_>, rows: &[u32]) -> Tris {
        let sticky = self.looks_at_errors;
        match filter {
            LabelFilter::And(a, b) => {
                let (a, b) = (self.decide(a, labels, rows), self.decide(b, labels, rows));
                a.combine(b, rows.len(), |a, b| match (a, b) {
                    (Tri::Odd, _) if sticky => Tri::Odd,
                    (Tri::Drop, _) | (_, Tri::Drop) => Tri::Drop,
                    (Tri::Odd, _) | (_, Tri::Odd) => Tri::Odd,
                    (Tri::Pass, Tri::Pass) => Tri::Pass,
                })
            }
            LabelFilter::Or(a, b) => {
                let a = self.decide(a, labels, rows);
                if let Tris::All(Tri::Pass | Tri::Odd) = a {
                    return a;
                }
                let b = self.decide(b, labels, rows);
                a.combine(b, rows.len(), |a, b| if a == Tri::Drop { b } else { a })
            }
            LabelFilter::Match(name, _) | LabelFilter::Compare(name, ..) | LabelFilter::Ip { name, .. } => {
                self.atom(filter, labels.get(*name), rows)
            }
        }
    }

    fn atom(&mut self, filter: &LabelFilter, label: Label<'_>, rows: &[u32]) -> Tris {
        let lines = self.lines;
        let (gap, reading) = match label {
            Label::Missing => return Tris::All(test(filter, None)),
            Label::Text(text) => return Tris::All(test(filter, Some(text))),
            Label::Unknown => return Tris::All(Tri::Odd),
            Label::Column(column) => {
                let values = &self.view.batch.metadata.columns[column].1;
                let value = |row: usize| values.is_valid(row).then(|| values.value(row));
                return Tris::Each(rows.iter().map(|row| test(filter, value(*row as usize))).collect());
            }
            Label::Gap(gap, reading) => (gap, reading),
        };
        let Some(field) = known_field(lines, gap) else { return Tris::All(Tri::Odd) };
        let each = |test: &dyn Fn(usize) -> bool| {
            let tri = |row: &u32| if test(*row as usize) { Tri::Pass } else { Tri::Drop };
            Tris::Each(rows.iter().map(tri).collect())
        };
        match (field, filter) {
            (Some((Values::Integer(array), kind)), LabelFilter::Compare(_, op, Literal::Number(right))) => {
                let values = array.values();
                match kind {
                    Kind::Decimal { scale } => each(&|row| op.holds(decimal(values[row], scale), *right)),
                    _ => compare_integers(*op, *right, values, rows),
                }
            }
            (Some((Values::Integer(array), Kind::Integer)), LabelFilter::Match(_, matcher))
                if matches!(matcher.op(), MatchOp::Equal | MatchOp::NotEqual) =>
            {
                let negated = matcher.op() == MatchOp::NotEqual;
                match matcher.value().parse::<i64>().ok().filter(|n| n.to_string() == matcher.value()) {
                    Some(wanted) => each(&|row| (array.value(row) == wanted) != negated),
                    None => Tris::All(if negated { Tri::Pass } else { Tri::Drop }),
                }
            }
            (Some((Values::Hex(array), Kind::Hex { bytes })), LabelFilter::Match(_, matcher))
                if matches!(matcher.op(), MatchOp::Equal | MatchOp::NotEqual) =>
            {
                let negated = matcher.op() == MatchOp::NotEqual;
                match unhex(matcher.value()).filter(|wanted| wanted.len() == bytes as usize) {
                    Some(wanted) => each(&|row| (array.value(row) == wanted) != negated),
                    None => Tris::All(if negated { Tri::Pass } else { Tri::Drop }),
                }
            }
            (Some((Values::Dictionary(array), _)), _) => {
                let Source::Field(field) = gap.source else { return Tris::All(Tri::Odd) };
                let key = (std::ptr::from_ref(filter) as usize, field.0, reading);
                let (values, verdicts) =
                    self.memos.entry(key).or_insert_with(|| (array.values().clone(), Vec::new()));
                if verdicts.is_empty() || !Arc::ptr_eq(values, array.values()) {
                    *values = array.values().clone();
                    verdicts.clear();
                    verdicts.resize(values.len(), None);
                }
                let mut unescaped = String::new();
                let tris = rows.iter().map(|row| {
                    let row = *row as usize;
                    if array.keys().is_null(row) {
                        return test(filter, None);
                    }
                    let code = array.keys().value(row) as usize;
                    match verdicts[code] {
                        Some(tri) => tri,
                        None => {
                            let text = array.values().as_string::<i32>().value(code);
                            let tri = test(filter, read(reading, text, &mut unescaped));
                            verdicts[code] = Some(tri);
                            tri
                        }
                    }
                });
                Tris::Each(tris.collect())
            }
            _ => {
                let (mut text, mut unescaped) = (String::new(), String::new());
                let tris = rows.iter().map(|row| {
                    let value = gap_text(lines, gap, *row as usize, &mut text);
                    test(filter, value.and_then(|value| read(reading, value, &mut unescaped)))
                });
                Tris::Each(tris.collect())
            }
        }
    }
}

/// The column of a gap with its kind, `Some(None)` for rest values; `None` if it was not read.
pub(super) fn known_field(lines: &ShreddedLines, gap: Gap) -> Option<Option<(&Values, Kind)>> {
    match gap.source {
        Source::Rest(_) => lines.rest.as_ref().map(|_| None),
        Source::Field(field) => {
            let values = lines.fields.get(field.0 as usize)?.as_ref()?;
            Some(Some((values, lines.table.fields.get(field.0 as usize)?.kind)))
        }
    }
}

fn test(filter: &LabelFilter, value: Option<&str>) -> Tri {
    match filter.test(value) {
        Verdict::Pass => Tri::Pass,
        Verdict::Drop => Tri::Drop,
        Verdict::Fails(_) => Tri::Odd,
    }
}

fn compare_integers(op: CompareOp, right: f64, values: &[i64], rows: &[u32]) -> Tris {
    // One loop per operator, so that the comparison is not chosen again for each row.
    fn each(values: &[i64], rows: &[u32], holds: impl Fn(f64) -> bool) -> Tris {
        let tri = |row: &u32| if holds(values[*row as usize] as f64) { Tri::Pass } else { Tri::Drop };
        Tris::Each(rows.iter().map(tri).collect())
    }
    match op {
        CompareOp::Equal => each(values, rows, |v| v == right),
        CompareOp::NotEqual => each(values, rows, |v| v != right),
        CompareOp::Greater => each(values, rows, |v| v > right),
        CompareOp::GreaterOrEqual => each(values, rows, |v| v >= right),
        CompareOp::Less => each(values, rows, |v| v < right),
        CompareOp::LessOrEqual => each(values, rows, |v| v <= right),
    }
}

/// The number that the text of `value` units of 10^-`scale` is read as.
pub(super) fn decimal(value: i64, scale: u8) -> f64 {
    const EXACT: u64 = 1 << 53;
    if value.unsigned_abs() <= EXACT && scale <= 22 {
        // Both are exact, so the quotient is the nearest number to the true one, as reading the text would give.
        return value as f64 / 10_f64.powi(i32::from(scale));
    }
    // More digits than a float tells apart.
    format!("{value}e-{scale}").parse().unwrap_or(f64::NAN)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// The label that a parser makes of the text of a gap.
pub(super) fn read<'t>(reading: Reading, raw: &'t str, buffer: &'t mut String) -> Option<&'t str> {
    // The first byte of U+FFFD, which becomes a space.
    let plain = |escapes: bool| match escapes {
        true => memchr2(b'\\', 0xef, raw.as_bytes()).is_none(),
        false => !raw.contains(char::REPLACEMENT_CHARACTER),
    };
    let mut decode = |escapes: bool| {
        buffer.clear();
        let spaced = raw.replace(char::REPLACEMENT_CHARACTER, " ");
        if !escapes {
            buffer.push_str(&spaced);
            return true;
        }
        unescape(&spaced, buffer)
    };
    match reading {
        Reading::JsonToken if raw == "null" || raw.starts_with('[') => None,
        Reading::JsonToken | Reading::Plain => Some(raw),
        Reading::JsonChosen => Some(if raw == "null" { "" } else { raw }),
        Reading::JsonString if plain(true) => Some(raw),
        Reading::JsonString => Some(if decode(true) { buffer } else { "" }),
        Reading::Logfmt { keep_empty: false, .. } if raw.is_empty() => None,
        Reading::Logfmt { quoted, .. } if plain(quoted) => Some(raw),
        Reading::Logfmt { quoted, .. } => {
            if decode(quoted) {
                Some(buffer)
            } else {
                None
            }
        }
        Reading::LogfmtChosen { quoted } if plain(quoted) => Some(raw),
        Reading::LogfmtChosen { quoted } => Some(if decode(quoted) { buffer } else { "" }),
    }
}

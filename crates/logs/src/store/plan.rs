//! What a block will look like, chosen by counting its rows before they are written: which metadata names and which values of lines
//! get columns, and how those are encoded.

use std::sync::Arc;

use arrow_array::Array;
use block::{ColumnEncoding, ColumnHint, ColumnSettings};
use hashbrown::HashMap;
use logql::Metadata;
use shred::{Field, FieldId, Kind, Lines, Profile, Shredder, Survey};

use crate::store::entries::{Entries, as_strings};
use crate::store::index::GRANULE_ROWS;
use crate::store::schema::{self, field_column};

/// Metadata names that get a column at most.
const MAX_COLUMNS: usize = 48;
/// A name gets a column if at least one of this many rows has it.
const RARE: u64 = 256;
/// Lines that are looked at, about.
const SAMPLE: u64 = 16_384;
/// Integers of fewer different values than this are written by a dictionary.
const FEW: usize = 256;
/// Texts that begin as the one before are written as what is new, from so many bytes on.
const PREFIX: usize = 2;

/// Counts the rows of a block to be.
#[derive(Debug)]
pub(crate) struct Census {
    survey: Survey,
    /// Rows from one that is looked at to the next.
    step: u64,
    rows: u64,
    names: HashMap<Arc<str>, Name>,
    line: String,
}

/// What is known of a metadata name.
#[derive(Debug, Default)]
struct Name {
    rows: u64,
    /// The length of the first value, while all others have the same.
    length: Option<usize>,
    /// Whether two values in succession were the same.
    repeats: bool,
}

/// The plan of a block.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) shredder: Shredder,
    /// Metadata names with a column, most frequent first.
    pub(crate) columns: Vec<Arc<str>>,
    /// By column: the length of its values if they are ids, which all have one length and do not repeat.
    pub(crate) ids: Vec<Option<usize>>,
}

impl Census {
    /// For a block of about so many rows, of which a sample is looked at.
    pub(crate) fn new(rows: u64) -> Self {
        Self {
            survey: Survey::new(),
            step: (rows / SAMPLE).max(1),
            rows: 0,
            names: HashMap::new(),
            line: String::new(),
        }
    }

    /// Counts rows.
    pub(crate) fn add(&mut self, entries: &Entries) {
        let rows = entries.len() as u64;
        let first = self.rows.next_multiple_of(self.step) - self.rows;
        for row in (first..rows).step_by(self.step as usize) {
            match &entries.lines {
                Lines::Absent => {}
                Lines::Text(lines) => self.survey.add(lines.value(row as usize)),
                Lines::Shredded(lines) => {
                    self.line.clear();
                    lines.line(row as usize, &mut self.line);
                    self.survey.add(&self.line);
                }
            }
        }
        self.rows += rows;
        self.count_metadata(&entries.metadata);
    }

    fn count_metadata(&mut self, metadata: &Metadata) {
        for (column, values) in &metadata.columns {
            let rows = (values.len() - values.null_count()) as u64;
            if rows == 0 {
                continue;
            }
            let name = self.names.entry_ref(column).or_default();
            let mut values = values.iter().flatten();
            if name.rows == 0 {
                name.length = values.clone().next().map(str::len);
            }
            name.rows += rows;
            // A few values tell ids from others.
            let mut before = None;
            for value in values.by_ref().take(16) {
                name.repeats |= before == Some(value);
                before = Some(value);
                name.length = name.length.filter(|length| *length == value.len());
            }
        }
        let keys = metadata.rest.as_ref().and_then(|rest| as_strings(rest.keys().as_ref()));
        for name in keys.iter().flat_map(|keys| keys.iter().flatten()) {
            match self.names.get_mut(name) {
                Some(name) => name.rows += 1,
                None => drop(self.names.insert(name.into(), Name { rows: 1, length: None, repeats: true })),
            }
        }
    }

    /// Chooses.
    pub(crate) fn finish(self) -> Plan {
        let mut names: Vec<(Arc<str>, Name)> = self.names.into_iter().collect();
        names.retain(|(name, of)| of.rows * RARE >= self.rows && !schema::is_reserved(name));
        names.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then_with(|| a.0.cmp(&b.0)));
        names.truncate(MAX_COLUMNS);
        let ids = names.iter().map(|(_, name)| name.length.filter(|n| !name.repeats && *n >= 16)).collect();
        let columns = names.into_iter().map(|(name, _)| name).collect();
        Plan { shredder: self.survey.finish(), columns, ids }
    }
}

impl Plan {
    /// The fields of the lines, with what is known of them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&Field, Profile)> {
        let fields = self.shredder.table().fields.iter().zip(0..);
        fields.map(|(field, id)| (field, self.shredder.profile(FieldId(id))))
    }

    /// How the columns are written.
    pub(crate) fn settings(&self) -> ColumnSettings {
        let raw = ColumnHint {
            encoding: Some(ColumnEncoding::DeltaLengthByteArray),
            dictionary: Some(false),
            page_bytes: Some(4 << 20),
            ..ColumnHint::default()
        };
        // Where blocks meet, the times of a few rows of many streams are read alone.
        let times = ColumnHint { page_bytes: Some(4 << 10), ..encoded(ColumnEncoding::DeltaBinaryPacked) };
        let mut hints = vec![
            (schema::STREAM_ID.to_owned(), dictionary()),
            (schema::LABELS.to_owned(), ColumnHint { no_statistics: true, ..dictionary() }),
            (schema::TIMESTAMP.to_owned(), times),
            (schema::SHAPE.to_owned(), dictionary()),
            (schema::REST.to_owned(), raw),
            (schema::LINE.to_owned(), raw),
        ];
        // Ids never repeat: a dictionary of them is thrown away after it was built.
        let ids = self.columns.iter().zip(&self.ids).filter(|(_, length)| length.is_some());
        hints.extend(ids.map(|(name, _)| (name.to_string(), encoded(ColumnEncoding::Plain))));
        hints.extend(
            self.fields().map(|(field, profile)| (field_column(&field.name), hint(field.kind, profile))),
        );
        ColumnSettings {
            page_rows: GRANULE_ROWS as usize,
            sorted_by: vec![],
            columns: hints,
            ..ColumnSettings::default()
        }
    }
}

fn dictionary() -> ColumnHint {
    ColumnHint { dictionary: Some(true), ..ColumnHint::default() }
}

fn encoded(encoding: ColumnEncoding) -> ColumnHint {
    ColumnHint { dictionary: Some(false), encoding: Some(encoding), ..ColumnHint::default() }
}

/// How the values of a field are written. All have statistics: readers pass over pages of nulls.
fn hint(kind: Kind, profile: Profile) -> ColumnHint {
    match kind {
        Kind::Dictionary => dictionary(),
        Kind::Text if profile.prefix >= PREFIX => encoded(ColumnEncoding::DeltaByteArray),
        Kind::Text => encoded(ColumnEncoding::DeltaLengthByteArray),
        Kind::Hex { .. } => ColumnHint { zstd_level: Some(0), ..encoded(ColumnEncoding::Plain) },
        Kind::Integer | Kind::Decimal { .. } if profile.grows => encoded(ColumnEncoding::DeltaBinaryPacked),
        Kind::Integer | Kind::Decimal { .. } if profile.distinct.is_some_and(|n| n < FEW) => dictionary(),
        // The high bytes of numbers of one size are alike.
        Kind::Integer | Kind::Decimal { .. } => encoded(ColumnEncoding::ByteStreamSplit),
    }
}

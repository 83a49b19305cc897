//! One entry on its way through a pipeline: its line and its labels in three categories.
//!
//! Texts point into the batch wherever possible; only what a stage makes anew is copied, into two buffers that live as long as
//! the batch and are emptied for each row. Nothing is allocated for a row that only passes filters.

use std::sync::Arc;

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use shred::Lines;

use crate::batch::EntryBatch;
use crate::labels::LabelSet;
use crate::names::{ERROR, ERROR_DETAILS, NameId, Names, PRESERVE_ERROR};
use crate::needs::MetadataNeeds;

/// A text of the row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Text<'b> {
    /// As it stands in the batch (or in the program).
    Batch(&'b str),
    /// Start and end in the rewritten lines.
    Line(usize, usize),
    /// Start and end in the made values.
    Made(usize, usize),
}

/// Which labels the rest of the query looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of them.
    All,
    /// None that a parser could make.
    Nothing,
    /// These; a parser stops when it has made all of them.
    Names(Vec<NameId>),
}

/// What a row needs to know of its batch.
pub(crate) struct BatchView<'b> {
    pub(crate) batch: &'b EntryBatch,
    stream: Vec<(NameId, &'b str)>,
    columns: Vec<(NameId, usize)>,
    rest: bool,
}

impl<'b> BatchView<'b> {
    pub(crate) fn new(batch: &'b EntryBatch, names: &mut Names, metadata: &MetadataNeeds) -> Self {
        let stream: Vec<_> = batch.labels.iter().map(|(name, value)| (names.id(name), value)).collect();
        let mut columns = Vec::new();
        for (i, (name, _)) in batch.metadata.columns.iter().enumerate() {
            let mut id = names.id(name);
            if stream.iter().any(|(n, _)| *n == id) {
                id = names.extracted(id);
            }
            let wanted = match metadata {
                MetadataNeeds::All => true,
                MetadataNeeds::Names(wanted) => wanted.iter().any(|n| *n == *names.text(id)),
            };
            if wanted {
                columns.push((id, i));
            }
        }
        let rest = batch.metadata.rest.is_some() && *metadata != MetadataNeeds::Names(Vec::new());
        Self { batch, stream, columns, rest }
    }

    /// The value of a label as far as it is the stream's alone.
    pub(crate) fn stream_label(&self, id: NameId) -> Option<&'b str> {
        self.stream.iter().find(|(n, _)| *n == id).map(|(_, v)| *v)
    }

    /// Columns of structured metadata that are wanted, with the name they are seen by.
    pub(crate) fn columns(&self) -> &[(NameId, usize)] {
        &self.columns
    }

    /// Whether rare metadata is looked at.
    pub(crate) fn reads_rest(&self) -> bool {
        self.rest
    }

    /// Whether entries can have structured metadata of this name.
    pub(crate) fn may_have_metadata(&self, id: NameId) -> bool {
        self.rest || self.columns.iter().any(|(n, _)| *n == id)
    }

    /// Whether entries can have any structured metadata.
    pub(crate) fn has_metadata(&self) -> bool {
        self.rest || !self.columns.is_empty()
    }
}

/// The state of one entry.
pub(crate) struct Row<'v, 'b> {
    view: &'v BatchView<'b>,
    wanted: &'v Wanted,
    pub(crate) timestamp: i64,
    line: Text<'b>,
    metadata: Vec<(NameId, Text<'b>)>,
    parsed: Vec<(NameId, Text<'b>)>,
    /// Stream labels that are dropped or overwritten.
    hidden: Vec<NameId>,
    error: Option<&'static str>,
    details: Option<Text<'b>>,
    preserve: bool,
    /// How many of the wanted names parsers have made.
    found: usize,
    lines: String,
    made: String,
}

impl<'v, 'b> Row<'v, 'b> {
    pub(crate) fn new(view: &'v BatchView<'b>, wanted: &'v Wanted) -> Self {
        Self {
            view,
            wanted,
            timestamp: 0,
            line: Text::Batch(""),
            metadata: Vec::new(),
            parsed: Vec::new(),
            hidden: Vec::new(),
            error: None,
            details: None,
            preserve: false,
            found: 0,
            lines: String::new(),
            made: String::new(),
        }
    }

    /// Starts without an entry: with the stream's labels alone.
    pub(crate) fn load_labels(&mut self) {
        self.parsed.clear();
        self.hidden.clear();
        self.metadata.clear();
        (self.error, self.details, self.preserve, self.found) = (None, None, false, 0);
    }

    /// Starts with entry `index` of the batch.
    pub(crate) fn load(&mut self, index: usize, names: &mut Names) {
        let batch = self.view.batch;
        self.timestamp = batch.timestamps.value(index);
        self.parsed.clear();
        self.hidden.clear();
        (self.error, self.details, self.preserve, self.found) = (None, None, false, 0);
        self.lines.clear();
        self.line = match &batch.lines {
            Lines::Text(lines) => Text::Batch(lines.value(index)),
            Lines::Absent => Text::Batch(""),
            Lines::Shredded(lines) => {
                lines.line(index, &mut self.lines);
                Text::Line(0, self.lines.len())
            }
        };
        self.made.clear();
        self.metadata.clear();
        for &(id, column) in &self.view.columns {
            let values = &batch.metadata.columns[column].1;
            if values.is_valid(index) {
                self.metadata.push((id, Text::Batch(values.value(index))));
            }
        }
        if self.view.rest
            && let Some(map) = &batch.metadata.rest
            && map.is_valid(index)
        {
            let (from, to) = (map.value_offsets()[index] as usize, map.value_offsets()[index + 1] as usize);
            let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
            for i in from..to {
                let mut id = names.id(keys.value(i));
                if self.view.stream_label(id).is_some() {
                    id = names.extracted(id);
                }
                self.metadata.push((id, Text::Batch(values.value(i))));
            }
        }
    }

    pub(crate) fn resolve(&self, text: Text<'b>) -> &str {
        match text {
            Text::Batch(text) => text,
            Text::Line(start, end) => &self.lines[start..end],
            Text::Made(start, end) => &self.made[start..end],
        }
    }

    pub(crate) fn line(&self) -> &str {
        self.resolve(self.line)
    }

    /// Gives the line to a parser together with the row to write to.
    ///
    /// The parser may add made values but must not rewrite the line.
    pub(crate) fn with_line<T>(&mut self, parse: impl FnOnce(Line<'_, 'b>, &mut Self) -> T) -> T {
        match self.line {
            Text::Batch(text) => parse(Line { text, place: Place::Batch(text) }, self),
            Text::Line(start, end) => {
                let lines = std::mem::take(&mut self.lines);
                let result = parse(Line { text: &lines[start..end], place: Place::Lines(start) }, self);
                self.lines = lines;
                result
            }
            Text::Made(start, end) => {
                let text = self.made[start..end].to_owned();
                let at = self.lines.len();
                self.lines.push_str(&text);
                self.line = Text::Line(at, at + text.len());
                self.with_line(parse)
            }
        }
    }

    /// Replaces the line.
    pub(crate) fn set_line(&mut self, text: &str) {
        let start = self.lines.len();
        self.lines.push_str(text);
        self.line = Text::Line(start, self.lines.len());
    }

    /// Keeps a text that a stage has made.
    pub(crate) fn make(&mut self, text: &str) -> Text<'b> {
        let start = self.made.len();
        self.made.push_str(text);
        Text::Made(start, self.made.len())
    }

    /// Keeps a text written by `write`.
    pub(crate) fn make_with<E>(
        &mut self,
        write: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<Text<'b>, E> {
        let start = self.made.len();
        write(&mut self.made)?;
        Ok(Text::Made(start, self.made.len()))
    }

    /// The value of a label: parsed before structured metadata before the stream's.
    pub(crate) fn get(&self, id: NameId) -> Option<&str> {
        self.find(id).map(|text| self.resolve(text))
    }

    fn find(&self, id: NameId) -> Option<Text<'b>> {
        if let Some((_, text)) = self.parsed.iter().find(|(n, _)| *n == id) {
            return Some(*text);
        }
        if id <= PRESERVE_ERROR {
            return match id {
                ERROR => self.error.map(Text::Batch),
                ERROR_DETAILS => self.details,
                _ => self.preserve.then_some(Text::Batch("true")),
            };
        }
        if let Some((_, text)) = self.metadata.iter().find(|(n, _)| *n == id) {
            return Some(*text);
        }
        if self.hidden.contains(&id) {
            return None;
        }
        self.view.stream_label(id).map(Text::Batch)
    }

    pub(crate) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    pub(crate) fn error(&self) -> Option<&'static str> {
        self.error
    }

    pub(crate) fn preserves_error(&self) -> bool {
        self.preserve
    }

    /// Records an error unless there is one already.
    pub(crate) fn fail(&mut self, kind: &'static str, details: Option<&str>) {
        if self.error.is_none() {
            self.error = Some(kind);
            self.details = details.map(|text| self.make(text));
        }
    }

    /// The name under which a parser writes `id`: another one if the stream or the metadata have it.
    pub(crate) fn parsed_name(&self, id: NameId, names: &mut Names) -> NameId {
        let taken = self.view.stream_label(id).is_some() || self.metadata.iter().any(|(n, _)| *n == id);
        if taken { names.extracted(id) } else { id }
    }

    /// Whether the query wants a parser to make this label and none has yet.
    pub(crate) fn accepts(&self, id: NameId) -> bool {
        let wanted = match self.wanted {
            Wanted::All => true,
            Wanted::Nothing => false,
            Wanted::Names(names) => names.contains(&id),
        };
        wanted && !self.parsed.iter().any(|(n, _)| *n == id)
    }

    /// Adds a label found by a parser; the caller has asked [`Row::accepts`].
    pub(crate) fn add(&mut self, id: NameId, value: Text<'b>) {
        self.parsed.push((id, value));
        if let Wanted::Names(_) = self.wanted {
            self.found += 1;
        }
    }

    /// Whether parsers need not read on.
    pub(crate) fn is_complete(&self) -> bool {
        match self.wanted {
            Wanted::All => false,
            Wanted::Nothing => true,
            Wanted::Names(names) => self.found >= names.len(),
        }
    }

    pub(crate) fn wants(&self, id: NameId) -> bool {
        match self.wanted {
            Wanted::All => true,
            Wanted::Nothing => false,
            Wanted::Names(names) => names.contains(&id),
        }
    }

    /// How many labels parsers have made so far, for [`Row::rollback`].
    pub(crate) fn mark(&self) -> usize {
        self.parsed.len()
    }

    /// Takes back labels added since the mark.
    pub(crate) fn rollback(&mut self, mark: usize) {
        if let Wanted::Names(_) = self.wanted {
            self.found -= self.parsed.len() - mark;
        }
        self.parsed.truncate(mark);
    }

    /// Sets a parsed label, over whatever had the name.
    pub(crate) fn set(&mut self, id: NameId, value: Text<'b>) {
        self.metadata.retain(|(n, _)| *n != id);
        match self.parsed.iter_mut().find(|(n, _)| *n == id) {
            Some((_, old)) => *old = value,
            None => {
                if self.view.stream_label(id).is_some() && !self.hidden.contains(&id) {
                    self.hidden.push(id);
                }
                self.parsed.push((id, value));
                if let Wanted::Names(names) = self.wanted
                    && names.contains(&id)
                {
                    self.found += 1;
                }
            }
        }
    }

    /// Removes a label from all categories.
    pub(crate) fn remove(&mut self, id: NameId) {
        match id {
            ERROR => self.error = None,
            ERROR_DETAILS => self.details = None,
            PRESERVE_ERROR => self.preserve = false,
            _ => {}
        }
        self.metadata.retain(|(n, _)| *n != id);
        self.parsed.retain(|(n, _)| *n != id);
        if self.view.stream_label(id).is_some() && !self.hidden.contains(&id) {
            self.hidden.push(id);
        }
    }

    /// `label_format to=from`: moves the value; nothing happens without one.
    pub(crate) fn rename(&mut self, from: NameId, to: NameId) {
        if let Some(value) = self.find(from) {
            self.set(to, value);
            if from != to {
                self.remove(from);
            }
        }
    }

    /// Removes all labels but errors for which `keep` says no.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Self, NameId, &str) -> bool) {
        let doomed: Vec<NameId> = self
            .labels()
            .filter(|(id, _)| *id > PRESERVE_ERROR)
            .filter(|(id, v)| !keep(self, *id, v))
            .map(|(id, _)| id)
            .collect();
        doomed.into_iter().for_each(|id| self.remove(id));
    }

    /// Stream labels that are still visible.
    pub(crate) fn stream_labels(&self) -> impl Iterator<Item = (NameId, &str)> {
        let shadowed = |id: &NameId| {
            self.hidden.contains(id)
                || self.parsed.iter().any(|(n, _)| n == id)
                || self.metadata.iter().any(|(n, _)| n == id)
        };
        self.view.stream.iter().filter(move |(id, _)| !shadowed(id)).map(|(id, v)| (*id, *v))
    }

    /// Structured metadata that is left.
    pub(crate) fn metadata_labels(&self) -> impl Iterator<Item = (NameId, &str)> {
        let shadowed = |id: &NameId| self.parsed.iter().any(|(n, _)| n == id);
        self.metadata.iter().filter(move |(id, _)| !shadowed(id)).map(|(id, v)| (*id, self.resolve(*v)))
    }

    /// Labels made by the pipeline, errors included.
    pub(crate) fn parsed_labels(&self) -> impl Iterator<Item = (NameId, &str)> {
        let errors = [
            self.error.map(|e| (ERROR, e)),
            self.details.map(|d| (ERROR_DETAILS, self.resolve(d))),
            self.preserve.then_some((PRESERVE_ERROR, "true")),
        ];
        self.parsed.iter().map(|(id, v)| (*id, self.resolve(*v))).chain(errors.into_iter().flatten())
    }

    /// All labels.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (NameId, &str)> {
        self.stream_labels().chain(self.metadata_labels()).chain(self.parsed_labels())
    }
}

/// Owned labels of a category.
pub(crate) fn own<'a>(names: &Names, labels: impl Iterator<Item = (NameId, &'a str)>) -> LabelSet {
    LabelSet::from_shared(labels.map(|(id, value)| (Arc::clone(names.text(id)), value.into())).collect())
}

/// The line a parser reads; slices of it become texts without copying.
#[derive(Clone, Copy)]
pub(crate) struct Line<'l, 'b> {
    pub(crate) text: &'l str,
    place: Place<'b>,
}

#[derive(Clone, Copy)]
enum Place<'b> {
    Batch(&'b str),
    Lines(usize),
}

impl<'b> Line<'_, 'b> {
    /// The bytes `start..end` of the line, which must lie on character boundaries.
    pub(crate) fn slice(&self, start: usize, end: usize) -> Text<'b> {
        match self.place {
            Place::Batch(text) => Text::Batch(&text[start..end]),
            Place::Lines(offset) => Text::Line(offset + start, offset + end),
        }
    }
}

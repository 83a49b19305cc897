//! What a range aggregation has been fed: the series with their partial results.

use std::sync::Arc;

use hashbrown::HashMap;
use model::Labels;
use shred::{Columns, Lines, ShreddedLines, Table};

use super::leaf::{Keep, LeafPlan, convert};
use super::piece::{Kind, Piece};
use crate::ast::{Conversion, RangeOp};
use crate::batch::{EntryBatch, Metadata};
use crate::columnar::{self, Known, Label, Memory, ProgramState};
use crate::error::EvalError;
use crate::labels::LabelSet;
use crate::matrix::{Line, Matrix};
use crate::metric_query::{Bucket, Counts, MetricLimits};
use crate::names::{NameId, Names};
use crate::pipeline::{SelectState, rows_between};
use crate::row::{BatchView, Row, own};

/// Bytes of labels that the series of a range aggregation may hold.
const MAX_LABEL_BYTES: usize = 256 << 20;

/// What a leaf has been fed.
#[derive(Debug)]
pub(crate) struct LeafState {
    plan: Arc<LeafPlan>,
    names: Names,
    select: SelectState,
    program: ProgramState,
    sums: Sums,
}

/// The series and what has been added up for them.
#[derive(Debug, Default)]
struct Sums {
    places: HashMap<Box<[u8]>, usize>,
    series: Vec<SeriesState>,
    points: usize,
    /// Bytes of the keys of `places`, which are about those of the labels.
    label_bytes: usize,
    key: Vec<u8>,
    /// Samples of the batch (row, series, value) that wait to be added in the order of rows, of functions whose last digits
    /// depend on the order.
    waiting: Vec<(u32, usize, f64)>,
}

#[derive(Debug)]
struct SeriesState {
    labels: LabelSet,
    /// Piece number and content, ascending.
    pieces: Vec<(u64, Piece)>,
    /// Where the last sample went.
    last: usize,
}

impl LeafState {
    pub(crate) fn new(plan: Arc<LeafPlan>) -> Self {
        let names = plan.names.clone();
        Self {
            plan,
            names,
            select: SelectState::default(),
            program: ProgramState::default(),
            sums: Sums::default(),
        }
    }

    pub(crate) fn fork(&self) -> Self {
        Self { program: self.program.clone(), select: self.select.clone(), ..Self::new(self.plan.clone()) }
    }

    /// The columns that [`LeafState::screen`] needs; `None` if it would hand back every row.
    pub(crate) fn screen_columns(&self, table: &Table) -> Option<Columns> {
        let plan = &*self.plan;
        let measured = plan.measures_lines() && plan.is_columnar();
        plan.pipeline.screen_columns(plan.program.as_ref(), measured, table, &mut self.names.clone())
    }

    pub(crate) fn push(&mut self, batch: &EntryBatch, limits: &MetricLimits) -> Result<(), EvalError> {
        let left = self.feed(batch, true, limits)?;
        let plan = self.plan.clone();
        let times = batch.timestamps.values();
        if left.is_empty() {
            self.sums.add_waiting(&plan, times, u32::MAX);
            return self.sums.check(limits);
        }
        let view = BatchView::new(batch, &mut self.names, &plan.leaf.needs.metadata);
        let mut row = Row::new(&view, &plan.wanted);
        for (index, asked) in left {
            let time = batch.timestamps.value(index as usize);
            if plan.windows.piece(time).is_none() {
                continue;
            }
            self.sums.add_waiting(&plan, times, index);
            row.load(index as usize, &mut self.names);
            if !asked && !plan.pipeline.line_passes(row.line()) {
                continue;
            }
            if let Some(value) = plan.sample(&mut row, &mut self.names)? {
                let place = self.sums.place(&plan, &row, &self.names, limits)?;
                self.sums.add(&plan, place, time, value);
            }
        }
        self.sums.add_waiting(&plan, times, u32::MAX);
        self.sums.check(limits)
    }

    pub(crate) fn screen(
        &mut self,
        batch: &EntryBatch,
        limits: &MetricLimits,
    ) -> Result<Vec<u32>, EvalError> {
        let left = self.feed(batch, false, limits)?;
        self.sums.add_waiting(&self.plan, batch.timestamps.values(), u32::MAX);
        self.sums.check(limits)?;
        Ok(left.into_iter().map(|(row, _)| row).collect())
    }

    /// Takes what columns tell. Gives back the rows, ascending, whose text must be asked, and whether their lines are known to
    /// pass the line filters. Unless all columns are there, lines cannot be measured.
    fn feed(
        &mut self,
        batch: &EntryBatch,
        all_columns: bool,
        limits: &MetricLimits,
    ) -> Result<Vec<(u32, bool)>, EvalError> {
        let plan = self.plan.clone();
        let (after, last) = plan.windows.span();
        let mut rows = rows_between(batch, after.saturating_add(1), last);
        let mut unasked = Vec::new();
        plan.pipeline.select(batch, &mut rows, &mut unasked, &mut self.select);
        if rows.is_empty() && unasked.is_empty() {
            return Ok(Vec::new());
        }
        self.names.forget();
        let view = BatchView::new(batch, &mut self.names, &plan.leaf.needs.metadata);
        if let (Lines::Shredded(_), Some(program), false) = (&batch.lines, &plan.program, unasked.is_empty())
        {
            let stages = plan.pipeline.stages();
            unasked = program.undropped(stages, &view, &unasked, &mut self.names, &mut self.program);
        }
        let mut left: Vec<(u32, bool)> = unasked.into_iter().map(|row| (row, false)).collect();
        if rows.is_empty() {
            return Ok(left);
        }
        let plain = plan.pipeline.stages().is_empty() && plan.unwrap.is_none();
        let unmeasured = plan.measures_lines() && !all_columns && matches!(batch.lines, Lines::Shredded(_));
        if plain && !unmeasured && plan.keeps_stream_labels_only(&view) {
            let place = self.stream_place(&view, limits)?;
            let times = batch.timestamps.values();
            match (&batch.lines, plan.measures_lines()) {
                (Lines::Text(lines), true) => {
                    self.sums
                        .add_rows(&plan, place, times, &rows, |_, row| f64::from(lines.value_length(row)));
                }
                (Lines::Shredded(lines), true) => {
                    self.sums.add_rows(&plan, place, times, &rows, |_, row| lines.line_len(row) as f64);
                }
                _ => self.sums.add_counts(&plan, place, times, &rows),
            }
        } else if let (Lines::Shredded(_), Some(program)) = (&batch.lines, &plan.program) {
            let Self { names, program: state, sums, .. } = self;
            let mut passed: Vec<u32> = Vec::new();
            let stages = plan.pipeline.stages();
            let columnar = plan.is_columnar();
            let odd =
                program.decide(stages, &view, &rows, names, state, |known, memory, odd| match columnar {
                    true => sums.take(&plan, known, memory, odd, limits),
                    false => {
                        passed.extend(known.rows);
                        Ok(())
                    }
                })?;
            left.extend(passed.into_iter().chain(odd).map(|row| (row, true)));
        } else {
            left.extend(rows.into_iter().map(|row| (row, true)));
        }
        left.sort_unstable();
        // The next to be added stands last.
        self.sums.waiting.sort_unstable_by_key(|(row, ..)| std::cmp::Reverse(*row));
        self.sums.check(limits)?;
        Ok(left)
    }

    /// The series of a stream's entries that have no other labels.
    fn stream_place(&mut self, view: &BatchView<'_>, limits: &MetricLimits) -> Result<usize, EvalError> {
        let mut row = Row::new(view, &self.plan.wanted);
        row.load_labels();
        self.sums.place(&self.plan, &row, &self.names, limits)
    }

    pub(crate) fn bucket_fits(&self, first: i64, last: i64) -> bool {
        let windows = &self.plan.windows;
        windows.region(first) == windows.region(last)
    }

    pub(crate) fn push_counts(
        &mut self,
        labels: &Labels,
        buckets: &[Bucket],
        limits: &MetricLimits,
    ) -> Result<(), EvalError> {
        let plan = self.plan.clone();
        let Some(counts) = plan.leaf.counts_only else {
            return Err(EvalError::Invalid("this range aggregation cannot be fed counts".to_owned()));
        };
        let relevant = |bucket: &&Bucket| bucket.entries > 0 && plan.windows.piece(bucket.end).is_some();
        if !buckets.iter().any(|bucket| relevant(&bucket)) {
            return Ok(());
        }
        let batch = EntryBatch {
            labels: labels.clone(),
            timestamps: Vec::<i64>::new().into(),
            lines: Lines::Absent,
            metadata: Metadata::empty(),
        };
        self.names.forget();
        let view = BatchView::new(&batch, &mut self.names, &plan.leaf.needs.metadata);
        let place = self.stream_place(&view, limits)?;
        for bucket in buckets.iter().filter(relevant) {
            let count = if counts == Counts::Bytes { bucket.bytes } else { bucket.entries };
            self.sums.add(&plan, place, bucket.end, count as f64);
        }
        self.sums.check(limits)
    }

    pub(crate) fn merge(&mut self, other: Self, limits: &MetricLimits) -> Result<(), EvalError> {
        self.sums.merge(other.sums, limits)
    }

    /// The series with their values at all steps.
    pub(crate) fn finish(self, limits: &MetricLimits) -> Result<Matrix, EvalError> {
        let plan = &self.plan;
        let mut points = 0;
        let mut lines = Vec::with_capacity(self.sums.series.len());
        for series in &self.sums.series {
            let line = Line { labels: series.labels.clone(), points: plan.evaluate(&series.pieces) };
            points += line.points.len();
            if points > limits.max_points {
                return Err(EvalError::Budget { what: "points", limit: limits.max_points });
            }
            lines.push(line);
        }
        // What is computed from all series must not depend on which came first.
        lines.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        if plan.op == RangeOp::AbsentOverTime {
            let mut present = vec![false; plan.windows.count];
            lines.iter().flat_map(|line| &line.points).for_each(|(step, _)| present[*step as usize] = true);
            let absent = (0..).zip(present).filter(|(_, present)| !present).map(|(step, _)| (step, 1.0));
            lines = vec![Line { labels: plan.absent.clone(), points: absent.collect() }];
        }
        Matrix::from_lines(lines)
    }
}

impl Sums {
    fn check(&self, limits: &MetricLimits) -> Result<(), EvalError> {
        if self.points > limits.max_points {
            return Err(EvalError::Budget { what: "points", limit: limits.max_points });
        }
        if self.label_bytes > MAX_LABEL_BYTES {
            return Err(EvalError::Budget { what: "bytes of labels", limit: MAX_LABEL_BYTES });
        }
        Ok(())
    }

    /// Takes the rows of a class that pass all stages.
    fn take(
        &mut self,
        plan: &LeafPlan,
        known: Known<'_>,
        memory: &mut Memory<'_>,
        odd: &mut Vec<u32>,
        limits: &MetricLimits,
    ) -> Result<(), EvalError> {
        let Known { labels, mut rows } = known;
        let Keep::By(groups) = &plan.keep else { return Ok(()) };
        let groups: Vec<(NameId, Label<'_>)> = groups.iter().map(|id| (*id, labels.get(*id))).collect();
        if groups.iter().any(|(_, label)| !memory.is_known(*label)) {
            odd.append(&mut rows);
            return Ok(());
        }
        let values = match plan.unwrap {
            None if plan.measures_lines() => {
                let (lengths, measured) = measure(memory.lines, &rows, odd);
                rows = measured;
                Some(lengths)
            }
            None => None,
            Some((label, conversion)) => {
                let plain = conversion == Conversion::Number;
                let mut numbers = memory
                    .numbers(labels.get(label), plain, &mut rows, odd, |text| convert(text, conversion));
                if !plan.filters.is_empty() {
                    let before = rows.clone();
                    for filter in &plan.filters {
                        memory.filter(filter, labels, &mut rows, odd);
                    }
                    let mut kept = rows.iter().peekable();
                    let mut pairs = before.iter().zip(numbers);
                    numbers =
                        pairs.by_ref().filter_map(|(row, n)| kept.next_if_eq(&row).map(|_| n)).collect();
                }
                Some(numbers)
            }
        };
        if rows.is_empty() {
            return Ok(());
        }
        let times = memory.view.batch.timestamps.values();
        let mut buffers = (String::new(), String::new());
        let varies = |label: &Label<'_>| matches!(label, Label::Gap(..) | Label::Column(_));
        let mut varying = groups.iter().filter(|(_, label)| varies(label));
        let place_of = |sums: &mut Self, row: u32, buffers: &mut (String, String)| {
            let mut key = std::mem::take(&mut sums.key);
            key.clear();
            for (_, label) in &groups {
                key.extend_from_slice(
                    memory.text(*label, row as usize, buffers).unwrap_or_default().as_bytes(),
                );
                key.push(0xff);
            }
            let place = sums.place_of_key(&key, limits, || {
                let mut pairs = Vec::new();
                for (id, label) in &groups {
                    if let Some(text) =
                        memory.text(*label, row as usize, buffers).filter(|text| !text.is_empty())
                    {
                        pairs.push((plan.names.text(*id).clone(), Arc::from(text)));
                    }
                }
                LabelSet::from_shared(pairs)
            });
            sums.key = key;
            place
        };
        match (varying.next(), varying.next()) {
            (None, _) => {
                let place = place_of(self, rows[0], &mut buffers)?;
                match values {
                    None => self.add_counts(plan, place, times, &rows),
                    Some(values) => self.take_rows(plan, place, times, &rows, &values),
                }
            }
            (Some((_, label)), None) if let Some((codes, entries)) = memory.codes(*label) => {
                let mut places: Vec<usize> = vec![usize::MAX; entries];
                let mut by_code: Vec<(Vec<u32>, Vec<f64>)> = Vec::new();
                let mut order: Vec<u32> = Vec::new();
                for (i, row) in rows.iter().enumerate() {
                    let code = codes.values()[*row as usize] as usize;
                    let at = match places[code] {
                        usize::MAX => {
                            places[code] = by_code.len();
                            by_code.push((Vec::new(), Vec::new()));
                            order.push(*row);
                            by_code.len() - 1
                        }
                        at => at,
                    };
                    by_code[at].0.push(*row);
                    by_code[at].1.extend(values.as_ref().map(|values| values[i]));
                }
                for (first, (rows, values)) in order.into_iter().zip(by_code) {
                    let place = place_of(self, first, &mut buffers)?;
                    match values.is_empty() {
                        true => self.add_counts(plan, place, times, &rows),
                        false => self.take_rows(plan, place, times, &rows, &values),
                    }
                }
            }
            _ => {
                for (i, row) in rows.iter().enumerate() {
                    let place = place_of(self, *row, &mut buffers)?;
                    let value = values.as_ref().map_or(1.0, |values| values[i]);
                    self.take_rows(plan, place, times, &[*row], &[value]);
                }
            }
        }
        Ok(())
    }

    /// The series of a row.
    fn place(
        &mut self,
        plan: &LeafPlan,
        row: &Row<'_, '_>,
        names: &Names,
        limits: &MetricLimits,
    ) -> Result<usize, EvalError> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        // 0xff cannot occur in UTF-8. A missing label is an empty one.
        match &plan.keep {
            Keep::By(labels) => {
                for label in labels {
                    key.extend_from_slice(row.get(*label).unwrap_or_default().as_bytes());
                    key.push(0xff);
                }
            }
            keep => {
                let mut labels: Vec<(&str, &str)> = row
                    .labels()
                    .filter(|(id, _)| keep.keeps(*id))
                    .map(|(id, v)| (&**names.text(id), v))
                    .collect();
                labels.sort_unstable();
                for (name, value) in labels {
                    key.extend_from_slice(name.as_bytes());
                    key.push(0xff);
                    key.extend_from_slice(value.as_bytes());
                    key.push(0xff);
                }
            }
        }
        let place = self.place_of_key(&key, limits, || match &plan.keep {
            Keep::By(labels) => {
                own(names, labels.iter().filter_map(|id| Some((*id, row.get(*id)?)))).non_empty()
            }
            keep => own(names, row.labels().filter(|(id, _)| keep.keeps(*id))),
        });
        self.key = key;
        place
    }

    fn place_of_key(
        &mut self,
        key: &[u8],
        limits: &MetricLimits,
        labels: impl FnOnce() -> LabelSet,
    ) -> Result<usize, EvalError> {
        if let Some(place) = self.places.get(key) {
            return Ok(*place);
        }
        if self.series.len() >= limits.max_inner_series {
            return Err(EvalError::SeriesLimit(limits.max_inner_series));
        }
        self.label_bytes += key.len();
        self.places.insert(key.into(), self.series.len());
        self.series.push(SeriesState { labels: labels(), pieces: Vec::new(), last: 0 });
        self.check(limits)?;
        Ok(self.series.len() - 1)
    }

    /// Adds samples of one series now, or when their turn comes.
    fn take_rows(&mut self, plan: &LeafPlan, place: usize, times: &[i64], rows: &[u32], values: &[f64]) {
        match plan.kind {
            Kind::Count | Kind::Values | Kind::Min | Kind::Max => {
                self.add_rows(plan, place, times, rows, |i, _| values[i]);
            }
            _ => self.waiting.extend(rows.iter().zip(values).map(|(row, value)| (*row, place, *value))),
        }
    }

    /// Adds the waiting samples of rows before this one.
    fn add_waiting(&mut self, plan: &LeafPlan, times: &[i64], before: u32) {
        while let Some((row, place, value)) = self.waiting.pop_if(|(row, ..)| *row < before) {
            self.add(plan, place, times[row as usize], value);
        }
    }

    /// Adds entries, ascending in time, that count one each.
    fn add_counts(&mut self, plan: &LeafPlan, place: usize, times: &[i64], rows: &[u32]) {
        let mut at = 0;
        while let Some(row) = rows.get(at) {
            let time = times[*row as usize];
            if plan.windows.piece(time).is_none() {
                at += 1;
                continue;
            }
            let end = plan.windows.piece_end(time);
            let count = rows[at..].partition_point(|row| times[*row as usize] <= end);
            self.add(plan, place, time, count as f64);
            at += count;
        }
    }

    /// Adds samples of one series, ascending in time.
    fn add_rows(
        &mut self,
        plan: &LeafPlan,
        place: usize,
        times: &[i64],
        rows: &[u32],
        value: impl Fn(usize, usize) -> f64,
    ) {
        let mut at = 0;
        while let Some(row) = rows.get(at) {
            let time = times[*row as usize];
            if plan.windows.piece(time).is_none() {
                at += 1;
                continue;
            }
            let end = plan.windows.piece_end(time);
            self.add(plan, place, time, value(at, *row as usize));
            at += 1;
            let series = &mut self.series[place];
            let Some((_, piece)) = series.pieces.get_mut(series.last) else { continue };
            let before = at;
            while let Some(row) = rows.get(at).filter(|row| times[**row as usize] <= end) {
                piece.add(times[*row as usize], value(at, *row as usize));
                at += 1;
            }
            if matches!(plan.kind, Kind::Values | Kind::Samples) {
                self.points += at - before;
            }
        }
    }

    fn add(&mut self, plan: &LeafPlan, place: usize, time: i64, value: f64) {
        let Some(number) = plan.windows.piece(time) else { return };
        let series = &mut self.series[place];
        let holds_all = matches!(plan.kind, Kind::Values | Kind::Samples);
        if let Some((last, piece)) = series.pieces.get_mut(series.last)
            && *last == number
        {
            piece.add(time, value);
            self.points += usize::from(holds_all);
            return;
        }
        match series.pieces.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => {
                series.pieces[at].1.add(time, value);
                series.last = at;
                self.points += usize::from(holds_all);
            }
            Err(at) => {
                series.pieces.insert(at, (number, plan.kind.piece(time, value)));
                series.last = at;
                self.points += 1;
            }
        }
    }

    fn merge(&mut self, other: Self, limits: &MetricLimits) -> Result<(), EvalError> {
        let mut series: Vec<Option<SeriesState>> = other.series.into_iter().map(Some).collect();
        for (key, place) in other.places {
            let Some(from) = series.get_mut(place).and_then(Option::take) else { continue };
            let Some(&to) = self.places.get(&key) else {
                if self.series.len() >= limits.max_inner_series {
                    return Err(EvalError::SeriesLimit(limits.max_inner_series));
                }
                self.points += from.pieces.iter().map(|(_, piece)| piece.size()).sum::<usize>();
                self.label_bytes += key.len();
                self.places.insert(key, self.series.len());
                self.series.push(SeriesState { last: 0, ..from });
                continue;
            };
            let pieces = &mut self.series[to].pieces;
            for (number, piece) in from.pieces {
                self.points += piece.size();
                match pieces.binary_search_by_key(&number, |(n, _)| *n) {
                    Ok(at) => pieces[at].1.merge(&piece),
                    Err(at) => pieces.insert(at, (number, piece)),
                }
            }
        }
        self.check(limits)
    }
}

/// The lengths of lines that are taken apart, and the rows that have them; those of which too little was read go to `odd`.
fn measure(lines: &ShreddedLines, rows: &[u32], odd: &mut Vec<u32>) -> (Vec<f64>, Vec<u32>) {
    let (mut lengths, mut measured) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in rows {
        match lines.shape(*row as usize) {
            Some(shape) if !columnar::is_measured(lines, shape) => odd.push(*row),
            _ => {
                lengths.push(lines.line_len(*row as usize) as f64);
                measured.push(*row);
            }
        }
    }
    (lengths, measured)
}

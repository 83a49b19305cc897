//! A whole pipeline, planned: line filters that only see the original line come first and run over columns.

use std::sync::Arc;

use shred::{Columns, Lines, Table};

use crate::ast::LogExpr;
use crate::batch::EntryBatch;
use crate::columnar::{Program, Wants};
use crate::error::EvalError;
use crate::names::{NameId, Names};
use crate::needs::Equality;
use crate::row::{Row, Wanted};
use crate::stages::{LineFilter, Stage, TestState};

/// What searches remember from batch to batch: by line filter, by its operands.
pub(crate) type SelectState = Vec<Vec<TestState>>;

/// The plan of a log expression's stages.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    filters: Vec<LineFilter>,
    stages: Arc<[Stage]>,
}

impl Pipeline {
    pub(crate) fn compile(log: &LogExpr, names: &mut Names) -> Result<Self, EvalError> {
        let mut filters = Vec::new();
        let mut stages = Vec::new();
        let mut original = true;
        for stage in &log.stages {
            let compiled = Stage::compile(stage, names)?;
            original &= !compiled.rewrites_line();
            match compiled {
                // A filter of the original line neither sees nor changes labels, so it may run before parsers and label filters.
                Stage::LineFilter(filter) if original => filters.push(filter),
                stage => stages.push(stage),
            }
        }
        Ok(Self { filters, stages: stages.into() })
    }

    /// Reduces the rows of the batch to those whose original line passes. Rows of shredded lines of which not enough was read to
    /// know are moved to `odd`.
    pub(crate) fn select(
        &self,
        batch: &EntryBatch,
        rows: &mut Vec<u32>,
        odd: &mut Vec<u32>,
        state: &mut SelectState,
    ) {
        state.resize_with(self.filters.len(), Vec::new);
        for (filter, state) in self.filters.iter().zip(state) {
            match &batch.lines {
                _ if rows.is_empty() => return,
                Lines::Absent => return,
                Lines::Text(lines) => filter.select(lines, rows),
                Lines::Shredded(lines) => filter.select_shredded(lines, rows, odd, state),
            }
        }
    }

    /// The columns of shredded lines with which rows can be dropped; `None` if they drop nothing. If the rows that the program passes
    /// are `measured`, the columns that tell the length of their lines are among them.
    pub(crate) fn screen_columns(
        &self,
        program: Option<&Program>,
        measured: bool,
        table: &Table,
        names: &mut Names,
    ) -> Option<Columns> {
        let filters = || self.filters.iter().filter(|filter| filter.is_searched());
        let labels = |program: &Program| self.filters.is_empty() || program.has_filters(&self.stages);
        if filters().next().is_none() && !program.is_some_and(labels) {
            return None;
        }
        let mut wants = Wants::new(table);
        filters().for_each(|filter| filter.columns(table, &mut wants));
        if let Some(program) = program {
            program.columns(&self.stages, measured, table, names, &mut wants);
        }
        Some(wants.into_columns())
    }

    /// The labels that decide whether an entry passes, if nothing else does and making only those is cheaper than making all:
    /// rows can be screened with them before they are parsed in full.
    pub(crate) fn screen(&self) -> Option<Wanted> {
        let parser = |stage: &Stage| {
            matches!(
                stage,
                Stage::Json | Stage::JsonPaths(_) | Stage::Logfmt(_) | Stage::Regexp(_) | Stage::Pattern(_)
            )
        };
        let filter = |stage: &Stage| matches!(stage, Stage::LabelFilter(f) if !f.depends_on_errors());
        let whole = self.stages.iter().all(|stage| parser(stage) || filter(stage));
        let parses = self.stages.iter().any(parser);
        let wanted = self.filtered(self.stages.len());
        (whole && parses && !wanted.is_empty()).then_some(Wanted::Names(wanted))
    }

    /// The labels that the conditions before the first stage that changes anything look at: with them rows can be dropped by
    /// columns.
    pub(crate) fn dropping(&self) -> Option<Wanted> {
        let plain = |stage: &Stage| {
            matches!(
                stage,
                Stage::Json
                    | Stage::JsonPaths(_)
                    | Stage::Logfmt(_)
                    | Stage::Pattern(_)
                    | Stage::LabelFilter(_)
            )
        };
        let length = self.stages.iter().position(|stage| !plain(stage)).unwrap_or(self.stages.len());
        let wanted = self.filtered(length);
        (!wanted.is_empty()).then_some(Wanted::Names(wanted))
    }

    /// What of the pipeline runs over columns, if anything; `errors` says that the query looks at errors afterwards.
    pub(crate) fn program(&self, wanted: &Wanted, errors: bool, names: &mut Names) -> Option<Program> {
        let program = Program::new(&self.stages, wanted, errors, names)?;
        program.is_useful(&self.stages).then_some(program)
    }

    /// Whether an original line passes the filters of original lines.
    pub(crate) fn line_passes(&self, line: &str) -> bool {
        self.filters.iter().all(|filter| filter.passes(line))
    }

    /// Whether all entries pass.
    pub(crate) fn drops_nothing(&self) -> bool {
        !self.stages.iter().any(|stage| matches!(stage, Stage::LineFilter(_) | Stage::LabelFilter(_)))
    }

    /// The labels that the label filters among the first stages look at.
    fn filtered(&self, length: usize) -> Vec<NameId> {
        let mut wanted = Vec::new();
        for stage in &self.stages[..length] {
            if let Stage::LabelFilter(filter) = stage {
                filter.names(&mut wanted);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Runs the other stages; false drops the entry.
    pub(crate) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) -> bool {
        self.stages.iter().all(|stage| stage.run(row, names))
    }

    /// Whether every entry passes unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty() && self.stages.is_empty()
    }

    pub(crate) fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Whether lines matter; `idle` says that nobody wants a label from a parser.
    pub(crate) fn reads_line(&self, idle: bool) -> bool {
        !self.filters.is_empty() || self.stages.iter().any(|stage| stage.reads_line(idle))
    }

    /// Texts that every line that passes contains, one of each list.
    pub(crate) fn needles(&self) -> Vec<Vec<String>> {
        let mut needles = Vec::new();
        self.filters.iter().for_each(|filter| filter.needles(&mut needles));
        needles
    }

    /// Labels that every entry that passes has, by conditions before any stage that makes labels out of labels.
    pub(crate) fn equalities(&self, names: &Names) -> Vec<Equality> {
        let (mut found, mut parses) = (Vec::new(), false);
        for stage in &*self.stages {
            match stage {
                Stage::LabelFilter(filter) => filter.equalities(names, parses, &mut found),
                Stage::LineFilter(_) | Stage::Drop(_) | Stage::Keep(_) => {}
                Stage::Json
                | Stage::JsonPaths(_)
                | Stage::Logfmt(_)
                | Stage::Regexp(_)
                | Stage::Pattern(_)
                | Stage::Unpack => parses = true,
                Stage::LineFormat(_) | Stage::LabelFormat(_) | Stage::Decolorize(_) => break,
            }
        }
        found
    }
}

/// The rows of the batch with `first <= timestamp <= last`, ascending.
pub(crate) fn rows_between(batch: &EntryBatch, first: i64, last: i64) -> Vec<u32> {
    let times = batch.timestamps.values();
    let from = times.partition_point(|t| *t < first) as u32;
    let to = times.partition_point(|t| *t <= last) as u32;
    (from..to.max(from)).collect()
}

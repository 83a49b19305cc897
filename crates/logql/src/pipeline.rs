//! A whole pipeline, planned: line filters that only see the original line come first and run over columns.

use std::sync::Arc;

use arrow_array::Array as _;

use crate::ast::LogExpr;
use crate::batch::EntryBatch;
use crate::error::EvalError;
use crate::names::Names;
use crate::row::{Row, Wanted};
use crate::stages::{LineFilter, Stage};

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

    /// Reduces the rows of the batch to those whose original line passes.
    pub(crate) fn select(&self, batch: &EntryBatch, rows: &mut Vec<u32>) {
        if batch.lines.is_empty() {
            return;
        }
        for filter in &self.filters {
            if rows.is_empty() {
                return;
            }
            filter.select(&batch.lines, rows);
        }
    }

    /// The labels that decide whether an entry passes, if nothing else does and making only those is cheaper than making all:
    /// rows can be screened with them before they are parsed in full.
    pub(crate) fn screen(&self) -> Option<Wanted> {
        let mut wanted = Vec::new();
        for stage in &*self.stages {
            match stage {
                Stage::Json
                | Stage::JsonPaths(_)
                | Stage::Logfmt(_)
                | Stage::Regexp(_)
                | Stage::Pattern(_) => {}
                Stage::LabelFilter(filter) if !filter.depends_on_errors() => filter.names(&mut wanted),
                _ => return None,
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let parses = self.stages.iter().any(|stage| !matches!(stage, Stage::LabelFilter(_)));
        (parses && !wanted.is_empty()).then_some(Wanted::Names(wanted))
    }

    /// Runs the other stages; false drops the entry.
    pub(crate) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) -> bool {
        self.stages.iter().all(|stage| stage.run(row, names))
    }

    pub(crate) fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Whether lines matter; `idle` says that nobody wants a label from a parser.
    pub(crate) fn reads_line(&self, idle: bool) -> bool {
        !self.filters.is_empty() || self.stages.iter().any(|stage| stage.reads_line(idle))
    }

    /// Texts that every line that passes contains.
    pub(crate) fn needles(&self) -> Vec<String> {
        let mut needles = Vec::new();
        self.filters.iter().for_each(|filter| filter.needles(&mut needles));
        needles
    }
}

/// The rows of the batch with `first <= timestamp <= last`, ascending.
pub(crate) fn rows_between(batch: &EntryBatch, first: i64, last: i64) -> Vec<u32> {
    let times = batch.timestamps.values();
    let from = times.partition_point(|t| *t < first) as u32;
    let to = times.partition_point(|t| *t <= last) as u32;
    (from..to.max(from)).collect()
}

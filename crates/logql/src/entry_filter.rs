//! Which entries a log selector means: for deletes.

use std::convert::Infallible;

use model::Matcher;
use shred::{Columns, Lines, Table};

use crate::ast::LogExpr;
use crate::batch::EntryBatch;
use crate::columnar::{Known, Memory, Program, ProgramState};
use crate::error::EvalError;
use crate::names::Names;
use crate::needs::Needs;
use crate::pipeline::{Pipeline, SelectState};
use crate::row::{BatchView, Row, Wanted};

/// A selector with its pipeline, asked only whether entries pass.
#[derive(Debug, Clone)]
pub struct EntryFilter {
    matchers: Vec<Matcher>,
    needs: Needs,
    pipeline: Pipeline,
    wanted: Wanted,
    program: Option<Program>,
    select: SelectState,
    state: ProgramState,
    names: Names,
}

impl EntryFilter {
    /// Plans the filter.
    pub fn new(expr: &LogExpr) -> Result<Self, EvalError> {
        let mut names = Names::new();
        let pipeline = Pipeline::compile(expr, &mut names)?;
        let program = pipeline.dropping().and_then(|wanted| pipeline.program(&wanted, false, &mut names));
        names.fix();
        let mut needs =
            Needs { needles: pipeline.needles(), equalities: pipeline.equalities(&names), ..Needs::all() };
        needs.lines = !pipeline.is_empty();
        let wanted = pipeline.screen().unwrap_or(Wanted::All);
        Ok(Self {
            matchers: expr.matchers.clone(),
            needs,
            pipeline,
            wanted,
            program,
            select: SelectState::default(),
            state: ProgramState::default(),
            names,
        })
    }

    /// What the labels of a stream must satisfy.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// What of the entries must be filled in.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Which columns of shredded lines [`EntryFilter::rows`] reads.
    pub fn columns(&self, _table: &Table) -> Columns {
        if self.needs.lines { Columns::All } else { Columns::Nothing }
    }

    /// The rows of the batch that pass, ascending.
    pub fn rows(&mut self, batch: &EntryBatch) -> Vec<u32> {
        let (mut rows, mut odd) = ((0..batch.len() as u32).collect(), Vec::new());
        self.pipeline.select(batch, &mut rows, &mut odd, &mut self.select);
        self.names.forget();
        let view = BatchView::new(batch, &mut self.names, &self.needs.metadata);
        let mut certain = Vec::new();
        if let (Lines::Shredded(_), Some(program)) = (&batch.lines, &self.program) {
            let (mut passed, decides) = (Vec::new(), program.decides);
            let take = |mut known: Known<'_>, _: &mut Memory<'_>, _: &mut Vec<u32>| {
                (if decides { &mut certain } else { &mut passed }).append(&mut known.rows);
                Ok::<(), Infallible>(())
            };
            let stages = self.pipeline.stages();
            let asked = program.decide(stages, &view, &rows, &mut self.names, &mut self.state, take);
            rows = asked.into_iter().flatten().chain(passed).collect();
        } else if self.pipeline.drops_nothing() {
            certain = std::mem::take(&mut rows);
        }
        let mut row = Row::new(&view, &self.wanted);
        let mut passes = |index: u32, line_passes: bool| {
            row.load(index as usize, &mut self.names);
            (line_passes || self.pipeline.line_passes(row.line()))
                && self.pipeline.run(&mut row, &mut self.names)
        };
        certain.extend(rows.into_iter().filter(|row| passes(*row, true)));
        certain.extend(odd.into_iter().filter(|row| passes(*row, false)));
        certain.sort_unstable();
        certain
    }
}

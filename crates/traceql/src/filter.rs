//! Filters for autocompletion: which spans a half-written query would keep, and the values they hold.

use arrow_buffer::BooleanBuffer;

use crate::ast::{Expr, Field};
use crate::batch::SpanBatch;
use crate::error::EvalError;
use crate::eval::compiled::{self, Fields, Predicate};
use crate::eval::view::View;
use crate::parser;
use crate::plan::{Conditions, FieldSet};
use crate::value::{Value, ValueRef};

/// A filter over single spans.
#[derive(Debug, Clone)]
pub struct Filter {
    expr: Expr,
    fields: Fields,
    predicate: [Predicate; 1],
}

impl Filter {
    fn new(expr: Expr) -> Result<Self, EvalError> {
        let mut fields = Fields::default();
        let predicate = [compiled::filter(&expr, &mut fields)?];
        Ok(Self { expr, fields, predicate })
    }

    /// The fields that batches must hold.
    pub fn fields(&self) -> FieldSet {
        let mut set = FieldSet::default();
        self.expr.fields(&mut |field| set.add(field));
        set
    }

    /// The conditions to skip blocks by.
    pub fn conditions(&self) -> Conditions {
        Conditions::of(&self.expr)
    }

    /// One bit per row of the batch: whether the span passes.
    pub fn select(&self, batch: &SpanBatch) -> BooleanBuffer {
        View::new(batch, &self.fields, &self.predicate).selection(0).clone()
    }
}

/// Reads the query text that accompanies a tag name or value request. Unfinished conditions are dropped;
/// `None` means that nothing usable is left and every span counts.
pub fn parse_lenient(text: &str) -> Option<Filter> {
    let expr = parser::first_filter(text)?;
    match expr {
        Expr::Literal(Value::Bool(true)) => None,
        expr => Filter::new(expr).ok(),
    }
}

/// Calls `each` with every value of `field` on the selected rows: those of all events and links, array elements
/// one by one, nil never. Values repeat; the caller removes duplicates.
pub fn field_values(
    batch: &SpanBatch,
    field: &Field,
    selected: &BooleanBuffer,
    each: &mut dyn FnMut(ValueRef<'_>),
) {
    let mut fields = Fields::default();
    let slot = fields.any_value(field);
    let view = View::new(batch, &fields, &[]);
    for row in selected.set_indices() {
        view.column(slot).values(&view.offsets, row, &mut |value| match value {
            ValueRef::Array(items) => items.iter().for_each(|item| each(item.borrow())),
            value => each(value),
        });
    }
}

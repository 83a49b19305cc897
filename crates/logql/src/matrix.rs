//! Series of numbers over the steps of a query: what metric expressions compute with.

use std::collections::HashMap;

use crate::error::EvalError;
use crate::labels::LabelSet;

/// A series: step and value, ascending, no step twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) labels: LabelSet,
    pub(crate) points: Vec<(u32, f64)>,
}

/// Series with distinct labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Matrix {
    pub(crate) lines: Vec<Line>,
    /// The order of the lines says something (`sort`).
    pub(crate) ordered: bool,
}

impl Matrix {
    /// Joins lines with equal labels; two points of one step are an error.
    pub(crate) fn from_lines(lines: Vec<Line>) -> Result<Self, EvalError> {
        let mut places: HashMap<LabelSet, usize> = HashMap::with_capacity(lines.len());
        let mut out: Vec<Line> = Vec::with_capacity(lines.len());
        for line in lines.into_iter().filter(|line| !line.points.is_empty()) {
            match places.get(&line.labels) {
                None => {
                    places.insert(line.labels.clone(), out.len());
                    out.push(line);
                }
                Some(place) => {
                    let points = &mut out[*place].points;
                    points.extend(line.points);
                    points.sort_by_key(|(step, _)| *step);
                    if points.windows(2).any(|w| w[0].0 == w[1].0) {
                        let labels = line.labels;
                        return Err(EvalError::Matching(format!(
                            "vector cannot contain metrics with the same labelset: {labels}"
                        )));
                    }
                }
            }
        }
        Ok(Self { lines: out, ordered: false })
    }
}

/// The value of a metric expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// The same number at every step.
    Scalar(f64),
    Matrix(Matrix),
}

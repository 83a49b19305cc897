//! Hides the lines that are to be deleted: from queries at once, from merged blocks for good.

use std::fmt;

use logql::{EntryBatch, EntryFilter, EvalError, LogExpr};
use model::{Labels, Matcher};

use crate::deletes::filter::rows;
use crate::deletes::request::DeleteRequest;

/// The requests of a tenant that hide lines.
#[derive(Debug, Default)]
pub struct TenantMask {
    requests: Vec<Masked>,
}

/// A request, ready to be applied.
pub(crate) struct Masked {
    pub(crate) id: String,
    pub(crate) start: i64,
    pub(crate) end: i64,
    expr: LogExpr,
    filter: EntryFilter,
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}..={}", self.id, self.expr, self.start, self.end)
    }
}

impl Masked {
    /// Reads the query of a request.
    pub(crate) fn new(request: &DeleteRequest) -> Result<Self, String> {
        let expr = log_query(&request.query)?;
        let filter = EntryFilter::new(&expr).map_err(|e| e.to_string())?;
        Ok(Self { id: request.id.clone(), start: request.start, end: request.end, expr, filter })
    }

    /// What the labels of the streams satisfy.
    pub(crate) fn matchers(&self) -> &[Matcher] {
        self.filter.matchers()
    }

    /// Whether every line of a stream that it fits is hidden, within its time.
    pub(crate) fn takes_all(&self) -> bool {
        self.expr.stages.is_empty()
    }

    pub(crate) fn touches(&self, labels: &Labels, first: i64, last: i64) -> bool {
        self.start <= last && self.end >= first && self.matchers().iter().all(|m| m.matches_labels(labels))
    }

    /// Which rows of a batch of a stream that it fits are hidden, ascending.
    pub(crate) fn rows(&self, batch: &EntryBatch) -> Vec<u32> {
        let times = batch.timestamps.values();
        let within = |row: &u32| (self.start..=self.end).contains(&times[*row as usize]);
        let mut rows: Vec<u32> = (0..times.len() as u32).filter(within).collect();
        if !self.takes_all() && !rows.is_empty() {
            rows = self.filter.clone().rows(batch);
            rows.retain(within);
        }
        rows
    }
}

/// A log query, which a request to delete must be.
pub(crate) fn log_query(text: &str) -> Result<LogExpr, String> {
    match logql::parse(text) {
        Ok(logql::Expr::Log(log)) => Ok(log),
        Ok(_) => Err("unsupported query: only a selector with filters can select lines to delete".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl TenantMask {
    /// Of these requests. One whose query cannot be read any more, after a downgrade say, is an error: what it hides is unknown.
    pub fn new<'a>(requests: impl IntoIterator<Item = &'a DeleteRequest>) -> Result<Self, String> {
        let requests = requests.into_iter().map(Masked::new).collect::<Result<_, _>>()?;
        Ok(Self { requests })
    }

    /// Whether nothing is hidden at all.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether lines of the stream in `first..=last` may be hidden. If so, its rows must go through [`apply`](Self::apply), and
    /// neither counts nor statistics of them hold.
    pub fn touches(&self, labels: &Labels, first: i64, last: i64) -> bool {
        self.requests.iter().any(|r| r.touches(labels, first, last))
    }

    /// Whether [`apply`](Self::apply) looks at lines and metadata of these rows, or at times alone.
    pub fn needs_lines(&self, labels: &Labels, first: i64, last: i64) -> bool {
        self.requests.iter().any(|r| !r.takes_all() && r.touches(labels, first, last))
    }

    /// The rows that are not hidden. The batch must have its lines and all metadata where
    /// [`needs_lines`](Self::needs_lines) says so.
    pub fn apply(&self, batch: EntryBatch) -> Result<EntryBatch, EvalError> {
        let times = batch.timestamps.values();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return Ok(batch) };
        let mut hidden: Option<Vec<bool>> = None;
        for request in self.requests.iter().filter(|r| r.touches(&batch.labels, *first, *last)) {
            for row in request.rows(&batch) {
                hidden.get_or_insert_with(|| vec![false; times.len()])[row as usize] = true;
            }
        }
        let Some(hidden) = hidden else { return Ok(batch) };
        let left = (0..).zip(hidden).filter(|(_, is_hidden)| !is_hidden).map(|(row, _)| row);
        rows(&batch, left.collect()).map_err(|e| EvalError::NotEvaluable(e.to_string()))
    }

    pub(crate) fn requests(&self) -> &[Masked] {
        &self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deletes::request::Status;
    use crate::store::entries::Entries;
    use crate::store::entries::tests::{entries, plain};

    fn mask(requests: &[(&str, i64, i64)]) -> TenantMask {
        let requests = requests.iter().map(|(query, start, end)| DeleteRequest {
            id: "x".into(),
            created: 0,
            start: *start,
            end: *end,
            query: (*query).into(),
            status: Status::Received,
        });
        TenantMask::new(&requests.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn hides_what_the_queries_select_in_their_time() {
        let labels = Labels::from_pairs([("app", "a")]);
        let given = entries(&[
            (1, "one", &[("user", "u")]),
            (2, r#"{"k":"secret"}"#, &[]),
            (3, "three secret", &[]),
            (3, "three", &[("user", "v")]),
            (5, "five", &[]),
        ]);
        let check = |requests: &[(&str, i64, i64)], expect: &[&str]| {
            let mask = mask(requests);
            let left = mask.apply(given.clone().into_batch(labels.clone())).unwrap();
            let left = Entries { timestamps: left.timestamps, lines: left.lines, metadata: left.metadata };
            let lines: Vec<String> = plain(&left).into_iter().map(|r| r.1).collect();
            assert_eq!(lines, expect, "{requests:?}");
        };
        let json = r#"{"k":"secret"}"#;
        check(&[], &["one", json, "three secret", "three", "five"]);
        check(&[(r#"{app="a"}"#, 2, 3)], &["one", "five"]);
        check(&[(r#"{app="b"}"#, 0, 9)], &["one", json, "three secret", "three", "five"]);
        check(&[(r#"{app="a"} |= "secret""#, 0, 9)], &["one", "three", "five"]);
        check(&[(r#"{app="a"} |= "secret""#, 3, 9)], &["one", json, "three", "five"]);
        check(&[(r#"{app="a"} | json | k="secret""#, 0, 9)], &["one", "three secret", "three", "five"]);
        check(
            &[(r#"{app="a"} | user="u""#, 0, 9), (r#"{app=~".+"} != "e""#, 0, 9)],
            &[json, "three secret", "three", "five"],
        );
        check(&[(r#"{app="a"}"#, 0, 1), (r#"{app="a"}"#, 2, 9)], &[]);
    }

    #[test]
    fn says_what_it_touches() {
        let labels = Labels::from_pairs([("app", "a")]);
        let mask = mask(&[(r#"{app="a"}"#, 10, 20), (r#"{app="a"} |= "x""#, 30, 40)]);
        let check = |first, last, touches, lines| {
            assert_eq!(
                (mask.touches(&labels, first, last), mask.needs_lines(&labels, first, last)),
                (touches, lines)
            );
        };
        check(0, 9, false, false);
        check(0, 10, true, false);
        check(20, 29, true, false);
        check(20, 30, true, true);
        check(41, 99, false, false);
        assert!(!mask.touches(&Labels::from_pairs([("app", "b")]), 0, 99));
        assert!(log_query("rate({a=\"b\"}[1m])").is_err() && log_query("{").is_err());
    }
}

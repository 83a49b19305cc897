//! Why a query is refused or ends early.

/// What is wrong with the text of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// It is not TraceQL.
    Syntax,
    /// It is TraceQL, but its types or parameters do not fit.
    Invalid,
    /// It is valid, but nobody evaluates it.
    Unsupported,
}

/// A refused query. All of them are the caller's mistake (HTTP 400, after `invalid TraceQL query: `).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", position_text(*.kind, *.position))]
pub struct ParseError {
    /// What kind of mistake.
    pub kind: ParseErrorKind,
    /// Line and column of the offending token, from 1; `None` for mistakes that stand nowhere.
    pub position: Option<(u32, u32)>,
    /// The sentence.
    pub message: String,
}

fn position_text(kind: ParseErrorKind, position: Option<(u32, u32)>) -> String {
    match (kind, position) {
        (ParseErrorKind::Syntax, Some((line, column))) => {
            format!("parse error at line {line}, col {column}: ")
        }
        (ParseErrorKind::Syntax, None) => "parse error : ".to_owned(),
        _ => String::new(),
    }
}

impl ParseError {
    pub(crate) fn syntax(position: (u32, u32), message: impl Into<String>) -> Self {
        Self { kind: ParseErrorKind::Syntax, position: Some(position), message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ParseErrorKind::Invalid, position: None, message: message.into() }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self { kind: ParseErrorKind::Unsupported, position: None, message: message.into() }
    }
}

/// A query that parsed but cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The search or metrics entry was given a query of the other kind.
    #[error("not a metrics query")]
    NotMetrics,
    /// A spanset operator met several spansets in one trace.
    #[error("spanset operators are not supported for multiple spansets per trace. consider using coalesce()")]
    MultipleSpansets,
    /// Ids know only `=` and `!=`.
    #[error("{field} supports only = and !=, not {op}")]
    IdOperator {
        /// The field.
        field: &'static str,
        /// The operator.
        op: &'static str,
    },
    /// The query is valid, but nobody evaluates it.
    #[error("{0}")]
    Unsupported(String),
    /// The range or the step makes no series.
    #[error("{0}")]
    Range(String),
    /// The series would take too much memory.
    #[error(
        "the query makes more than {limit} samples: narrow the range, raise the step or group by fewer fields"
    )]
    Budget {
        /// The limit that was met.
        limit: usize,
    },
}

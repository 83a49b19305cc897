//! Why a query is refused or fails.

/// The query's text is not LogQL. Displayed as clients expect it, starting with `parse error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A token stands where it may not, or a text is no token.
    #[error("parse error at line {line}, col {column}: {message}")]
    At {
        /// Line from 1; 0 for faults inside a range.
        line: usize,
        /// Column in characters from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The query breaks a rule that has no place in the text.
    #[error("parse error : {0}")]
    Invalid(String),
}

/// Why a query cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A sample carries an error of the pipeline (client's fault).
    #[error(
        "pipeline error: '{kind}' for series: '{series}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )]
    Pipeline {
        /// Value of `__error__`.
        kind: String,
        /// The labels of the sample.
        series: String,
    },
    /// The answer has too many series (client's fault).
    #[error(
        "maximum number of series ({0}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
    )]
    SeriesLimit(usize),
    /// The query needs more memory than it may use (client's fault).
    #[error("query needs more than {limit} {what}: narrow the selector, the time range or the labels")]
    Budget {
        /// What is scarce.
        what: &'static str,
        /// How much there is of it.
        limit: usize,
    },
    /// The two sides of a binary operation cannot be matched (reported as 500 by Loki).
    #[error("{0}")]
    Matching(String),
    /// A construct that is switched off (client's fault).
    #[error("{0}")]
    NotEnabled(String),
    /// The tree was not made by [`parse`](crate::parse()) and breaks its rules (client's fault).
    #[error("{0}")]
    Invalid(String),
    /// A construct that cannot be evaluated where it stands (reported as 500 by Loki).
    #[error("{0}")]
    NotEvaluable(String),
}

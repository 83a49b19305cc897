//! The syntax tree: what a query says, checked as far as a query can be checked without data.
//!
//! Every tree that [`parse`](crate::parse()) returns has passed the rules of the language (a matcher that does not match the empty
//! string, valid regular expressions, templates and patterns, parameters and groupings that the operation knows).
//! `Display` writes the canonical text, which parses to an equal tree.

use model::Matcher;

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Gives streams.
    Log(LogExpr),
    /// Gives a scalar, a vector or a matrix.
    Metric(MetricExpr),
}

/// A selector and its pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExpr {
    /// All must match the stream's labels.
    pub matchers: Vec<Matcher>,
    /// The pipeline, first stage first.
    pub stages: Vec<Stage>,
}

/// One step of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// `|= "x" or "y"`
    LineFilter(LineFilter),
    /// `| json` or `| json a="b.c"`
    Json(Vec<Extraction>),
    /// `| logfmt` or `| logfmt a="b"`
    Logfmt {
        /// `--strict`: the first fault ends the parse with an error.
        strict: bool,
        /// `--keep-empty`: keys without a value become empty labels.
        keep_empty: bool,
        /// The keys to take; all if empty.
        extractions: Vec<Extraction>,
    },
    /// `| regexp "(?P<name>re)"`
    Regexp(String),
    /// `| pattern "<name> <_>"`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| level="error"`
    LabelFilter(LabelFilter),
    /// `| line_format "template"`
    LineFormat(String),
    /// `| label_format a=b, c="template"`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop a, b="c"`
    Drop(Vec<LabelSelection>),
    /// `| keep a, b="c"`
    Keep(Vec<LabelSelection>),
}

/// A condition on the line.
#[derive(Debug, Clone, PartialEq)]
pub struct LineFilter {
    /// How the operands are tested.
    pub op: LineOp,
    /// At least one; the line passes if one of them does (positive operators) or all of them do (negative ones).
    pub operands: Vec<LineOperand>,
}

/// The operator of a line filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Regex,
    /// `!~`
    NotRegex,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

/// The right side of a line filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineOperand {
    /// A text, regular expression or pattern.
    Text(String),
    /// `ip("10.0.0.0/8")`
    Ip(String),
}

/// `label="expression"` of the json and logfmt parsers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The label to set.
    pub label: String,
    /// The path (json) or key (logfmt) to take it from.
    pub expression: String,
}

/// A condition on labels.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    /// `level=~"err.*"`
    Match(Matcher),
    /// `size > 10KB`
    Compare {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// The right side.
        value: Literal,
    },
    /// `addr = ip("10.0.0.0/8")`
    Ip {
        /// The label.
        name: String,
        /// `!=` instead of `=`.
        negated: bool,
        /// An address, a CIDR block or a range `low-high`.
        pattern: String,
    },
    /// Both are evaluated and must pass.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// The right side is evaluated only if the left fails.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// The right side of a comparing label filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A number.
    Number(f64),
    /// A duration in nanoseconds.
    Duration(i64),
    /// A size in bytes.
    Bytes(u64),
}

/// Comparison of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `==` (and `=` in label filters)
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

/// One assignment of `label_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFormat {
    /// The label to set.
    pub label: String,
    /// What to set it to.
    pub source: FormatSource,
}

/// The right side of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatSource {
    /// Rename this label.
    Label(String),
    /// Run this template.
    Template(String),
}

/// An item of `drop` or `keep`.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelSelection {
    /// The label whatever its value.
    Name(String),
    /// The label if its value matches.
    Match(Matcher),
}

/// A query that gives numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricExpr {
    /// `rate({…}[5m])`
    Range(RangeAggregation),
    /// `sum by (x) (…)`
    Vector(VectorAggregation),
    /// `a / b`
    Binary(Box<Binary>),
    /// `5`
    Number(f64),
    /// `vector(5)`
    VectorOf(f64),
    /// `label_replace(…)`
    LabelReplace(Box<LabelReplace>),
    /// `variants(…) of (…)`
    Variants {
        /// The metrics to compute.
        metrics: Vec<MetricExpr>,
        /// The common selector.
        of: LogExpr,
        /// Its range in nanoseconds.
        range: i64,
    },
}

/// A function over the entries of a time window.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeAggregation {
    /// The function.
    pub op: RangeOp,
    /// The quantile of `quantile_over_time`.
    pub parameter: Option<f64>,
    /// Which entries.
    pub log: LogExpr,
    /// Which label gives the value; without it the entries themselves are counted.
    pub unwrap: Option<Unwrap>,
    /// Length of the window in nanoseconds.
    pub range: i64,
    /// How far the window is shifted into the past, in nanoseconds.
    pub offset: i64,
    /// Which labels the series keep.
    pub grouping: Option<Grouping>,
}

/// `| unwrap duration(label) | filter`
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub label: String,
    /// How its text becomes a number.
    pub conversion: Conversion,
    /// Label filters after the conversion.
    pub filters: Vec<LabelFilter>,
}

/// How an unwrapped label becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// A plain number.
    Number,
    /// A size such as `1.5MiB`, in bytes.
    Bytes,
    /// A Go duration, in seconds (`duration`).
    Duration,
    /// The same (`duration_seconds`).
    DurationSeconds,
}

/// Functions over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the functions' names")]
pub enum RangeOp {
    CountOverTime,
    Rate,
    RateCounter,
    BytesOverTime,
    BytesRate,
    AbsentOverTime,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    StddevOverTime,
    StdvarOverTime,
    QuantileOverTime,
    FirstOverTime,
    LastOverTime,
}

/// `by (a, b)` or `without (a, b)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// `without` instead of `by`.
    pub without: bool,
    /// The labels.
    pub labels: Vec<String>,
}

/// An aggregation across series.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorAggregation {
    /// The function.
    pub op: VectorOp,
    /// The k of `topk`, `bottomk` and `approx_topk`.
    pub parameter: Option<usize>,
    /// The operand.
    pub inner: Box<MetricExpr>,
    /// Which labels the result keeps; none without a clause.
    pub grouping: Option<Grouping>,
}

/// Functions across series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the functions' names")]
pub enum VectorOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    ApproxTopk,
    Sort,
    SortDesc,
}

/// An operation between two operands.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// A comparison gives 0 or 1 instead of filtering.
    pub bool_modifier: bool,
    /// Which labels are matched; all by default.
    pub matching: Option<Matching>,
    /// Left operand.
    pub left: MetricExpr,
    /// Right operand.
    pub right: MetricExpr,
}

/// `on (a) group_left (b)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// `on` instead of `ignoring`.
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// Which side may have many elements for one of the other.
    pub group: Option<GroupModifier>,
}

/// `group_left (labels)` or `group_right (labels)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupModifier {
    /// The left side is the one with many elements.
    pub left: bool,
    /// Labels taken from the side with one.
    pub include: Vec<String>,
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the operators' names")]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Compare(CompareOp),
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

/// `label_replace(v, "dst", "replacement", "src", "regex")`
#[derive(Debug, Clone, PartialEq)]
pub struct LabelReplace {
    /// The operand.
    pub inner: MetricExpr,
    /// The label to set.
    pub dst: String,
    /// What to set it to, with `$1`.
    pub replacement: String,
    /// The label to look at.
    pub src: String,
    /// What it must match, anchored.
    pub regex: String,
}

/// Defines the written form of an enum's variants, both ways.
macro_rules! words {
    ($type:ty { $($variant:ident = $text:literal,)* }) => {
        impl $type {
            /// The word as written in a query.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            /// The variant of a (lower-case) word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words!(RangeOp {
    CountOverTime = "count_over_time",
    Rate = "rate",
    RateCounter = "rate_counter",
    BytesOverTime = "bytes_over_time",
    BytesRate = "bytes_rate",
    AbsentOverTime = "absent_over_time",
    SumOverTime = "sum_over_time",
    AvgOverTime = "avg_over_time",
    MinOverTime = "min_over_time",
    MaxOverTime = "max_over_time",
    StddevOverTime = "stddev_over_time",
    StdvarOverTime = "stdvar_over_time",
    QuantileOverTime = "quantile_over_time",
    FirstOverTime = "first_over_time",
    LastOverTime = "last_over_time",
});

words!(VectorOp {
    Sum = "sum",
    Avg = "avg",
    Min = "min",
    Max = "max",
    Count = "count",
    Stddev = "stddev",
    Stdvar = "stdvar",
    Topk = "topk",
    Bottomk = "bottomk",
    ApproxTopk = "approx_topk",
    Sort = "sort",
    SortDesc = "sort_desc",
});

words!(CompareOp {
    Equal = "==",
    NotEqual = "!=",
    Greater = ">",
    GreaterOrEqual = ">=",
    Less = "<",
    LessOrEqual = "<=",
});

words!(LineOp {
    Contains = "|=",
    NotContains = "!=",
    Regex = "|~",
    NotRegex = "!~",
    Pattern = "|>",
    NotPattern = "!>",
});

words!(Conversion {
    Number = "",
    Bytes = "bytes",
    Duration = "duration",
    DurationSeconds = "duration_seconds",
});

impl BinaryOp {
    /// The operator as written in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Compare(op) => op.as_str(),
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }

    /// How tightly it binds; `^` binds tightest and is the only right-associative one.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Compare(_) => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
        }
    }

    /// The result for two numbers; a comparison gives 1 or 0. Division by zero gives NaN.
    pub(crate) fn compute(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Compare(op) => f64::from(u8::from(op.holds(left, right))),
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div if right == 0.0 => f64::NAN,
            Self::Div => left / right,
            Self::Mod if right == 0.0 => f64::NAN,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Or | Self::And | Self::Unless => f64::NAN,
        }
    }

    /// Whether it works on sets of series instead of numbers.
    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
}

impl CompareOp {
    /// Compares as IEEE 754 says.
    pub(crate) fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
        }
    }
}

impl LineOp {
    /// Whether the line must not match.
    pub(crate) fn is_negative(self) -> bool {
        matches!(self, Self::NotContains | Self::NotRegex | Self::NotPattern)
    }
}

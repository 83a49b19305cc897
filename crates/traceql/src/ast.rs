//! The syntax tree of a query: pipelines of spansets, expressions over the fields of a span, metrics.

use std::sync::Arc;

use crate::value::Value;

/// Where an attribute is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The span's own attributes.
    Span,
    /// The resource's.
    Resource,
    /// Those of each event of the span.
    Event,
    /// Those of each link of the span.
    Link,
    /// The instrumentation scope's.
    Instrumentation,
}

impl Scope {
    /// All scopes, in the order an unscoped attribute is looked up.
    pub const ALL: [Self; 5] = [Self::Span, Self::Resource, Self::Event, Self::Link, Self::Instrumentation];

    /// The word before the dot.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Resource => "resource",
            Self::Event => "event",
            Self::Link => "link",
            Self::Instrumentation => "instrumentation",
        }
    }
}

/// An attribute as a query names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attribute {
    /// Its scope; `None` takes the first hit in the order of [`Scope::ALL`].
    pub scope: Option<Scope>,
    /// Its exact key.
    pub name: Arc<str>,
    /// Written with `parent.`, which parses but is not supported.
    pub parent: bool,
}

/// A built-in field of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the language's own; `Intrinsic::as_str` gives each")]
pub enum Intrinsic {
    Duration,
    Name,
    Status,
    StatusMessage,
    Kind,
    SpanId,
    ParentId,
    ChildCount,
    TraceDuration,
    RootName,
    RootServiceName,
    TraceId,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
    InstrumentationVersion,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    Parent,
}

/// What an expression can look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// An attribute.
    Attribute(Attribute),
    /// A built-in field.
    Intrinsic(Intrinsic),
}

/// An operator before its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `!`
    Not,
    /// `… != nil`
    Exists,
    /// `… = nil`
    Missing,
}

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`BinaryOp::as_str` gives each")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Regex,
    NotRegex,
    And,
    Or,
}

/// An expression over one span.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A literal.
    Literal(Value),
    /// A field.
    Field(Field),
    /// One operand.
    Unary(UnaryOp, Box<Expr>),
    /// Two operands.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
}

/// An operator between two spansets of one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpansetOp {
    /// `&&`
    And,
    /// `||`
    Or,
    /// A relation in the tree of spans.
    Structural {
        /// Which one.
        relation: Relation,
        /// `!`: spans of the right side for which it holds with none of the left.
        negated: bool,
        /// `&`: keep the left spans that take part as well.
        union: bool,
    },
}

/// A relation in the tree of spans, named by what the right span is to the left one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `>`
    Child,
    /// `>>`
    Descendant,
    /// `<`
    Parent,
    /// `<<`
    Ancestor,
    /// `~`
    Sibling,
}

/// An expression whose value is a spanset per trace.
#[derive(Debug, Clone, PartialEq)]
pub enum SpansetExpr {
    /// `{ … }`
    Filter(Expr),
    /// `( pipeline )` as an operand.
    Pipeline(Pipeline),
    /// Two spansets combined.
    Op(SpansetOp, Box<SpansetExpr>, Box<SpansetExpr>),
}

/// An aggregate over the spans of a spanset.
#[derive(Debug, Clone, PartialEq)]
pub enum Aggregate {
    /// `count()`
    Count,
    /// `min(e)`
    Min(Expr),
    /// `max(e)`
    Max(Expr),
    /// `sum(e)`
    Sum(Expr),
    /// `avg(e)`
    Avg(Expr),
}

/// A number per spanset, as a scalar filter compares.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// An aggregate.
    Aggregate(Aggregate),
    /// A number or duration.
    Literal(Value),
    /// Arithmetic: parses, is not supported.
    Op(BinaryOp, Box<Scalar>, Box<Scalar>),
    /// `({…} | count())`: parses, is not supported.
    Pipeline(Pipeline),
}

/// One stage of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Spansets: at the start they select, later only a filter stands here.
    Spansets(SpansetExpr),
    /// `aggregate op number`
    Scalar(BinaryOp, Scalar, Scalar),
    /// `by(e)`
    GroupBy(Expr),
    /// `coalesce()`
    Coalesce,
    /// `select(…)`
    Select(Vec<Field>),
}

/// Stages, first to last.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// At least one.
    pub stages: Vec<Stage>,
}

/// The function that turns spans into series.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsFunction {
    /// `rate()`
    Rate,
    /// `count_over_time()`
    CountOverTime,
    /// `min_over_time(field)`
    MinOverTime(Field),
    /// `max_over_time(field)`
    MaxOverTime(Field),
    /// `sum_over_time(field)`
    SumOverTime(Field),
    /// `avg_over_time(field)`
    AvgOverTime(Field),
    /// `histogram_over_time(field)`
    HistogramOverTime(Field),
    /// `quantile_over_time(field, q, …)`
    QuantileOverTime(Field, Vec<f64>),
    /// `compare({…}, n, start, end)`
    Compare {
        /// What makes a span part of the selection.
        selection: Expr,
        /// Values kept per attribute and side.
        top: i64,
        /// Selection only counts spans that start in (first, second], ns.
        window: Option<(i64, i64)>,
    },
}

/// A metrics stage.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsStage {
    /// The function.
    pub function: MetricsFunction,
    /// `by (…)`
    pub by: Vec<Field>,
}

/// A stage over series.
#[derive(Debug, Clone, PartialEq)]
pub enum SecondStage {
    /// `topk(n)`
    TopK(i64),
    /// `bottomk(n)`
    BottomK(i64),
    /// A comparison with a number or duration.
    Filter(BinaryOp, Value),
}

/// A checked query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What selects spans.
    pub pipeline: Pipeline,
    /// What counts them, if this is a metrics query.
    pub metrics: Option<MetricsStage>,
    /// What is done with the series.
    pub second: Vec<SecondStage>,
    /// `with(…)`: names and literals as written.
    pub hints: Vec<(String, Value)>,
}

impl Query {
    /// Whether the query has a metrics stage.
    pub fn is_metrics(&self) -> bool {
        self.metrics.is_some()
    }

    /// The hint `name`, if it is a truth value.
    pub fn hint_bool(&self, name: &str) -> Option<bool> {
        self.hints.iter().find_map(|(n, v)| match v {
            Value::Bool(b) if n == name => Some(*b),
            _ => None,
        })
    }

    /// The hint `name`, if it is a whole number.
    pub fn hint_int(&self, name: &str) -> Option<i64> {
        self.hints.iter().find_map(|(n, v)| match v {
            Value::Int(i) if n == name => Some(*i),
            _ => None,
        })
    }
}

impl Intrinsic {
    /// The canonical text: the unscoped form where there is one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Name => "name",
            Self::Status => "status",
            Self::StatusMessage => "statusMessage",
            Self::Kind => "kind",
            Self::SpanId => "span:id",
            Self::ParentId => "span:parentID",
            Self::ChildCount => "span:childCount",
            Self::TraceDuration => "traceDuration",
            Self::RootName => "rootName",
            Self::RootServiceName => "rootServiceName",
            Self::TraceId => "trace:id",
            Self::EventName => "event:name",
            Self::EventTimeSinceStart => "event:timeSinceStart",
            Self::LinkTraceId => "link:traceID",
            Self::LinkSpanId => "link:spanID",
            Self::InstrumentationName => "instrumentation:name",
            Self::InstrumentationVersion => "instrumentation:version",
            Self::NestedSetLeft => "nestedSetLeft",
            Self::NestedSetRight => "nestedSetRight",
            Self::NestedSetParent => "nestedSetParent",
            Self::Parent => "parent",
        }
    }

    /// The intrinsic an unscoped word names.
    pub fn unscoped(word: &str) -> Option<Self> {
        Some(match word {
            "duration" => Self::Duration,
            "name" => Self::Name,
            "status" => Self::Status,
            "statusMessage" => Self::StatusMessage,
            "kind" => Self::Kind,
            "traceDuration" => Self::TraceDuration,
            "rootName" => Self::RootName,
            "rootServiceName" => Self::RootServiceName,
            "nestedSetLeft" => Self::NestedSetLeft,
            "nestedSetRight" => Self::NestedSetRight,
            "nestedSetParent" => Self::NestedSetParent,
            "parent" => Self::Parent,
            _ => return None,
        })
    }

    /// The intrinsic that `scope:word` names.
    pub fn scoped(scope: &str, word: &str) -> Option<Self> {
        Some(match (scope, word) {
            ("span", "duration") => Self::Duration,
            ("span", "name") => Self::Name,
            ("span", "status") => Self::Status,
            ("span", "statusMessage") => Self::StatusMessage,
            ("span", "kind") => Self::Kind,
            ("span", "id") => Self::SpanId,
            ("span", "parentID") => Self::ParentId,
            ("span", "childCount") => Self::ChildCount,
            ("trace", "duration") => Self::TraceDuration,
            ("trace", "rootName") => Self::RootName,
            ("trace", "rootService") => Self::RootServiceName,
            ("trace", "id") => Self::TraceId,
            ("event", "name") => Self::EventName,
            ("event", "timeSinceStart") => Self::EventTimeSinceStart,
            ("link", "traceID") => Self::LinkTraceId,
            ("link", "spanID") => Self::LinkSpanId,
            ("instrumentation", "name") => Self::InstrumentationName,
            ("instrumentation", "version") => Self::InstrumentationVersion,
            _ => return None,
        })
    }

    /// Whether each event has its own value.
    pub fn is_event(self) -> bool {
        matches!(self, Self::EventName | Self::EventTimeSinceStart)
    }

    /// Whether each link has its own value.
    pub fn is_link(self) -> bool {
        matches!(self, Self::LinkTraceId | Self::LinkSpanId)
    }
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
            Self::And => "&&",
            Self::Or => "||",
        }
    }

    /// Whether the result is a number.
    pub fn is_arithmetic(self) -> bool {
        matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Mod | Self::Pow)
    }

    /// Whether both sides are truth values.
    pub fn is_logical(self) -> bool {
        matches!(self, Self::And | Self::Or)
    }

    /// Whether this is a comparison (regular expressions included).
    pub fn is_comparison(self) -> bool {
        !self.is_arithmetic() && !self.is_logical()
    }

    /// The comparison with its sides swapped.
    pub fn flipped(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            other => other,
        }
    }
}

impl Expr {
    /// Calls `each` with every field of the expression, in the order written.
    pub fn fields<'a>(&'a self, each: &mut dyn FnMut(&'a Field)) {
        match self {
            Self::Literal(_) => {}
            Self::Field(field) => each(field),
            Self::Unary(_, e) => e.fields(each),
            Self::Binary(_, a, b) => {
                a.fields(each);
                b.fields(each);
            }
        }
    }
}

//! The canonical text of a query.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::ast::*;

/// Longer queries are broken into lines.
const MAX_WIDTH: usize = 100;

/// The text as `format_query` answers it: one line if it fits 100 characters, else broken and indented by two blanks.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    match expr {
        Expr::Log(log) => pretty_log(log, 0, &mut out),
        Expr::Metric(metric) => pretty_metric(metric, 0, &mut out),
    }
    out
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// Writes `text` if it fits behind the indentation.
fn fits(text: &impl Display, level: usize, out: &mut String) -> bool {
    let text = text.to_string();
    let short = text.chars().count() + 2 * level <= MAX_WIDTH;
    if short {
        indent(level, out);
        out.push_str(&text);
    }
    short
}

fn pretty_log(log: &LogExpr, level: usize, out: &mut String) {
    if fits(log, level, out) {
        return;
    }
    indent(level, out);
    let _ = write!(out, "{}", Selector(log));
    for stage in &log.stages {
        out.push('\n');
        indent(level + 1, out);
        let _ = write!(out, "{stage}");
    }
}

fn pretty_metric(metric: &MetricExpr, level: usize, out: &mut String) {
    if fits(metric, level, out) {
        return;
    }
    match metric {
        MetricExpr::Range(range) => {
            indent(level, out);
            let _ = writeln!(out, "{}(", range.op.as_str());
            if let Some(parameter) = range.parameter {
                indent(level + 1, out);
                let _ = writeln!(out, "{},", Number(parameter));
            }
            pretty_log(&range.log, level + 1, out);
            if let Some(unwrap) = &range.unwrap {
                out.push('\n');
                indent(level + 2, out);
                let _ = write!(out, "{unwrap}");
            }
            let _ = write!(out, " {}", RangeSuffix(range));
            out.push('\n');
            indent(level, out);
            out.push(')');
            if let Some(grouping) = &range.grouping {
                let _ = write!(out, " {grouping}");
            }
        }
        MetricExpr::Vector(vector) => {
            indent(level, out);
            out.push_str(vector.op.as_str());
            if let Some(grouping) = &vector.grouping {
                let _ = write!(out, " {grouping}");
            }
            out.push_str("(\n");
            if let Some(parameter) = vector.parameter {
                indent(level + 1, out);
                let _ = writeln!(out, "{parameter},");
            }
            pretty_metric(&vector.inner, level + 1, out);
            out.push('\n');
            indent(level, out);
            out.push(')');
        }
        MetricExpr::Binary(binary) => {
            pretty_leg(&binary.left, binary.op, false, level, out);
            out.push('\n');
            indent(level, out);
            let _ = writeln!(out, "{}", Operator(binary));
            pretty_leg(&binary.right, binary.op, true, level, out);
        }
        MetricExpr::LabelReplace(replace) => {
            indent(level, out);
            out.push_str("label_replace(\n");
            pretty_metric(&replace.inner, level + 1, out);
            for text in [&replace.dst, &replace.replacement, &replace.src, &replace.regex] {
                out.push_str(",\n");
                indent(level + 1, out);
                out.push_str(&model::quote(text));
            }
            out.push('\n');
            indent(level, out);
            out.push(')');
        }
        MetricExpr::Number(_) | MetricExpr::VectorOf(_) | MetricExpr::Variants { .. } => {
            indent(level, out);
            let _ = write!(out, "{metric}");
        }
    }
}

fn pretty_leg(leg: &MetricExpr, op: BinaryOp, right: bool, level: usize, out: &mut String) {
    if needs_parentheses(leg, op, right) {
        indent(level, out);
        out.push_str("(\n");
        pretty_metric(leg, level + 1, out);
        out.push('\n');
        indent(level, out);
        out.push(')');
    } else {
        pretty_metric(leg, level + 1, out);
    }
}

fn needs_parentheses(leg: &MetricExpr, op: BinaryOp, right: bool) -> bool {
    let MetricExpr::Binary(inner) = leg else { return false };
    let right_associative = op == BinaryOp::Pow;
    inner.op.precedence() < op.precedence() || inner.op.precedence() == op.precedence() && right != right_associative
}

fn list<T: Display>(items: impl IntoIterator<Item = T>, f: &mut Formatter<'_>) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

struct Selector<'a>(&'a LogExpr);

impl Display for Selector<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        list(&self.0.matchers, f)?;
        f.write_str("}")
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Selector(self).fmt(f)?;
        self.stages.iter().try_for_each(|stage| write!(f, " {stage}"))
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = model::quote;
        match self {
            Self::LineFilter(filter) => filter.fmt(f),
            Self::Json(extractions) => {
                f.write_str("| json")?;
                extracted(extractions, f)
            }
            Self::Logfmt { strict, keep_empty, extractions } => {
                f.write_str("| logfmt")?;
                f.write_str(if *strict { " --strict" } else { "" })?;
                f.write_str(if *keep_empty { " --keep-empty" } else { "" })?;
                extracted(extractions, f)
            }
            Self::Regexp(pattern) => write!(f, "| regexp {}", text(pattern)),
            Self::Pattern(pattern) => write!(f, "| pattern {}", text(pattern)),
            Self::Unpack => f.write_str("| unpack"),
            Self::LabelFilter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", text(template)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                list(formats, f)
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(selections) => {
                f.write_str("| drop ")?;
                list(selections, f)
            }
            Self::Keep(selections) => {
                f.write_str("| keep ")?;
                list(selections, f)
            }
        }
    }
}

fn extracted(extractions: &[Extraction], f: &mut Formatter<'_>) -> fmt::Result {
    if extractions.is_empty() {
        return Ok(());
    }
    f.write_str(" ")?;
    list(extractions, f)
}

impl Display for Extraction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.label, model::quote(&self.expression))
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        for (i, operand) in self.operands.iter().enumerate() {
            f.write_str(if i > 0 { " or " } else { " " })?;
            match operand {
                LineOperand::Text(text) => f.write_str(&model::quote(text))?,
                LineOperand::Ip(pattern) => write!(f, "ip({})", model::quote(pattern))?,
            }
        }
        Ok(())
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(matcher) => matcher.fmt(f),
            Self::Compare { name, op, value } => write!(f, "{name}{}{value}", op.as_str()),
            Self::Ip { name, negated, pattern } => {
                write!(f, "{name}{}ip({})", if *negated { "!=" } else { "=" }, model::quote(pattern))
            }
            Self::And(a, b) => write!(f, "({a} and {b})"),
            Self::Or(a, b) => write!(f, "({a} or {b})"),
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => write!(f, "{value}"),
            Self::Duration(nanos) => f.write_str(&model::duration::format_go(*nanos)),
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
        }
    }
}

impl Display for LabelFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.source {
            FormatSource::Label(name) => write!(f, "{}={name}", self.label),
            FormatSource::Template(text) => write!(f, "{}={}", self.label, model::quote(text)),
        }
    }
}

impl Display for LabelSelection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Match(matcher) => matcher.fmt(f),
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.conversion {
            Conversion::Number => write!(f, "| unwrap {}", self.label)?,
            conversion => write!(f, "| unwrap {}({})", conversion.as_str(), self.label)?,
        }
        self.filters.iter().try_for_each(|filter| write!(f, " | {filter}"))
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.without { "without (" } else { "by (" })?;
        list(&self.labels, f)?;
        f.write_str(")")
    }
}

/// A number as a literal; numbers that have none are written as an operation that gives them.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v.is_nan() => f.write_str("(0 / 0)"),
            f64::INFINITY => f.write_str("(10 ^ 1000)"),
            f64::NEG_INFINITY => f.write_str("(-10 ^ 1001)"),
            v => write!(f, "{v}"),
        }
    }
}

/// The range and the offset.
struct RangeSuffix<'a>(&'a RangeAggregation);

impl Display for RangeSuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (range, offset) = (self.0.range, self.0.offset);
        write!(f, "[{}]", model::duration::format_prometheus(range))?;
        match offset {
            0 => Ok(()),
            o if o > 0 && o % 1_000_000 == 0 => write!(f, " offset {}", model::duration::format_prometheus(o)),
            o => write!(f, " offset {}", model::duration::format_go(o)),
        }
    }
}

/// The operator of a binary operation with its modifiers.
struct Operator<'a>(&'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        f.write_str(if self.0.bool_modifier { " bool" } else { "" })?;
        let Some(matching) = &self.0.matching else { return Ok(()) };
        f.write_str(if matching.on { " on (" } else { " ignoring (" })?;
        list(&matching.labels, f)?;
        f.write_str(")")?;
        let Some(group) = &matching.group else { return Ok(()) };
        f.write_str(if group.left { " group_left (" } else { " group_right (" })?;
        list(&group.include, f)?;
        f.write_str(")")
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Vector(vector) => vector.fmt(f),
            Self::Binary(binary) => {
                let leg = |leg: &Self, right: bool, f: &mut Formatter<'_>| {
                    if needs_parentheses(leg, binary.op, right) { write!(f, "({leg})") } else { leg.fmt(f) }
                };
                leg(&binary.left, false, f)?;
                write!(f, " {} ", Operator(binary))?;
                leg(&binary.right, true, f)
            }
            Self::Number(value) => Number(*value).fmt(f),
            Self::VectorOf(value) => write!(f, "vector({value})"),
            Self::LabelReplace(replace) => {
                write!(f, "label_replace({}", replace.inner)?;
                for text in [&replace.dst, &replace.replacement, &replace.src, &replace.regex] {
                    write!(f, ", {}", model::quote(text))?;
                }
                f.write_str(")")
            }
            Self::Variants { metrics, of, range } => {
                f.write_str("variants(")?;
                list(metrics, f)?;
                write!(f, ") of ({of}[{}])", model::duration::format_prometheus(*range))
            }
        }
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(parameter) = self.parameter {
            write!(f, "{parameter}, ")?;
        }
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "{})", RangeSuffix(self))?;
        self.grouping.iter().try_for_each(|grouping| write!(f, " {grouping}"))
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        self.grouping.iter().try_for_each(|grouping| write!(f, " {grouping}"))?;
        f.write_str("(")?;
        if let Some(parameter) = self.parameter {
            write!(f, "{parameter}, ")?;
        }
        write!(f, "{})", self.inner)
    }
}

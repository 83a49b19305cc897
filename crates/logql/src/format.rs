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
    inner.op.precedence() < op.precedence()
        || inner.op.precedence() == op.precedence() && right != right_associative
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
            // `and` binds tighter, and both group to the left.
            Self::And(a, b) => {
                let leg = |leg: &Self, grouped: bool, f: &mut Formatter<'_>| {
                    if grouped { write!(f, "({leg})") } else { leg.fmt(f) }
                };
                leg(a, matches!(**a, Self::Or(..)), f)?;
                f.write_str(" and ")?;
                leg(b, matches!(**b, Self::Or(..) | Self::And(..)), f)
            }
            Self::Or(a, b) if matches!(**b, Self::Or(..)) => write!(f, "{a} or ({b})"),
            Self::Or(a, b) => write!(f, "{a} or {b}"),
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
            o if o > 0 && o % 1_000_000 == 0 => {
                write!(f, " offset {}", model::duration::format_prometheus(o))
            }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::strategy::ValueTree as _;

    use super::*;
    use crate::parse;

    #[test]
    fn canonical_texts() {
        let check = |query: &str, want: &str| assert_eq!(pretty(&parse(query).unwrap()), want);
        check(
            r#"sum by(service)(rate({job="docker"}|json|level="error"[5m]))"#,
            r#"sum by (service)(rate({job="docker"} | json | level="error"[5m]))"#,
        );
        check("1 + 2 * 3", "7");
        check(r#"(vector(1) + vector(2)) * vector(3)"#, "(vector(1) + vector(2)) * vector(3)");
        check("vector(2) ^ vector(3) ^ vector(2)", "vector(2) ^ vector(3) ^ vector(2)");
        check(r#"{a="b"} | x=1, y>2s or z<=3KiB"#, r#"{a="b"} | x==1 and (y>2s or z<=3072B)"#);
        check(
            r#"topk(3, sum by (service, namespace) (rate({job="docker", cluster="production"} |= "error" | json | level="error" [5m]))) / 2"#,
            "  topk(\n    3,\n    sum by (service, namespace)(\n      rate({job=\"docker\", cluster=\"production\"} |= \"error\" | json | level=\"error\"[5m])\n    )\n  )\n/\n  2",
        );
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-c][a-z_0-9]{0,2}".prop_filter("reserved", |n| !matches!(n.as_str(), "by" | "and"))
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z .*]{0,5}", any::<String>()].prop_map(|t| model::quote(&t))
    }

    fn matcher() -> impl Strategy<Value = String> {
        (name(), select(&["=", "!=", "=~", "!~"][..]), "[a-z|.]{0,4}")
            .prop_map(|(n, op, v)| format!("{n}{op}\"{v}\""))
    }

    fn filter() -> impl Strategy<Value = String> {
        let comparison = (
            name(),
            select(&["=", "==", "!=", ">", "<="][..]),
            select(&["1", "-2.5", "3m", "1.5s", "7KB", "1MiB"][..]),
        );
        let leaf = prop_oneof![
            matcher(),
            comparison.prop_map(|(n, op, v)| format!("{n} {op} {v}")),
            name().prop_map(|n| format!("{n}=ip(\"10.0.0.0/8\")")),
        ];
        leaf.prop_recursive(3, 8, 2, |inner| {
            (inner.clone(), select(&[" and ", " or ", ", ", " "][..]), inner, any::<bool>()).prop_map(
                |(a, op, b, group)| if group { format!("({a}{op}{b})") } else { format!("{a}{op}{b}") },
            )
        })
    }

    /// `name` alone, or with a text.
    fn extractions() -> impl Strategy<Value = String> {
        let path = select(&["a.b[0].c", "[\"odd key\"].x", "a", "_x[12]"][..]).prop_map(model::quote);
        let one = (name(), proptest::option::of(path))
            .prop_map(|(n, path)| path.map_or(n.clone(), |path| format!("{n}={path}")));
        proptest::collection::vec(one, 0..3).prop_map(|all| all.join(", "))
    }

    fn selections() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![name(), matcher()], 1..4).prop_map(|all| all.join(", "))
    }

    fn line_filter() -> impl Strategy<Value = String> {
        let ip = select(&["ip(\"10.0.0.0/8\")", "ip(\"::1\")", "ip(\"1.2.3.4-1.2.3.9\")"][..])
            .prop_map(str::to_owned);
        let operands = |operand: BoxedStrategy<String>| {
            proptest::collection::vec(operand, 1..4).prop_map(|all| all.join(" or "))
        };
        let any = operands(prop_oneof![4 => text(), 1 => ip].boxed());
        let tail = select(&["", r"\d+", "(?i)x", "[\"`]", r"\\", "é"][..]);
        let regex = ("[a-c.]{0,4}", tail).prop_map(|(head, tail)| model::quote(&format!("{head}{tail}")));
        let regexes = operands(regex.boxed());
        let patterns = operands("[ab\"\\\\]{1,3}(<_>[ab ]{1,2}){0,2}".prop_map(|t| model::quote(&t)).boxed());
        prop_oneof![
            (select(&["|=", "!="][..]), any).prop_map(|(op, all)| format!("{op} {all}")),
            (select(&["|~", "!~"][..]), regexes).prop_map(|(op, all)| format!("{op} {all}")),
            (select(&["|>", "!>"][..]), patterns).prop_map(|(op, all)| format!("{op} {all}")),
        ]
    }

    fn assignments() -> impl Strategy<Value = String> {
        let source = prop_oneof![name(), template()];
        proptest::collection::btree_map(name(), source, 1..3)
            .prop_map(|all| all.into_iter().map(|(n, s)| format!("{n}={s}")).collect::<Vec<_>>().join(", "))
    }

    fn template() -> impl Strategy<Value = String> {
        let parts = select(
            &[
                "{{.a}}",
                "{{ ToUpper .b | printf \"%q\" }}",
                "{{if eq .c `x`}}y{{else}}z{{end}}",
                "text ",
                "\"",
                "\\",
                "\n",
                "é",
            ][..],
        );
        proptest::collection::vec(parts, 0..4).prop_map(|parts| model::quote(&parts.concat()))
    }

    fn stage() -> impl Strategy<Value = String> {
        let flags = select(&["", " --strict", " --keep-empty", " --strict --keep-empty"][..]);
        let captures = "[a-c ]{0,2}(<x>| <_> <y>)[ .\"]{0,2}".prop_map(|t| model::quote(&t));
        let expression = "[a-c.\"]{1,3}".prop_map(|t| model::quote(&format!(r"{t}(?P<x>\d+)")));
        prop_oneof![
            line_filter(),
            extractions().prop_map(|e| format!("| json {e}")),
            (flags, extractions()).prop_map(|(f, e)| format!("| logfmt{f} {e}")),
            Just("| unpack".to_owned()),
            Just("| decolorize".to_owned()),
            captures.prop_map(|c| format!("| pattern {c}")),
            expression.prop_map(|e| format!("| regexp {e}")),
            (select(&["drop", "keep"][..]), selections()).prop_map(|(op, all)| format!("| {op} {all}")),
            template().prop_map(|t| format!("| line_format {t}")),
            assignments().prop_map(|all| format!("| label_format {all}")),
            filter().prop_map(|f| format!("| {f}")),
        ]
    }

    fn log() -> impl Strategy<Value = String> {
        (matcher(), proptest::collection::vec(stage(), 0..4), any::<bool>()).prop_map(|(m, s, group)| {
            let query = format!("{{x=\"y\", {m}}} {}", s.join(" "));
            if group { format!("({query})") } else { query }
        })
    }

    /// Selector, pipeline, unwrap, range and offset, in all orders.
    fn ranged(unwrap: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let range =
            select(&["[5m]", "[1h30m]", "[90s] offset -1m", "[1ms] offset 1.5s", "[1d] offset 1w"][..]);
        (matcher(), proptest::collection::vec(stage(), 0..3), unwrap, range, 0..3u8).prop_map(
            |(m, s, u, r, order)| {
                let (selector, stages) = (format!("{{x=\"y\", {m}}}"), s.join(" "));
                match order {
                    0 => format!("{selector} {stages} {u} {r}"),
                    1 => format!("{selector} {r} {stages} {u}"),
                    _ => format!("({selector} {stages} {u}) {r}"),
                }
            },
        )
    }

    fn metric() -> impl Strategy<Value = String> {
        let grouping = || select(&["", " by (a)", " without (a, b)", " by ()", " without ()"][..]);
        let unwrap = || {
            let label = select(&["z", "bytes(z)", "duration(z)", "duration_seconds(z)"][..]);
            (label, proptest::option::of(filter()))
                .prop_map(|(l, f)| f.map_or(format!("| unwrap {l}"), |f| format!("| unwrap {l} | {f}")))
        };
        let counts = &["rate", "count_over_time", "bytes_over_time", "bytes_rate", "absent_over_time"][..];
        let plain = &["rate", "rate_counter", "sum_over_time", "absent_over_time"][..];
        let grouped = &[
            "avg_over_time",
            "min_over_time",
            "max_over_time",
            "stddev_over_time",
            "stdvar_over_time",
            "first_over_time",
            "last_over_time",
        ][..];
        let leaf = prop_oneof![
            (select(counts), ranged(Just(String::new()))).prop_map(|(op, r)| format!("{op}({r})")),
            (select(plain), ranged(unwrap())).prop_map(|(op, r)| format!("{op}({r})")),
            (select(grouped), ranged(unwrap()), grouping()).prop_map(|(op, r, g)| format!("{op}({r}){g}")),
            (select(&["0.5", "1", "0", "99e-2"][..]), ranged(unwrap()), grouping())
                .prop_map(|(q, r, g)| format!("quantile_over_time({q}, {r}){g}")),
            select(&["vector(2.5)", "3", "-1e9", "vector(0)", "+.5"][..]).prop_map(str::to_owned),
        ];
        leaf.prop_recursive(4, 12, 2, move |inner| {
            let op = select(
                &[
                    "+",
                    "-",
                    "*",
                    "/",
                    "%",
                    "^",
                    "==",
                    "!= bool",
                    ">= bool",
                    "<",
                    "> bool ignoring (a)",
                    "and",
                    "or",
                    "unless",
                    "and on (a, b)",
                    "or ignoring ()",
                    "/ on (a) group_left (b)",
                    "* ignoring () group_right ()",
                    "- on () group_left",
                ][..],
            );
            let vector = select(&["sum", "avg", "min", "max", "count", "stddev", "stdvar"][..]);
            prop_oneof![
                (vector, inner.clone(), grouping(), any::<bool>()).prop_map(
                    |(op, i, g, before)| match before {
                        true => format!("{op}{g} ({i})"),
                        false => format!("{op}({i}){g}"),
                    }
                ),
                (select(&["topk", "bottomk"][..]), inner.clone(), grouping())
                    .prop_map(|(op, i, g)| format!("{op}(2, {i}){g}")),
                (select(&["sort", "sort_desc"][..]), inner.clone()).prop_map(|(op, i)| format!("{op}({i})")),
                (inner.clone(), text())
                    .prop_map(|(i, t)| format!("label_replace({i}, \"a\", {t}, \"b\", \"(.*)\")")),
                (inner.clone(), op, inner, any::<bool>()).prop_map(|(a, op, b, group)| if group {
                    format!("({a} {op} {b})")
                } else {
                    format!("{a} {op} {b}")
                }),
            ]
        })
    }

    /// How many of a strategy's queries parse, of 400: those that do not test nothing.
    fn parsing(queries: impl Strategy<Value = String>) -> usize {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut next = || queries.new_tree(&mut runner).expect("a query").current();
        (0..400).filter(|_| parse(&next()).is_ok()).count()
    }

    #[test]
    fn most_queries_are_queries() {
        let (logs, metrics) = (parsing(log()), parsing(metric()));
        assert!(logs > 300 && metrics > 300, "{logs} and {metrics} of 400 parse");
    }

    fn comes_back(query: &str) {
        let Ok(expr) = parse(query) else { return };
        // `0/0` is not equal to itself as a tree, but as a text.
        for text in [expr.to_string(), pretty(&expr)] {
            let again = parse(&text).unwrap_or_else(|e| panic!("{query}\n{text}\n{e}"));
            assert_eq!(format!("{again:?}"), format!("{expr:?}"), "{query}\n{text}");
        }
    }

    proptest! {
        #[test]
        fn log_queries_come_back(query in log()) {
            comes_back(&query);
        }

        #[test]
        fn metric_queries_come_back(query in metric()) {
            comes_back(&query);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("{{a=\"b\"}} {text}"));
            let _ = parse(&format!("rate({{a=\"b\"}} | {text} [1m])"));
        }
    }
}

//! Label filters, evaluated on rows.

use model::{MatchOp, Matcher};

use super::StageError;
use super::ip::IpSet;
use crate::ast::{self, CompareOp, Literal};
use crate::names::{NameId, Names, PRESERVE_ERROR};
use crate::needs::Equality;
use crate::row::Row;

/// A compiled label filter.
#[derive(Debug, Clone)]
pub(crate) enum LabelFilter {
    Match(NameId, Matcher),
    Compare(NameId, CompareOp, Literal),
    Ip { name: NameId, negated: bool, set: IpSet },
    And(Box<LabelFilter>, Box<LabelFilter>),
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

impl LabelFilter {
    pub(crate) fn compile(filter: &ast::LabelFilter, names: &mut Names) -> Result<Self, StageError> {
        Ok(match filter {
            ast::LabelFilter::Match(matcher) => Self::Match(names.id(matcher.name()), matcher.clone()),
            ast::LabelFilter::Compare { name, op, value } => {
                Self::Compare(names.id(name), *op, value.clone())
            }
            ast::LabelFilter::Ip { name, negated, pattern } => {
                let invalid = || StageError::Stage(format!("ip: invalid pattern: {}", model::quote(pattern)));
                Self::Ip {
                    name: names.id(name),
                    negated: *negated,
                    set: IpSet::parse(pattern).ok_or_else(invalid)?,
                }
            }
            ast::LabelFilter::And(a, b) => {
                Self::And(Box::new(Self::compile(a, names)?), Box::new(Self::compile(b, names)?))
            }
            ast::LabelFilter::Or(a, b) => {
                Self::Or(Box::new(Self::compile(a, names)?), Box::new(Self::compile(b, names)?))
            }
        })
    }

    /// The labels looked at.
    pub(crate) fn names(&self, out: &mut Vec<NameId>) {
        match self {
            Self::Match(name, _) | Self::Compare(name, ..) | Self::Ip { name, .. } => out.push(*name),
            Self::And(a, b) | Self::Or(a, b) => {
                a.names(out);
                b.names(out);
            }
        }
    }

    /// The equalities that every passing row satisfies; `parsed` says that labels may come out of the line.
    pub(crate) fn equalities(&self, names: &Names, parsed: bool, out: &mut Vec<Equality>) {
        match self {
            Self::Match(name, matcher)
                if matcher.op() == MatchOp::Equal
                    && !matcher.value().is_empty()
                    && *name > PRESERVE_ERROR =>
            {
                // Metadata may be renamed to this.
                if names.text(*name).ends_with("_extracted") {
                    return;
                }
                let value = matcher.value().to_owned();
                // What a parser may have changed on the way from the line: escapes, and U+FFFD that became a space.
                let certain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '/');
                let pieces = value.split(|c| !certain(c)).filter(|piece| !piece.is_empty());
                let line = parsed.then(|| pieces.map(str::to_owned).collect());
                out.push(Equality { label: names.text(*name).clone(), value, line });
            }
            Self::And(a, b) => {
                a.equalities(names, parsed, out);
                b.equalities(names, parsed, out);
            }
            Self::Match(..) | Self::Compare(..) | Self::Ip { .. } | Self::Or(..) => {}
        }
    }

    /// Whether an earlier error lets rows pass.
    pub(crate) fn depends_on_errors(&self) -> bool {
        match self {
            Self::Match(name, _) | Self::Compare(name, ..) => *name <= PRESERVE_ERROR,
            Self::Ip { .. } => true,
            Self::And(a, b) | Self::Or(a, b) => a.depends_on_errors() || b.depends_on_errors(),
        }
    }

    /// Whether the row passes. A value that cannot be converted passes with an error.
    pub(crate) fn passes(&self, row: &mut Row<'_, '_>) -> bool {
        match self {
            Self::Ip { .. } if row.has_error() => true,
            Self::Match(name, _) | Self::Compare(name, ..) | Self::Ip { name, .. } => {
                match self.test(row.get(*name)) {
                    Verdict::Pass => true,
                    Verdict::Drop => false,
                    Verdict::Fails(details) => {
                        row.fail("LabelFilterErr", Some(&details));
                        true
                    }
                }
            }
            Self::And(a, b) => {
                let left = a.passes(row);
                let right = b.passes(row);
                left && right
            }
            Self::Or(a, b) => a.passes(row) || b.passes(row),
        }
    }

    /// What a single condition says of the value of its label.
    pub(crate) fn test(&self, value: Option<&str>) -> Verdict {
        let passes = match (self, value) {
            (Self::Match(_, matcher), value) => matcher.matches(value.unwrap_or_default()),
            (Self::Compare(_, op, literal), Some(value)) => match compare(value, *op, literal) {
                Ok(passes) => passes,
                Err(details) => return Verdict::Fails(details),
            },
            (Self::Ip { negated, set, .. }, Some(value)) => set.occurs_in(value) != *negated,
            (Self::Compare(..) | Self::Ip { .. } | Self::And(..) | Self::Or(..), _) => false,
        };
        if passes { Verdict::Pass } else { Verdict::Drop }
    }
}

/// What a condition says of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    /// The value cannot be converted, for this reason; the entry passes with an error.
    Fails(String),
}

fn compare(value: &str, op: CompareOp, literal: &Literal) -> Result<bool, String> {
    Ok(match literal {
        Literal::Number(right) => op.holds(parse_float(value)?, *right),
        Literal::Duration(right) => {
            op.holds(model::duration::parse_go(value).map_err(|e| e.to_string())?, *right)
        }
        Literal::Bytes(right) => op.holds(parse_bytes(value)?, *right),
    })
}

/// A float as Go reads it.
pub(crate) fn parse_float(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("strconv.ParseFloat: parsing {}: invalid syntax", model::quote(text)))
}

/// A size as people write it; complaints are worded as Loki's are.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    model::size::parse_humanized(text).map_err(|_| {
        let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ','))).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        match parse_float(&number.replace(',', "")) {
            Err(details) => details,
            Ok(_) => format!("unhandled size name: {}", unit.trim().to_lowercase()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        let literal = Literal::Bytes(2000);
        assert_eq!(compare("2 kb", CompareOp::Equal, &literal), Ok(true));
        assert_eq!(
            compare("oops", CompareOp::Equal, &literal),
            Err("strconv.ParseFloat: parsing \"\": invalid syntax".into())
        );
        assert_eq!(compare("2xy", CompareOp::Equal, &literal), Err("unhandled size name: xy".into()));
        assert_eq!(compare("90s", CompareOp::Greater, &Literal::Duration(60_000_000_000)), Ok(true));
        assert!(compare("1d", CompareOp::Greater, &Literal::Duration(1)).is_err());
        assert_eq!(compare("5.0", CompareOp::Equal, &Literal::Number(5.0)), Ok(true));
    }
}

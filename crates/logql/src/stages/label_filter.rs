//! Label filters, evaluated on rows.

use model::Matcher;

use super::StageError;
use super::ip::IpSet;
use crate::ast::{self, CompareOp, Literal};
use crate::names::{NameId, Names, PRESERVE_ERROR};
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
            Self::Match(name, matcher) => matcher.matches(row.get(*name).unwrap_or_default()),
            Self::Compare(name, op, literal) => {
                let Some(value) = row.get(*name) else { return false };
                match compare(value, *op, literal) {
                    Ok(passes) => passes,
                    Err(details) => {
                        row.fail("LabelFilterErr", Some(&details));
                        true
                    }
                }
            }
            Self::Ip { name, negated, set } => {
                if row.has_error() {
                    return true;
                }
                row.get(*name).is_some_and(|value| set.occurs_in(value) != *negated)
            }
            Self::And(a, b) => {
                let left = a.passes(row);
                let right = b.passes(row);
                left && right
            }
            Self::Or(a, b) => a.passes(row) || b.passes(row),
        }
    }
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

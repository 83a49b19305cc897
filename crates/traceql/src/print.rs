//! Canonical printing: label keys, attribute keys of spansets, error texts.

use std::fmt;

use crate::ast::{Aggregate, Attribute, Expr, Field, UnaryOp};
use crate::parser::ends_name;

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parent {
            f.write_str("parent")?;
            if self.scope.is_some() {
                f.write_str(".")?;
            }
        }
        f.write_str(self.scope.map_or("", |s| s.as_str()))?;
        f.write_str(".")?;
        if self.name.chars().any(|c| ends_name(c) || c == '"') {
            write!(f, "\"{}\"", self.name.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            f.write_str(&self.name)
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(a) => a.fmt(f),
            Self::Intrinsic(i) => f.write_str(i.as_str()),
        }
    }
}

impl Field {
    /// The name under which a search answer shows the field: attributes without their scope.
    pub fn bare_name(&self) -> &str {
        match self {
            Self::Attribute(a) => &a.name,
            Self::Intrinsic(i) => i.as_str(),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(value) => value.fmt(f),
            Self::Field(field) => field.fmt(f),
            Self::Unary(UnaryOp::Neg, e) => write!(f, "-{}", Operand(e)),
            Self::Unary(UnaryOp::Not, e) => write!(f, "!{}", Operand(e)),
            Self::Unary(UnaryOp::Exists, e) => write!(f, "{} != nil", Operand(e)),
            Self::Unary(UnaryOp::Missing, e) => write!(f, "{} = nil", Operand(e)),
            Self::Binary(op, left, right) => {
                write!(f, "{} {} {}", Operand(left), op.as_str(), Operand(right))
            }
        }
    }
}

/// An operand, in parentheses if it is an operation itself.
struct Operand<'a>(&'a Expr);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expr::Literal(_) | Expr::Field(_) | Expr::Unary(UnaryOp::Neg | UnaryOp::Not, _) => self.0.fmt(f),
            operation => write!(f, "({operation})"),
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count()"),
            Self::Min(e) => write!(f, "min({e})"),
            Self::Max(e) => write!(f, "max({e})"),
            Self::Sum(e) => write!(f, "sum({e})"),
            Self::Avg(e) => write!(f, "avg({e})"),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_print_as_label_keys() {
        for (text, expect) in [
            ("resource.service.name", "resource.service.name"),
            (".foo", ".foo"),
            ("span.\"key with space\"", "span.\"key with space\""),
            ("span.\"a\".b", "span.a.b"),
            ("span:name", "name"),
            ("trace:rootService", "rootServiceName"),
            ("span:childCount", "span:childCount"),
        ] {
            assert_eq!(crate::parse_field(text).map(|f| f.to_string()), Ok(expect.to_owned()));
        }
    }
}

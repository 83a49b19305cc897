//! Expressions over one span: everything inside braces, and the operands of stages.

use super::Parser;
use super::lexer::Tok;
use crate::ast::{BinaryOp, Expr, Field, Intrinsic, UnaryOp};
use crate::error::ParseError;
use crate::value::{Kind, Status, Value};

impl Parser<'_> {
    /// `&&` and `||`: one level, left to right.
    pub(super) fn expr(&mut self) -> Result<Expr, ParseError> {
        self.nested(|p| {
            let mut left = p.comparison()?;
            while let Some(op) = p.operator(&[("&&", BinaryOp::And), ("||", BinaryOp::Or)])? {
                let right = p.comparison()?;
                left = binary(op, left, right);
            }
            Ok(left)
        })
    }

    fn comparison(&mut self) -> Result<Expr, ParseError> {
        const OPS: [(&str, BinaryOp); 8] = [
            ("=", BinaryOp::Eq),
            ("!=", BinaryOp::Ne),
            ("<=", BinaryOp::Le),
            ("<", BinaryOp::Lt),
            (">=", BinaryOp::Ge),
            (">", BinaryOp::Gt),
            ("=~", BinaryOp::Regex),
            ("!~", BinaryOp::NotRegex),
        ];
        let start = self.position();
        let mut left = self.sum()?;
        while let Some(op) = self.operator(&OPS)? {
            let right_start = self.position();
            let right = self.sum()?;
            left = match (op, is_nil(&left), is_nil(&right)) {
                (BinaryOp::Eq | BinaryOp::Ne, true, true) => Expr::Literal(Value::Bool(false)),
                (BinaryOp::Eq, false, true) => Expr::Unary(UnaryOp::Missing, Box::new(left)),
                (BinaryOp::Eq, true, false) => Expr::Unary(UnaryOp::Missing, Box::new(right)),
                (BinaryOp::Ne, false, true) => Expr::Unary(UnaryOp::Exists, Box::new(left)),
                (BinaryOp::Ne, true, false) => Expr::Unary(UnaryOp::Exists, Box::new(right)),
                (_, false, false) => binary(op, left, right),
                (_, _, nil) => {
                    let at = if nil { right_start } else { start };
                    return Err(ParseError::syntax(at, "syntax error: unexpected nil"));
                }
            };
        }
        if is_nil(&left) {
            return Err(self.unexpected(""));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr, ParseError> {
        let mut left = self.product()?;
        while let Some(op) = self.operator(&[("+", BinaryOp::Add), ("-", BinaryOp::Sub)])? {
            let right = self.product()?;
            left = binary(op, left, right);
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expr, ParseError> {
        const OPS: [(&str, BinaryOp); 3] = [("*", BinaryOp::Mul), ("/", BinaryOp::Div), ("%", BinaryOp::Mod)];
        let mut left = self.power()?;
        while let Some(op) = self.operator(&OPS)? {
            let right = self.power()?;
            left = binary(op, left, right);
        }
        Ok(left)
    }

    fn power(&mut self) -> Result<Expr, ParseError> {
        let base = self.primary()?;
        if self.operator(&[("^", BinaryOp::Pow)])?.is_some() {
            let exponent = self.nested(Self::power)?;
            return Ok(binary(BinaryOp::Pow, base, exponent));
        }
        Ok(base)
    }

    /// A prefix operator takes a whole product: `-.a * .b` is `-(.a * .b)`.
    fn primary(&mut self) -> Result<Expr, ParseError> {
        let literal = |value| Ok(Expr::Literal(value));
        match self.peek().clone() {
            Tok::Symbol("-") => {
                self.next();
                Ok(Expr::Unary(UnaryOp::Neg, Box::new(self.nested(Self::product)?)))
            }
            Tok::Symbol("!") => {
                self.next();
                Ok(Expr::Unary(UnaryOp::Not, Box::new(self.nested(Self::product)?)))
            }
            Tok::Symbol("(") => {
                self.next();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Tok::Str(s) => {
                self.next();
                literal(Value::str(s))
            }
            Tok::Int(i) => {
                self.next();
                literal(Value::Int(i))
            }
            Tok::Float(f) => {
                self.next();
                literal(Value::Float(f))
            }
            Tok::Duration(d) => {
                self.next();
                literal(Value::Duration(d))
            }
            Tok::Word(word) => {
                if let Some(value) = keyword(word) {
                    self.next();
                    return literal(value);
                }
                self.field().map(Expr::Field)
            }
            _ => self.field().map(Expr::Field),
        }
    }

    /// An attribute or intrinsic.
    pub(super) fn field(&mut self) -> Result<Field, ParseError> {
        match self.peek().clone() {
            Tok::Attribute(attribute) => {
                self.next();
                Ok(Field::Attribute(attribute))
            }
            Tok::ScopeColon(scope) => {
                self.next();
                let found = match self.peek() {
                    Tok::Word(word) => Intrinsic::scoped(scope, word),
                    _ => None,
                };
                let Some(intrinsic) = found else {
                    return Err(self.unexpected(match scope {
                        "trace" => "duration or rootName or rootService or id",
                        "event" => "name or timeSinceStart",
                        "link" => "traceID or spanID",
                        "instrumentation" => "name or version",
                        _ => "",
                    }));
                };
                self.next();
                Ok(Field::Intrinsic(intrinsic))
            }
            Tok::Word(word) => match Intrinsic::unscoped(word) {
                Some(intrinsic) => {
                    self.next();
                    Ok(Field::Intrinsic(intrinsic))
                }
                None if super::is_keyword(word) => Err(self.unexpected("")),
                None => Err(ParseError::syntax(self.position(), format!("unknown identifier: {word}"))),
            },
            _ => Err(self.unexpected("")),
        }
    }
}

/// The literal a word stands for.
pub(super) fn keyword(word: &str) -> Option<Value> {
    Some(match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "nil" => Value::Nil,
        "ok" => Value::Status(Status::Ok),
        "error" => Value::Status(Status::Error),
        "unset" => Value::Status(Status::Unset),
        "unspecified" => Value::Kind(Kind::Unspecified),
        "internal" => Value::Kind(Kind::Internal),
        "server" => Value::Kind(Kind::Server),
        "client" => Value::Kind(Kind::Client),
        "producer" => Value::Kind(Kind::Producer),
        "consumer" => Value::Kind(Kind::Consumer),
        "minInt" => Value::Int(i64::MIN),
        "maxInt" => Value::Int(i64::MAX),
        _ => return None,
    })
}

fn is_nil(e: &Expr) -> bool {
    matches!(e, Expr::Literal(Value::Nil))
}

fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    Expr::Binary(op, Box::new(left), Box::new(right))
}

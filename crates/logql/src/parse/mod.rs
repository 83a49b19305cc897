//! From text to checked syntax tree: recursive descent, with operator precedence for binary operations.

mod check;
mod grammar;
mod lexer;
mod pipeline;

use crate::ast::Expr;
use crate::error::ParseError;

/// Longer queries are refused.
const MAX_LENGTH: usize = 131_072;

/// Parses and checks a query.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    if query.len() >= MAX_LENGTH {
        let text = format!("input size too long ({} > {MAX_LENGTH})", query.len());
        return Err(ParseError::Invalid(text));
    }
    let tokens = lexer::tokens(query);
    if let [only] = &tokens[..]
        && query.is_empty()
    {
        return Err(ParseError::Invalid(format!("syntax error: unexpected {}", only.kind.describe())));
    }
    let expr = grammar::Parser::new(tokens).query()?;
    check::check(&expr)?;
    Ok(expr)
}

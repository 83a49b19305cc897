//! The parser: recursive descent over the tokens, then the checks and the folding of constants.
//!
//! Untrusted text: nesting and the number of operators are bounded, because the tree is walked and
//! dropped recursively.

mod check;
mod expr;
mod fold;
mod lenient;
mod lexer;
mod pipeline;

pub(crate) use lenient::first_filter;
pub(crate) use lexer::ends_name;

use crate::ast::{Field, Intrinsic, Query};
use crate::error::ParseError;
use lexer::{Tok, Token};

/// Parentheses and prefix operators within each other.
const MAX_DEPTH: usize = 64;
/// Operators of a query.
const MAX_OPERATORS: usize = 1_000;
/// Bytes of a query.
const MAX_BYTES: usize = 128 * 1024;

/// Reads and checks a query.
pub fn parse(text: &str) -> Result<Query, ParseError> {
    let mut parser = Parser::new(text)?;
    if matches!(parser.peek(), Tok::End) {
        let message = "syntax error: unexpected $end".to_owned();
        return Err(ParseError { position: None, ..ParseError::syntax((0, 0), message) });
    }
    let mut query = parser.query()?;
    check::query(&query)?;
    fold::query(&mut query);
    Ok(query)
}

/// Reads a lone field, as a tag values request names it (`.x`, `span.x`, `resource."a b"`, `name`, `span:kind`).
pub fn parse_field(text: &str) -> Result<Field, ParseError> {
    let mut parser = Parser::new(text)?;
    let field = parser.field()?;
    if !matches!(parser.peek(), Tok::End) {
        return Err(parser.unexpected("$end"));
    }
    check::field(&field)?;
    Ok(field)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    operators: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            let message =
                format!("query of {} bytes is longer than the limit of {MAX_BYTES}: shorten it", text.len());
            return Err(ParseError::invalid(message));
        }
        Ok(Self { tokens: lexer::tokens(text), at: 0, depth: 0, operators: 0 })
    }

    fn peek(&self) -> &Tok<'a> {
        &self.tokens[self.at].kind
    }

    fn position(&self) -> (u32, u32) {
        self.tokens[self.at].at
    }

    /// Moves on; the last token stays.
    fn next(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Tok::Symbol(s) if *s == symbol);
        if found {
            self.next();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Tok::Word(w) if *w == word);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), ParseError> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected(symbol)) }
    }

    /// Takes one of the operators, if it is next.
    fn operator<T: Copy>(&mut self, operators: &[(&str, T)]) -> Result<Option<T>, ParseError> {
        let Tok::Symbol(symbol) = *self.peek() else { return Ok(None) };
        let Some((_, op)) = operators.iter().find(|(s, _)| *s == symbol) else { return Ok(None) };
        self.count_operator()?;
        self.next();
        Ok(Some(*op))
    }

    fn count_operator(&mut self) -> Result<(), ParseError> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            let message = format!("query has more than {MAX_OPERATORS} operators: use regular expressions");
            return Err(ParseError::syntax(self.position(), message));
        }
        Ok(())
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("query is nested deeper than {MAX_DEPTH} levels: simplify it");
            return Err(ParseError::syntax(self.position(), message));
        }
        let out = inner(self);
        self.depth -= 1;
        out
    }

    /// The complaint about the next token.
    fn unexpected(&self, expecting: &str) -> ParseError {
        let name = match self.peek() {
            Tok::Bad(message) => return ParseError::syntax(self.position(), message.clone()),
            Tok::Str(_) => "STRING",
            Tok::Int(_) => "INTEGER",
            Tok::Float(_) => "FLOAT",
            Tok::Duration(_) => "DURATION",
            Tok::End => "$end",
            Tok::Attribute(attribute) => match attribute.scope {
                Some(scope) => scope.as_str(),
                None => ".",
            },
            Tok::ScopeColon(scope) => scope,
            Tok::Symbol(symbol) => symbol,
            Tok::Word(word) if is_keyword(word) => word,
            Tok::Word(_) => "IDENTIFIER",
        };
        let tail = if expecting.is_empty() { String::new() } else { format!(", expecting {expecting}") };
        ParseError::syntax(self.position(), format!("syntax error: unexpected {name}{tail}"))
    }
}

/// Whether a bare word means something somewhere in the language.
fn is_keyword(word: &str) -> bool {
    expr::keyword(word).is_some()
        || Intrinsic::unscoped(word).is_some()
        || matches!(
            word,
            "by" | "select"
                | "coalesce"
                | "with"
                | "count"
                | "min"
                | "max"
                | "sum"
                | "avg"
                | "rate"
                | "count_over_time"
                | "min_over_time"
                | "max_over_time"
                | "sum_over_time"
                | "avg_over_time"
                | "histogram_over_time"
                | "quantile_over_time"
                | "compare"
                | "topk"
                | "bottomk"
                | "id"
                | "traceID"
                | "spanID"
                | "parentID"
                | "childCount"
                | "timeSinceStart"
                | "rootService"
                | "version"
        )
}

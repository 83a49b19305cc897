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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_their_errors() {
        let mut wrong = Vec::new();
        for line in include_str!("queries.txt").lines().filter(|line| !line.starts_with("# ")) {
            let (want, query) = line.split_once('\t').unwrap();
            let got = parse(query);
            let agrees = match (&got, &want.split(' ').collect::<Vec<_>>()[..]) {
                (Ok(_), ["ok"]) => true,
                (Err(ParseError::Invalid(text)), [kind]) => {
                    (*kind == "stage") == text.starts_with("stage '") && *kind != "ok"
                }
                (Err(ParseError::At { line, column, message }), ["at", place, token @ ..]) => {
                    let found = token
                        .iter()
                        .all(|t| message.contains(&format!("unexpected {t}")) || message.starts_with(t));
                    format!("{line}:{column}") == *place && found
                }
                _ => false,
            };
            if !agrees {
                wrong.push(format!(
                    "{query}: {} instead of {want}",
                    got.map_or_else(|e| e.to_string(), |e| e.to_string())
                ));
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn regular_expressions_cannot_grow_without_bound() {
        for regex in ["(a{1000}){1000}", "((a{100}){100}){100}", "(\\pL{1000}){1000}"] {
            assert!(parse(&format!("{{a=`b`}} |~ `{regex}`")).is_err(), "{regex}");
            assert!(parse(&format!("{{a=~`{regex}`}}")).is_err(), "{regex}");
        }
        let wide = vec!["x+"; 20_000].join("|");
        let _ = parse(&format!("{{a=`b`}} |~ `{wide}`"));
    }

    #[test]
    fn deep_and_long_queries_are_refused() {
        let nested = |open: &str, inner: &str, close: &str| {
            format!("{}{inner}{}", open.repeat(5000), close.repeat(5000))
        };
        for query in [
            nested("(", "1", ")"),
            nested("sum(", "vector(1)", ")"),
            format!(r#"{{a="b"}} | {}"#, nested("(", "x=1", ")")),
            format!("vector(1){}", "+vector(1)".repeat(5000)),
            format!(r#"{{a="b"}} | x=1{}"#, " or x=1".repeat(5000)),
            format!(r#"{{a="b"}} | x=1{}"#, ",x=1".repeat(5000)),
            format!("rate({}", "(".repeat(50_000)),
            " ".repeat(MAX_LENGTH),
        ] {
            assert!(parse(&query).is_err(), "{}", &query[..40]);
        }
    }
}

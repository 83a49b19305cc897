//! Lenient parsing for autocompletion: conditions that are not finished yet are dropped, the rest is kept.

use super::lexer::{self, Tok};
use super::parse;
use crate::ast::{Expr, SpansetExpr, Stage};

/// The filter of a query that may be unfinished; `None` if nothing usable is left.
pub(crate) fn first_filter(text: &str) -> Option<Expr> {
    if let Ok(query) = parse(text) {
        return lone(query.pipeline.stages);
    }
    lone(parse(&mend(text)).ok()?.pipeline.stages)
}

/// The filter, if the pipeline begins with exactly one spanset.
fn lone(mut stages: Vec<Stage>) -> Option<Expr> {
    let mut first = if stages.is_empty() { return None } else { stages.swap_remove(0) };
    loop {
        match first {
            Stage::Spansets(SpansetExpr::Filter(e)) => return Some(present(e)),
            Stage::Spansets(SpansetExpr::Pipeline(mut p)) if p.stages.len() == 1 => {
                first = p.stages.swap_remove(0);
            }
            _ => return None,
        }
    }
}

/// A bare attribute is no condition yet: it keeps everything.
fn present(e: Expr) -> Expr {
    use crate::ast::BinaryOp::{And, Or};
    match e {
        Expr::Field(_) => Expr::Literal(crate::value::Value::Bool(true)),
        Expr::Binary(op @ (And | Or), left, right) => {
            Expr::Binary(op, Box::new(present(*left)), Box::new(present(*right)))
        }
        other => other,
    }
}

/// Takes unfinished conditions out of the text before the first `|` and closes what is open.
fn mend(text: &str) -> String {
    let mut tokens = lexer::tokens(text);
    // What the lexer could not read (a string that does not end) is unfinished too.
    let broken = tokens.iter().position(|t| matches!(t.kind, Tok::Bad(_)));
    let cut = broken.unwrap_or(tokens.len() - 1);
    tokens.truncate(cut);
    let pipe = tokens.iter().position(|t| t.kind == Tok::Symbol("|"));
    let rest = match (pipe, broken) {
        (Some(at), None) => &text[tokens[at].span.0..],
        _ => "",
    };
    tokens.truncate(pipe.unwrap_or(tokens.len()));
    let mut words: Vec<(&str, Tok<'_>)> =
        tokens.into_iter().map(|t| (&text[t.span.0..t.span.1], t.kind)).collect();
    while drop_one(&mut words) {}
    let mut open = 0i32;
    let mut parens = 0i32;
    for (_, kind) in &words {
        match kind {
            Tok::Symbol("{") => open += 1,
            Tok::Symbol("}") => open -= 1,
            Tok::Symbol("(") => parens += 1,
            Tok::Symbol(")") => parens -= 1,
            _ => {}
        }
    }
    let mut out: String = words.iter().flat_map(|(word, _)| [*word, " "]).collect();
    (0..parens).for_each(|_| out.push_str(") "));
    (0..open).for_each(|_| out.push_str("} "));
    out.push_str(rest);
    out
}

/// Drops one thing that cannot stay where it is; `false` when nothing is left to drop.
fn drop_one(words: &mut Vec<(&str, Tok<'_>)>) -> bool {
    let symbol = |i: usize| match words.get(i) {
        Some((_, Tok::Symbol(s))) => Some(*s),
        _ => None,
    };
    let connector = |s: Option<&str>| matches!(s, Some("&&" | "||"));
    let closes = |i: usize| i >= words.len() || matches!(symbol(i), Some("}" | ")"));
    for i in 0..words.len() {
        let before_opens = i == 0 || matches!(symbol(i - 1), Some("{" | "("));
        match symbol(i) {
            // A comparison without a value loses its operator.
            Some("=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~")
                if closes(i + 1) || connector(symbol(i + 1)) =>
            {
                words.remove(i);
                return true;
            }
            Some("&&" | "||") if before_opens || closes(i + 1) || connector(symbol(i + 1)) => {
                words.remove(i);
                return true;
            }
            Some("(") if symbol(i + 1) == Some(")") => {
                words.drain(i..i + 2);
                return true;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_conditions_are_dropped() {
        for (text, expect) in [
            ("{ span.a = 1 }", Some("span.a = 1")),
            ("{ span.a = }", Some("true")),
            ("{span.a=}", Some("true")),
            (r#"{ span.a = "x" && resource.b = }"#, Some("(span.a = `x`) && true")),
            (r#"{ span.a = "x" &&"#, Some("span.a = `x`")),
            (r#"{ span.a = "x" && ( span.b = || ) "#, Some("(span.a = `x`) && true")),
            (r#"{ span.a = "x" && span.b = "unfin"#, Some("(span.a = `x`) && true")),
            ("{", Some("true")),
            ("{ span.a = 1 && } | rate()", Some("span.a = 1")),
            ("{ span.a = 1 } && { span.b = 2 }", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(first_filter(text).map(|e| e.to_string()).as_deref(), expect, "{text}");
        }
    }
}

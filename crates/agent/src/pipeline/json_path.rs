//! JMESPath expressions. Those that name one place (`a.b[0]."odd key"`) are followed while the text is read; all others are
//! evaluated over a tree.

use jmespath::Variable;
use jmespath::ast::Ast;
use serde_json::Value;

/// A compiled expression.
pub(super) enum Expression {
    /// A place: the key it begins with, and the steps from there.
    Place { root: String, steps: Vec<Step> },
    /// Anything else.
    General(jmespath::Expression<'static>),
}

/// One step down into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(i32),
}

impl Expression {
    /// Compiles an expression; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let general = jmespath::compile(text).map_err(|e| e.to_string().replace('\n', " "))?;
        let mut steps = Vec::new();
        if place(general.as_ast(), &mut steps)
            && let Some(Step::Key(_)) = steps.first()
            && let Step::Key(root) = steps.remove(0)
        {
            return Ok(Self::Place { root, steps });
        }
        Ok(Self::General(general))
    }
}

/// The value that steps lead to.
pub(super) fn follow<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => {
            let list = value.as_array()?;
            let at = match usize::try_from(*index) {
                Ok(at) => at,
                Err(_) => list.len().checked_sub(index.unsigned_abs() as usize)?,
            };
            list.get(at)
        }
    })
}

/// The value of an expression over a whole document.
pub(super) fn search(
    expression: &jmespath::Expression<'static>,
    document: &jmespath::Rcvar,
) -> Option<Value> {
    let found = expression.search(document).ok()?;
    match &*found {
        Variable::Expref(_) => None,
        found => serde_json::to_value(found).ok(),
    }
}

/// Collects the steps of a tree that is nothing but steps.
fn place(ast: &Ast, steps: &mut Vec<Step>) -> bool {
    match ast {
        Ast::Field { name, .. } => {
            steps.push(Step::Key(name.clone()));
            true
        }
        Ast::Index { idx, .. } => {
            steps.push(Step::Index(*idx));
            true
        }
        Ast::Subexpr { lhs, rhs, .. } => place(lhs, steps) && place(rhs, steps),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_from_other_expressions() {
        let value = serde_json::json!({"b": [{"odd key": 1}, 2]});
        let check = |text: &str, want: Option<serde_json::Value>| match Expression::parse(text).unwrap() {
            Expression::Place { root, steps } => {
                assert_eq!((root.as_str(), follow(&value, &steps).cloned()), ("a", want), "{text}");
            }
            Expression::General(_) => panic!("{text} names a place"),
        };
        check("a.b[0].\"odd key\"", Some(1.into()));
        check("a.b[-1]", Some(2.into()));
        check("a.b[2]", None);
        check("a.b[-3]", None);
        check("a.c", None);
        for general in ["a[*]", "length(a)", "a || b", "[a, b]", "@", "a[?x > `1`]"] {
            assert!(matches!(Expression::parse(general), Ok(Expression::General(_))), "{general}");
        }
        for bad in ["", "foo[", "a..b", "a.", "a b"] {
            assert!(Expression::parse(bad).is_err(), "{bad}");
        }
    }
}

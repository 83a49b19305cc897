//! Walks the syntax tree of a template.

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos};

use crate::functions::{self, Fault, MAX_LENGTH};
use crate::value::Value;
use crate::{Data, Parsed, print};

/// So many steps a rendering may take.
const MAX_STEPS: usize = 100_000;
/// So deep templates may call each other.
const MAX_DEPTH: usize = 50;

/// What ends a list of nodes early.
enum Stop {
    Break,
    Continue,
    Fault(String),
}

type Run<T> = Result<T, Stop>;

struct Eval<'r, D> {
    parsed: &'r Parsed,
    data: &'r D,
    variables: Vec<(&'r str, Value<'r>)>,
    steps: usize,
    depth: usize,
}

pub(crate) fn run<'r, D: Data>(parsed: &'r Parsed, data: &'r D, out: &mut String) -> Result<(), String> {
    let mut eval = Eval { parsed, data, variables: vec![("$", Value::Data)], steps: 0, depth: 0 };
    match eval.list(&parsed.body, &Value::Data, out) {
        Ok(()) | Err(Stop::Break | Stop::Continue) => Ok(()),
        Err(Stop::Fault(text)) => Err(text),
    }
}

impl<'r, D: Data> Eval<'r, D> {
    /// An error at a place, as Go words it; `at` is the text of the node.
    fn fault<T>(&self, pos: Pos, at: &str, problem: &str) -> Run<T> {
        let before = &self.parsed.source[..pos.offset.min(self.parsed.source.len())];
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let name = &self.parsed.name;
        Err(Stop::Fault(format!(
            "template: {name}:{line}:{column}: executing \"{name}\" at <{at}>: {problem}"
        )))
    }

    fn step(&mut self, pos: Pos, out: &str) -> Run<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return self.fault(pos, "range", "too many steps");
        }
        if out.len() > MAX_LENGTH {
            return self.fault(pos, "output", "result is too long");
        }
        Ok(())
    }

    fn list(&mut self, list: &'r ListNode, dot: &Value<'r>, out: &mut String) -> Run<()> {
        let variables = self.variables.len();
        let result = list.nodes.iter().try_for_each(|node| self.node(node, dot, out));
        self.variables.truncate(variables);
        result
    }

    fn node(&mut self, node: &'r Node, dot: &Value<'r>, out: &mut String) -> Run<()> {
        match node {
            Node::Text(text) => out.push_str(&text.text),
            Node::Action(action) => {
                self.step(action.pos, out)?;
                let value = self.pipe(&action.pipe, dot)?;
                if action.pipe.decl.is_empty() {
                    match self.made_map(value) {
                        Value::Nil => out.push_str("<no value>"),
                        value => print::plain(&value, out),
                    }
                }
            }
            Node::If(branch) | Node::With(branch) => {
                let variables = self.variables.len();
                let value = self.pipe(&branch.pipe, dot)?;
                let with = matches!(node, Node::With(_));
                if value.is_true(!self.data.is_empty()) {
                    self.list(&branch.body, if with { &value } else { dot }, out)?;
                } else if let Some(body) = &branch.else_body {
                    self.list(body, dot, out)?;
                }
                self.variables.truncate(variables);
            }
            Node::Range(branch) => self.range(branch, dot, out)?,
            Node::List(list) => self.list(list, dot, out)?,
            Node::Template(call) => {
                let dot = match &call.pipe {
                    Some(pipe) => self.pipe(pipe, dot)?,
                    None => Value::Nil,
                };
                let Some(body) = self.parsed.defines.get(&*call.name) else {
                    return self.fault(
                        call.pos,
                        "template",
                        &format!("template \"{}\" not defined", call.name),
                    );
                };
                self.step(call.pos, out)?;
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return self.fault(call.pos, "template", "exceeded maximum template depth");
                }
                let outer = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
                let result = self.list(body, &dot, out);
                self.variables = outer;
                self.depth -= 1;
                result?;
            }
            Node::Define(_) => {}
            Node::Break(_) => return Err(Stop::Break),
            Node::Continue(_) => return Err(Stop::Continue),
        }
        Ok(())
    }

    fn range(&mut self, branch: &'r BranchNode, dot: &Value<'r>, out: &mut String) -> Run<()> {
        let variables = self.variables.len();
        // The variables of a range are set per round, not to the whole.
        let value = self.commands(&branch.pipe, dot)?;
        let items: Vec<(Value<'r>, Value<'r>)> = match self.made_map(value) {
            Value::Nil => Vec::new(),
            Value::Int(count) if count as usize > MAX_STEPS && count > 0 => {
                return self.fault(branch.pos, "range", "too many steps");
            }
            Value::Int(count) => (0..count).map(|i| (Value::Int(i), Value::Int(i))).collect(),
            Value::List(list) => (0..).map(Value::Int).zip(list).collect(),
            Value::Map(map) => map.into_iter().map(|(key, value)| (Value::text(key), value)).collect(),
            other => {
                return self.fault(
                    branch.pipe.pos,
                    "range",
                    &format!("range can't iterate over {}", other.kind()),
                );
            }
        };
        if items.is_empty() {
            if let Some(body) = &branch.else_body {
                self.list(body, dot, out)?;
            }
            return Ok(());
        }
        for (key, value) in items {
            self.step(branch.pos, out)?;
            match &branch.pipe.decl[..] {
                [] => {}
                [only] => self.bind(only, value.clone(), branch.pipe.is_assign, branch.pos)?,
                [first, second, ..] => {
                    self.bind(first, key, branch.pipe.is_assign, branch.pos)?;
                    self.bind(second, value.clone(), branch.pipe.is_assign, branch.pos)?;
                }
            }
            let result = self.list(&branch.body, &value, out);
            self.variables.truncate(variables.max(1));
            match result {
                Ok(()) | Err(Stop::Continue) => {}
                Err(Stop::Break) => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn bind(&mut self, name: &'r str, value: Value<'r>, assign: bool, pos: Pos) -> Run<()> {
        if !assign {
            self.variables.push((name, value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(n, _)| *n == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => self.fault(pos, name, &format!("undefined variable: {name}")),
        }
    }

    /// The value of a pipeline; binds its variables.
    fn pipe(&mut self, pipe: &'r PipeNode, dot: &Value<'r>) -> Run<Value<'r>> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.decl {
            self.bind(name, value.clone(), pipe.is_assign, pipe.pos)?;
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &'r PipeNode, dot: &Value<'r>) -> Run<Value<'r>> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(
        &mut self,
        command: &'r CommandNode,
        dot: &Value<'r>,
        last: Option<Value<'r>>,
    ) -> Run<Value<'r>> {
        let Some((first, rest)) = command.args.split_first() else { return Ok(Value::Nil) };
        if let Expr::Identifier(pos, name) = first {
            return self.call(*pos, name, rest, dot, last);
        }
        if !rest.is_empty() || last.is_some() {
            let at = node_text(first);
            return self.fault(first.pos(), &at, &format!("can't give argument to non-function {at}"));
        }
        self.expr(first, dot)
    }

    fn call(
        &mut self,
        pos: Pos,
        name: &'r str,
        args: &'r [Expr],
        dot: &Value<'r>,
        last: Option<Value<'r>>,
    ) -> Run<Value<'r>> {
        let mut values = Vec::with_capacity(args.len() + 1);
        if matches!(name, "and" | "or") {
            // Arguments behind the deciding one are not evaluated.
            let mut value = Value::Nil;
            for arg in args {
                value = self.expr(arg, dot)?;
                if value.is_true(true) == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        for arg in args {
            let value = self.expr(arg, dot)?;
            values.push(self.made_map(value));
        }
        values.extend(last.map(|value| self.made_map(value)));
        let called = match D::FUNCTIONS.iter().find(|f| f.0 == name) {
            Some(function) => {
                functions::check_count(function, values.len()).and_then(|()| self.data.call(name, &values))
            }
            None => functions::call(name, &values),
        };
        called.or_else(|fault| match fault {
            Fault::Call(problem) => self.fault(pos, name, &format!("error calling {name}: {problem}")),
            Fault::Count(problem) => self.fault(pos, name, &problem),
            Fault::Argument(i, problem) => match args.get(i) {
                Some(arg) => self.fault(arg.pos(), &node_text(arg), &problem),
                None => self.fault(pos, name, &problem),
            },
        })
    }

    fn expr(&mut self, expr: &'r Expr, dot: &Value<'r>) -> Run<Value<'r>> {
        Ok(match expr {
            Expr::Dot(_) => dot.clone(),
            Expr::Nil(_) => Value::Nil,
            Expr::Bool(_, value) => Value::Bool(*value),
            Expr::Number(_, Number::Int(value)) => Value::Int(*value),
            Expr::Number(_, Number::Uint(value)) => Value::Float(*value as f64),
            Expr::Number(_, Number::Float(value)) => Value::Float(*value),
            Expr::String(_, text) => Value::text(&**text),
            Expr::Field(pos, fields) => self.fields(dot.clone(), fields, *pos)?,
            Expr::Variable(pos, name, fields) => {
                let Some((_, value)) = self.variables.iter().rev().find(|(n, _)| *n == &**name) else {
                    return self.fault(*pos, name, &format!("undefined variable: {name}"));
                };
                self.fields(value.clone(), fields, *pos)?
            }
            Expr::Chain(pos, inner, fields) => {
                let value = self.expr(inner, dot)?;
                self.fields(value, fields, *pos)?
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe, dot)?,
            Expr::Identifier(pos, name) => self.call(*pos, name, &[], dot, None)?,
        })
    }

    fn fields<S: AsRef<str>>(&self, value: Value<'r>, fields: &[S], pos: Pos) -> Run<Value<'r>> {
        fields.iter().map(AsRef::as_ref).try_fold(value, |value, field| match value {
            Value::Data => Ok(self.data.field(field)),
            Value::Map(mut map) => Ok(map.remove(field).unwrap_or(Value::Nil)),
            Value::Nil => self.fault(
                pos,
                &format!(".{field}"),
                &format!("nil pointer evaluating interface {{}}.{field}"),
            ),
            other => self.fault(
                pos,
                &format!(".{field}"),
                &format!("can't evaluate field {field} in type {}", other.kind()),
            ),
        })
    }

    /// The data as a map; other values as they are.
    fn made_map(&self, value: Value<'r>) -> Value<'r> {
        match value {
            Value::Data => Value::Map(self.data.fields()),
            value => value,
        }
    }
}

/// A node as it stands in the source, for error texts.
fn node_text(expr: &Expr) -> String {
    let fields =
        |fields: &[gotmpl::parse::SmolStr]| fields.iter().map(|f| format!(".{f}")).collect::<String>();
    match expr {
        Expr::Dot(_) => ".".to_owned(),
        Expr::Nil(_) => "nil".to_owned(),
        Expr::Bool(_, value) => value.to_string(),
        Expr::Number(_, Number::Int(value)) => value.to_string(),
        Expr::Number(_, Number::Uint(value)) => value.to_string(),
        Expr::Number(_, Number::Float(value)) => value.to_string(),
        Expr::String(_, text) => model::quote(text),
        Expr::Field(_, names) => fields(names),
        Expr::Variable(_, name, names) => format!("{name}{}", fields(names)),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::Chain(_, inner, names) => format!("{}{}", node_text(inner), fields(names)),
        Expr::Pipe(..) => "(…)".to_owned(),
    }
}

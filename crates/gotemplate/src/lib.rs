//! Go's text/template over data that is read where it lies.
//!
//! The syntax tree comes from `gotmpl`; evaluation is our own, so that values are borrowed from the data, functions are
//! those of the program that is played, and a template can neither run nor grow without bound.

mod decimal;
mod eval;
mod functions;
pub mod print;
mod text;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gotmpl::parse::{Expr, ListNode, Node, Parser, PipeNode};

pub use functions::{Args, Fault, Function, MANY, MAX_LENGTH, call as standard, regex};
pub use value::Value;

/// What a template is rendered over: named values, and functions beside those that all templates have.
pub trait Data {
    /// Its own functions. Of equal names its own is called.
    const FUNCTIONS: &'static [Function] = &[];

    /// The value that `.name` stands for; [`Value::Nil`] if there is none.
    fn field(&self, name: &str) -> Value<'_>;

    /// All values by name.
    fn fields(&self) -> BTreeMap<String, Value<'_>>;

    /// Whether there is no value at all.
    fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }

    /// Calls one of its own functions; the number of arguments has been checked.
    fn call<'r>(&'r self, name: &str, args: &[Value<'r>]) -> Result<Value<'r>, Fault> {
        let _ = args;
        Err(Fault::Call(format!("function {name} cannot be called")))
    }
}

/// A parsed template. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Template(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    name: String,
    source: String,
    body: ListNode,
    defines: HashMap<String, ListNode>,
    fields: Option<Vec<String>>,
    functions: Vec<String>,
}

impl Template {
    /// Parses a template that will be rendered over `D`; unknown functions are errors. `name` appears in error texts.
    pub fn parse<D: Data>(source: &str, name: &str) -> Result<Self, String> {
        let (body, defines) = Parser::with_name(Some(name), source, "{{", "}}")
            .and_then(Parser::parse)
            .map_err(|e| e.to_string())?;
        let defines: HashMap<String, ListNode> =
            defines.into_iter().map(|d| (d.name.to_string(), d.body)).collect();
        let own = |name: &str| D::FUNCTIONS.iter().any(|f| f.0 == name);
        let mut survey =
            Survey { fields: Some(Vec::new()), functions: Vec::new(), is_own: &own, unknown: None };
        survey.list(&body);
        defines.values().for_each(|body| survey.list(body));
        if let Some((function, line)) = survey.unknown {
            return Err(format!("template: {name}:{line}: function \"{function}\" not defined"));
        }
        let Survey { fields, functions, .. } = survey;
        let (name, source) = (name.to_owned(), source.to_owned());
        Ok(Self(Arc::new(Parsed { name, source, body, defines, fields, functions })))
    }

    /// Whether the template calls a function of this name.
    pub fn calls(&self, function: &str) -> bool {
        self.0.functions.iter().any(|f| f == function)
    }

    /// The fields of the data that the template looks at; `None` if it may be any.
    pub fn fields(&self) -> Option<&[String]> {
        self.0.fields.as_deref()
    }

    /// Appends the template's text over the data. The error is worded as Go words it; what was written before it stays.
    pub fn render<D: Data>(&self, data: &D, out: &mut String) -> Result<(), String> {
        eval::run(&self.0, data, out)
    }
}

/// Finds out what a template uses.
struct Survey<'a> {
    fields: Option<Vec<String>>,
    functions: Vec<String>,
    is_own: &'a dyn Fn(&str) -> bool,
    unknown: Option<(String, usize)>,
}

impl Survey<'_> {
    fn list(&mut self, list: &ListNode) {
        for node in &list.nodes {
            match node {
                Node::List(list) => self.list(list),
                Node::Action(action) => self.pipe(&action.pipe),
                Node::If(branch) => {
                    self.pipe(&branch.pipe);
                    self.list(&branch.body);
                    branch.else_body.iter().for_each(|body| self.list(body));
                }
                Node::Range(branch) | Node::With(branch) => {
                    self.pipe(&branch.pipe);
                    self.list(&branch.body);
                    branch.else_body.iter().for_each(|body| self.list(body));
                }
                Node::Template(call) => call.pipe.iter().for_each(|pipe| self.pipe(pipe)),
                Node::Define(define) => self.list(&define.body),
                Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) {
        pipe.commands.iter().flat_map(|command| &command.args).for_each(|arg| self.expr(arg));
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Dot(_) => self.fields = None,
            Expr::Variable(_, name, fields) => match fields.first() {
                Some(field) if name == "$" => self.field(field),
                None if name == "$" => self.fields = None,
                _ => {}
            },
            Expr::Field(_, fields) => fields.first().into_iter().for_each(|field| self.field(field)),
            Expr::Identifier(pos, name) => {
                if !(self.is_own)(name) && !functions::exists(name) && self.unknown.is_none() {
                    self.unknown = Some((name.to_string(), pos.line));
                }
                self.functions.push(name.to_string());
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expr(inner),
            Expr::String(..) | Expr::Number(..) | Expr::Bool(..) | Expr::Nil(_) => {}
        }
    }

    /// Where dot has been moved this may name a field that is not looked at, which does no harm.
    fn field(&mut self, name: &str) {
        if let Some(fields) = &mut self.fields {
            fields.push(name.to_owned());
        }
    }
}

//! Templates of `line_format` and `label_format`: Go's text/template over the labels of a row.
//!
//! The syntax tree comes from `gotmpl`; evaluation is our own, so that labels are read where they lie, missing labels print as nothing,
//! and a template can neither run nor grow without bound.

mod decimal;
mod eval;
mod functions;
mod print;
mod text;
mod value;

use std::collections::HashMap;
use std::sync::Arc;

use gotmpl::parse::{Expr, ListNode, Node, Parser, PipeNode};

use crate::names::{NameId, Names};
use crate::row::Row;

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    name: &'static str,
    source: String,
    body: ListNode,
    defines: HashMap<String, ListNode>,
    /// The labels looked at; `None` if it may be any.
    labels: Option<Vec<String>>,
    reads_line: bool,
}

impl Template {
    /// Parses a template; unknown functions are errors. `name` appears in error texts.
    pub(crate) fn parse(source: &str, name: &'static str) -> Result<Self, String> {
        let (body, defines) = Parser::with_name(Some(name), source, "{{", "}}")
            .and_then(Parser::parse)
            .map_err(|e| e.to_string())?;
        let defines: HashMap<String, ListNode> =
            defines.into_iter().map(|d| (d.name.to_string(), d.body)).collect();
        let mut survey = Survey { labels: Some(Vec::new()), reads_line: false, unknown: None };
        survey.list(&body);
        defines.values().for_each(|body| survey.list(body));
        if let Some((function, line)) = survey.unknown {
            return Err(format!("template: {name}:{line}: function \"{function}\" not defined"));
        }
        let Survey { labels, reads_line, .. } = survey;
        Ok(Self(Arc::new(Parsed { name, source: source.to_owned(), body, defines, labels, reads_line })))
    }

    /// Whether the template uses `__line__`.
    pub(crate) fn reads_line(&self) -> bool {
        self.0.reads_line
    }

    /// Adds the labels that the template looks at; false if it may look at any.
    pub(crate) fn labels_read(&self, names: &mut Names, out: &mut Vec<NameId>) -> bool {
        let Some(labels) = &self.0.labels else { return false };
        out.extend(labels.iter().map(|label| names.id(label)));
        true
    }

    /// Appends the template's text for the row.
    pub(crate) fn render(&self, row: &Row<'_, '_>, names: &Names, out: &mut String) -> Result<(), String> {
        eval::run(&self.0, row, names, out)
    }
}

/// Finds out what a template uses.
struct Survey {
    labels: Option<Vec<String>>,
    reads_line: bool,
    unknown: Option<(String, usize)>,
}

impl Survey {
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
            Expr::Dot(_) => self.labels = None,
            Expr::Variable(_, name, fields) => match fields.first() {
                Some(field) if name == "$" => self.label(field),
                None if name == "$" => self.labels = None,
                _ => {}
            },
            Expr::Field(_, fields) => fields.first().into_iter().for_each(|field| self.label(field)),
            Expr::Identifier(pos, name) => {
                self.reads_line |= name == "__line__";
                if !functions::exists(name) && self.unknown.is_none() {
                    self.unknown = Some((name.to_string(), pos.line));
                }
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expr(inner),
            Expr::String(..) | Expr::Number(..) | Expr::Bool(..) | Expr::Nil(_) => {}
        }
    }

    /// Where dot has been moved this may name a label that is not looked at, which does no harm.
    fn label(&mut self, name: &str) {
        if let Some(labels) = &mut self.labels {
            labels.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};
    use model::Labels;

    use super::*;
    use crate::batch::{EntryBatch, Metadata};
    use crate::needs::MetadataNeeds;
    use crate::row::{BatchView, Wanted};

    fn render(template: &str, labels: &[(&str, &str)], line: &str) -> Result<String, String> {
        let batch = EntryBatch {
            labels: Labels::from_pairs(labels.iter().copied()),
            timestamps: Int64Array::from(vec![1_700_000_000_123_456_789]),
            lines: StringArray::from(vec![line]),
            metadata: Metadata::empty(),
        };
        let mut names = Names::new();
        let view = BatchView::new(&batch, &mut names, &MetadataNeeds::All);
        let mut row = Row::new(&view, &Wanted::All);
        row.load(0, &mut names);
        let mut out = String::new();
        Template::parse(template, "line")?.render(&row, &names, &mut out).map(|()| out)
    }

    fn check(template: &str, want: &str) {
        let labels = [("a", "x y"), ("n", "4"), ("f", "2.5"), ("empty_", "0")];
        let line = r#"{"k":[1,2.5,"t"],"m":{"z":null}}"#;
        assert_eq!(render(template, &labels, line).as_deref(), Ok(want), "{template}");
    }

    #[test]
    fn language() {
        check("a{{.a}}b{{.absent}}c", "ax ybc");
        check("{{if .a}}1{{else}}2{{end}}{{if .absent}}1{{else if .n}}3{{end}}", "13");
        check("{{with .a}}<{{.}}>{{end}}", "<x y>");
        check("{{range $i, $c := (fromJson __line__).k}}{{$i}}={{$c}};{{end}}", "0=1;1=2.5;2=t;");
        check("{{range $k, $v := .}}{{$k}},{{end}}", "a,empty_,f,n,");
        check("{{$x := .n}}{{$x = add $x 1}}{{$x}}", "5");
        check(
            "{{eq .n \"4\"}} {{ne .n \"4\"}} {{and 1 0}} {{or 0 2}} {{not .a}} {{lt 1 2}}",
            "true false 0 2 false true",
        );
        check(
            "{{len .a}} {{index . \"n\"}} {{slice .a 2}} {{printf \"%q %5d|%-4s|%05.1f\" .a 42 .n 2.25}}",
            "3 4 y \"x y\"    42|4   |002.2",
        );
        check("{{ .a | ToUpper | printf \"%s!\" }}", "X Y!");
        check("{{ 1500000.0 }} {{ 1.5 }} {{ 100000.0 }}", "1.5e+06 1.5 100000");
        check("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .a}}", "[x y]");
        check("a {{- .n -}} b", "a4b");
        check("{{range 3}}{{.}}{{if eq . 1}}{{break}}{{end}}{{end}}", "01");
        check("{{.}}", "map[a:x y empty_:0 f:2.5 n:4]");
    }

    #[test]
    fn functions() {
        check("{{Replace .a \" \" \"-\" -1}} {{.a | replace \" \" \"_\"}}", "x-y x_y");
        check("{{trunc 1 .a}}|{{trunc -1 .a}}|{{substr 0 1 .a}}|{{substr -1 2 .a}}", "x|y|x|x ");
        check(
            "{{add 1 2 .n}} {{sub 5 1}} {{mul 2 3}} {{div 7 2}} {{mod 7 2}} {{max 1 .n}} {{min 1 .n}}",
            "7 4 6 3 1 4 1",
        );
        check(
            "{{addf 0.1 0.2}} {{mulf .f 2}} {{divf 1 3}} {{round 1.2345 2}} {{int .f}} {{float64 .n}}",
            "0.3 5 0.3333333333333333 1.23 2 4",
        );
        check("{{ceil 1.2}} {{floor 1.8}} {{maxf 1.5 2}} {{minf 1.5 2}} {{subf 1 0.9}}", "2 1 2 1.5 0.1");
        check("{{bytes \"2KB\"}} {{duration \"1m30s\"}} {{duration_seconds \"2s\"}}", "2000 90 2");
        check(
            "{{__timestamp__ | unixEpoch}} {{__timestamp__ | unixEpochMillis}} {{__timestamp__ | unixEpochNanos}}",
            "1700000000 1700000000123 1700000000123456789",
        );
        check("{{unixToTime \"1700000000\" | date \"2006-01-02\"}}", "2023-11-14");
        check("{{default \"d\" .absent}} {{default \"d\" .n}}", "d 4");
        check(
            "{{b64enc .a}} {{\"eCB5\" | b64dec}} {{urlencode .a}} {{urldecode \"x+y%21\"}}",
            "eCB5 x y x+y x y!",
        );
        check("{{alignLeft 5 .a}}|{{alignRight 2 .a}}|{{alignRight 5 .a}}|", "x y  | y|  x y|");
        check(
            "{{regexReplaceAll \"(x) (y)\" .a \"$2${1}\"}} {{regexReplaceAllLiteral \"x\" .a \"$1\"}} {{count \"[xy]\" .a}}",
            "yx $1 y 2",
        );
        check(
            "{{title \"ab cd\"}} {{trim \" a \"}} {{trimAll \"-\" \"-a-\"}} {{trimPrefix \"a\" \"ab\"}} {{TrimSuffix \"ab\" \"b\"}}",
            "Ab Cd a a b a",
        );
        check(
            "{{contains \"x\" .a}} {{hasPrefix \"y\" .a}} {{hasSuffix \"y\" .a}} {{repeat 2 .n}} {{indent 2 .n}}",
            "true false true 44   4",
        );
    }

    #[test]
    fn faults() {
        let fault = |template: &str| render(template, &[("size", "oops")], "").unwrap_err();
        assert_eq!(
            fault("{{ .size | bytes }}"),
            "template: line:1:11: executing \"line\" at <bytes>: error calling bytes: strconv.ParseFloat: parsing \"\": invalid syntax"
        );
        assert!(fault("{{ div 1 0 }}").contains("error calling div"));
        assert!(fault("{{ nosuch .x }}").contains("function \"nosuch\" not defined"));
        assert!(fault("{{.x").contains("unclosed action"));
        assert!(fault("{{range 100000000}}{{end}}").contains("too many"));
        assert!(fault("{{repeat 1000000000 \"x\"}}").contains("too long"));
    }
}

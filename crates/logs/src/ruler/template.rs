//! Templates of labels and annotations of alerts: Go's text/template with Prometheus' variables and functions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Parser, PipeNode};
use gotmpl::{MissingKey, Value};
use wire::prometheus::rules::Pairs;

use crate::ruler::functions;

/// What every template begins with, on the same line, so that lines in errors are those of the text.
const VARIABLES: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                         {{$externalURL := .ExternalURL}}{{$value := .Value}}";
/// The name of the tree that is executed.
const MAIN: &str = "main";
/// Longest text of a template, and of what comes out.
const MAX_BYTES: usize = 16 << 10;
/// Rounds of all `range`s of a rendering.
const MAX_ROUNDS: u64 = 1000;

/// A parsed template.
#[derive(Clone)]
pub(crate) struct Template(Arc<Parsed>);

enum Parsed {
    /// Without actions.
    Text(String),
    /// With some; `labels` are those that it names.
    Actions { template: gotmpl::Template, labels: Vec<String>, external_url: String },
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

/// What a template speaks of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) labels: &'a Pairs,
    pub(crate) external_labels: &'a BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Template {
    /// Parses a template; `name` appears in errors, and `external_url` is what the template can link to.
    pub(crate) fn parse(name: &str, text: &str, external_url: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the text has {} bytes, the limit is {MAX_BYTES}", text.len()));
        }
        if !text.contains("{{") {
            return Ok(Self(Arc::new(Parsed::Text(text.to_owned()))));
        }
        let source = format!("{VARIABLES}{text}");
        let (mut body, defines) = Parser::with_name(Some(name), &source, "{{", "}}")
            .and_then(Parser::parse)
            .map_err(|e| e.to_string())?;
        let mut survey = Survey::default();
        survey.list(&body);
        if !defines.is_empty() || survey.calls {
            // Templates that call each other could run for ever.
            return Err(format!("template: {name}: define and template are not available here"));
        }
        if let Some((function, line)) = survey.unknown {
            return Err(format!("template: {name}:{line}: function \"{function}\" not defined"));
        }
        print_as_go(&mut body);
        let template = gotmpl::Template::new(name)
            .max_range_iters(MAX_ROUNDS)
            .missing_key(MissingKey::ZeroValue)
            .funcs(functions::all(external_url))
            .add_parse_tree(MAIN, body);
        Ok(Self(Arc::new(Parsed::Actions {
            template,
            labels: survey.labels,
            external_url: external_url.to_owned(),
        })))
    }

    /// The text for a subject; where the template fails, the text says so, as Prometheus' does.
    pub(crate) fn render(&self, subject: Subject<'_>) -> String {
        let (template, named, external_url) = match &*self.0 {
            Parsed::Text(text) => return text.clone(),
            Parsed::Actions { template, labels, external_url } => (template, labels, external_url),
        };
        let mut labels = map(subject.labels);
        for name in named {
            labels.entry(name.as_str().into()).or_insert_with(|| Value::String("".into()));
        }
        let data = BTreeMap::from([
            ("Labels".into(), Value::Map(Arc::new(labels))),
            ("ExternalLabels".into(), Value::Map(Arc::new(map(subject.external_labels)))),
            ("ExternalURL".into(), Value::String(external_url.as_str().into())),
            ("Value".into(), Value::Float(subject.value)),
        ]);
        let mut out = Capped(String::new());
        functions::begin();
        match template.execute_template_fmt(&mut out, MAIN, &Value::Map(Arc::new(data))) {
            Ok(()) => out.0,
            Err(error) => format!("<error expanding template: {error}>"),
        }
    }
}

/// Lets every value that is printed go through our own function, since the engine writes numbers as Rust does.
fn print_as_go(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(list) => print_as_go(list),
            Node::Action(action) if action.pipe.decl.is_empty() => {
                let call = Expr::Identifier(action.pos, functions::PRINT.into());
                action.pipe.commands.push(CommandNode { pos: action.pos, args: vec![call] });
            }
            Node::If(branch) => {
                print_as_go(&mut branch.body);
                branch.else_body.iter_mut().for_each(print_as_go);
            }
            Node::Range(branch) | Node::With(branch) => {
                print_as_go(&mut branch.body);
                branch.else_body.iter_mut().for_each(print_as_go);
            }
            _ => {}
        }
    }
}

fn map(pairs: &BTreeMap<String, String>) -> BTreeMap<Arc<str>, Value> {
    pairs.iter().map(|(n, v)| (n.as_str().into(), Value::String(v.as_str().into()))).collect()
}

/// A text that ends in an error rather than grow beyond its bound.
struct Capped(String);

impl fmt::Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Finds the labels that a template names, so that absent ones can be empty texts as in Go, and functions that do not exist.
#[derive(Default)]
struct Survey {
    labels: Vec<String>,
    unknown: Option<(String, usize)>,
    calls: bool,
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
                Node::Template(_) | Node::Define(_) => self.calls = true,
                Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) {
        pipe.commands.iter().flat_map(|command| &command.args).for_each(|arg| self.expr(arg));
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Variable(_, name, fields) => {
                let first = if name == "$labels" { fields.first() } else { None };
                let nested = if name == "$" && fields.first().is_some_and(|f| f == "Labels") {
                    fields.get(1)
                } else {
                    None
                };
                self.labels.extend(first.or(nested).map(ToString::to_string));
            }
            Expr::Field(_, fields) if fields.first().is_some_and(|field| field == "Labels") => {
                self.labels.extend(fields.get(1).map(ToString::to_string));
            }
            Expr::Identifier(pos, name) if !functions::exists(name) => {
                self.unknown.get_or_insert_with(|| (name.to_string(), pos.line));
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expr(inner),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, value: f64) -> String {
        let labels = [("app", "checkout"), ("host", "db-1.example.com:5432")];
        let labels: Pairs = labels.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let external = Pairs::from([("region".to_owned(), "eu".to_owned())]);
        let subject = Subject { labels: &labels, external_labels: &external, value };
        Template::parse("__alert_A", text, "http://grafana/sub")
            .map_or_else(|e| e, |template| template.render(subject))
    }

    #[test]
    fn templates() {
        let check = |text: &str, value: f64, want: &str| assert_eq!(render(text, value), want, "{text}");
        check("plain", 1.0, "plain");
        check("{{ $labels.app }} {{ .Labels.app }} {{$labels.absent}}|", 1.0, "checkout checkout |");
        check(
            "{{ $value }} {{ .Value }} {{ $value | humanize }}",
            1234567.0,
            "1.234567e+06 1.234567e+06 1.235M",
        );
        check("{{ $value }}", 0.25, "0.25");
        check(
            "{{ $externalLabels.region }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}",
            1.0,
            "eu http://grafana/sub http://grafana/sub /sub",
        );
        check("{{ if eq $labels.env \"prod\" }}a{{ else }}b{{ end }}", 1.0, "b");
        check("{{ with $labels.app }}<{{ . }}>{{ end }}", 1.0, "<checkout>");
        check(
            "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
            1.0,
            "app=checkout;host=db-1.example.com:5432;",
        );
        check("{{ printf \"%.2f %v\" $value 1 }} {{ print $value }}", 1.0 / 3.0, "0.33 1 0.3333333333333333");
        check("{{ printf \"%v\" $value }} {{ print $value $value \"a\" }}", 1e21, "1e+21 1e+21 1e+21a");
        check("{{ $value }}", f64::NEG_INFINITY, "-Inf");
        check(
            "{{ $labels.app | toUpper }} {{ title \"ab cd\" }} {{ toLower \"AB\" }}",
            1.0,
            "CHECKOUT Ab Cd ab",
        );
        check(
            "{{ match \"^check\" $labels.app }} {{ reReplaceAll \"(c)h\" \"$1-\" $labels.app }}",
            1.0,
            "true c-eckout",
        );
        check(
            "{{ stripPort $labels.host }} {{ stripDomain $labels.host }}",
            1.0,
            "db-1.example.com db-1:5432",
        );
        check("{{ index $labels \"absent\" }}|{{ index $labels \"app\" }}", 1.0, "|checkout");
        check("{{ $value | humanizePercentage }}", 0.1234, "12.34%");
        check("{{ $value | humanizeDuration }}", 93_784.0, "1d 2h 3m 4s");
        check("{{ humanizeTimestamp $value }}", 1_435_065_584.128, "2015-06-23 13:19:44.128 +0000 UTC");
        check("{{ parseDuration \"1h30m\" }}", 1.0, "5400");
        check(
            "{{ humanize \"x\" }}",
            1.0,
            "<error expanding template: execution error: strconv.ParseFloat: parsing \"x\": invalid syntax>",
        );
    }

    #[test]
    fn refused() {
        let error = |text: &str| Template::parse("__alert_A", text, "").unwrap_err();
        assert!(error("{{ .x").starts_with("template: __alert_A:1:"), "{}", error("{{ .x"));
        assert_eq!(error("a\n{{ query \"x\" }}"), "template: __alert_A:2: function \"query\" not defined");
        assert!(error("{{ define \"a\" }}{{ template \"a\" }}{{ end }}").contains("not available"));
        assert!(error(&"x".repeat(MAX_BYTES + 1)).contains("the limit"));
    }

    #[test]
    fn bounded() {
        let check = |text: &str| {
            let text = render(text, 1.0);
            assert!(text.starts_with("<error expanding template"), "{} bytes: {text:.200}", text.len());
        };
        check("{{ range 1000000000 }}x{{ end }}");
        check("{{ range 900 }}{{ printf \"%900d\" 1 }}{{ end }}");
        check("{{ printf \"%90000d\" 1 }}");
        check(&format!("{{{{ $x := \"aa\" }}}}{}", "{{ $x = printf \"%s%s\" $x $x }}".repeat(60)));
        check(&format!("{{{{ reReplaceAll \"\" \"{0}\" \"{0}\" }}}}", "x".repeat(4000)));
    }
}

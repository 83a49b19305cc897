//! Configuration: defaults < YAML < flags, with every problem reported at once, by file, line and YAML path.
//!
//! A component declares its section as a plain struct beside its code, `#[derive(Serialize, Deserialize)]
//! #[serde(default)]`, and the root implements [`Config`]. Unknown keys are errors, keys that the products we replace know
//! and we do not need are accepted and named once ([`Unneeded`]). Two things to avoid in such structs, because serde hides
//! what happens inside them: `#[serde(flatten)]` and untagged enums (unknown keys pass unseen there; use [`Value`]). Fields
//! that hold credentials are [`Secret`]s, and their default is empty.

mod de;
mod expand;
mod node;
mod path;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::{collections::BTreeSet, fmt};

use serde::{Serialize, de::DeserializeOwned};

use node::{Node, Origin};
use path::Path;
pub use types::{ByteSize, Duration, Present, Secret};
pub use value::Value;

/// Newtype name by which [`Value`] asks our deserializer for the node itself.
const VALUE: &str = "$service::config::Value";

/// How `${…}` is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// As Loki, Tempo and Promtail do, in the text before it is YAML: `${VAR}`, `${VAR:-default}`. The form with a default
    /// and that of a variable that is set are expanded always; with `-config.expand-env` an unset `${VAR}` becomes
    /// empty, `$$` a dollar and `\\` a backslash.
    #[default]
    Loki,
    /// As the OpenTelemetry Collector does, in each scalar: `${env:NAME}`, `${env:NAME:-default}`, `${NAME}`,
    /// `${file:/path}`, `$$`. A scalar that is nothing but one of these takes the type of its value.
    Collector,
}

/// The root of a binary's configuration.
pub trait Config: Default + Serialize + DeserializeOwned + Send + 'static {
    /// Expansion dialect of the file.
    const DIALECT: Dialect = Dialect::Loki;

    /// Keys of the product we replace that have no meaning here: accepted, and named in one warning.
    fn unneeded() -> Unneeded {
        Unneeded::default()
    }

    /// Checks what types cannot: relations between fields, sections kept as [`Value`]. Runs on what could be read, also when
    /// other problems were found.
    fn check(&self, problems: &mut Problems) {
        let _ = problems;
    }

    /// Log level and format, when the configuration has them.
    fn logging(&self) -> Logging {
        Logging::default()
    }

    /// How long a shutdown may take.
    fn grace(&self) -> std::time::Duration {
        std::time::Duration::from_secs(30)
    }

    /// The YAML path a Go-style flag sets: `server.http-listen-port` → `server.http_listen_port`. The default maps
    /// `log.level` and `log.format` into `server` and turns dashes into underscores.
    fn flag_path(flag: &str) -> String {
        match flag {
            "log.level" => "server.log_level".to_owned(),
            "log.format" => "server.log_format".to_owned(),
            other => other.replace('-', "_"),
        }
    }

    /// The YAML that a Go-style flag's value stands for, where it is written otherwise: `a=b,c=d` of a map.
    fn flag_value(flag: &str, value: &str) -> String {
        let _ = flag;
        value.to_owned()
    }
}

/// Logging as the configuration wants it; `None` leaves the default (`info`, JSON).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// `debug`, or directives such as `info,h2=warn`.
    pub level: Option<String>,
    /// Format of the lines.
    pub format: Option<telemetry::Format>,
}

/// Patterns of keys that are known but not needed. A pattern is a path with dots; `*` stands for one key or one list
/// index; a pattern covers everything below it: `schema_config`, `common.ring`, `scrape_configs.*.journal`.
#[derive(Clone, Debug, Default)]
pub struct Unneeded(Vec<String>);

impl Unneeded {
    /// A list of patterns.
    pub fn new(patterns: &[&str]) -> Unneeded {
        Unneeded(patterns.iter().map(|&p| p.to_owned()).collect())
    }

    /// Adds a section's own list under the path where the section stands.
    pub fn with(mut self, path: &str, section: Unneeded) -> Unneeded {
        self.0.extend(section.0.into_iter().map(|p| format!("{path}.{p}")));
        self
    }

    fn covers(&self, path: &Path, base: usize) -> bool {
        self.0.iter().any(|pattern| path.is_under(pattern, base))
    }
}

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File name, or the flag; `None` when nobody wrote it (a default, a missing section).
    pub source: Option<String>,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Path such as `server.http_listen_port` or `clients[0].url`; empty for the whole document.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
    layer: u16,
}

impl Problem {
    fn at(path: &Path, origin: Origin, message: impl Into<String>) -> Problem {
        let line = (origin.line > 0).then_some(origin.line);
        Problem { source: None, line, path: path.to_string(), message: message.into(), layer: origin.layer }
    }
}

/// `config.yaml:12: server.http_listen_port: expected …`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, self.line) {
            (Some(source), Some(line)) => write!(f, "{source}:{line}: ")?,
            (Some(source), None) => write!(f, "{source}: ")?,
            (None, _) => {}
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.path, self.message)
    }
}

/// Problems collected while reading or checking, and what was seen on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    unneeded: BTreeSet<String>,
    warnings: Vec<String>,
}

impl Problems {
    /// Adds one found by a check; the file and line of `path` are put in by themselves.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.list.push(Problem {
            source: None,
            line: None,
            path: path.into(),
            message: message.into(),
            layer: u16::MAX,
        });
    }

    /// Runs the check of a section that does not know where it stands: what it adds gets `path` in front.
    pub fn under(&mut self, path: &str, check: impl FnOnce(&mut Problems)) {
        let mut inner = Problems::default();
        check(&mut inner);
        let join = |rest: &str| if rest.is_empty() { path.to_owned() } else { format!("{path}.{rest}") };
        for mut problem in inner.list {
            // Those with a line came from a `Value`, which knows its whole path.
            if problem.layer == u16::MAX {
                problem.path = join(&problem.path);
            }
            self.list.push(problem);
        }
        self.unneeded.extend(inner.unneeded);
        self.warnings.extend(inner.warnings);
    }

    /// Adds a remark that is not an error.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Adds a key to those that are accepted without effect.
    pub fn unneeded(&mut self, path: impl Into<String>) {
        self.unneeded.insert(path.into());
    }

    /// Whether all is well.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

/// One line per problem.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.iter().try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

impl std::error::Error for Problems {}

/// One layer of configuration; later ones win: maps join deeply, everything else is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// YAML text and the name it is reported under.
    Yaml {
        /// File name for messages.
        name: String,
        /// The text.
        text: String,
    },
    /// One value set by a flag.
    Set {
        /// YAML path with dots (or `::`, as the Collector writes it).
        path: String,
        /// Value, read as YAML.
        value: String,
        /// The flag, for messages.
        flag: String,
    },
}

impl Layer {
    fn name(&self) -> &str {
        match self {
            Layer::Yaml { name, .. } => name,
            Layer::Set { flag, .. } => flag,
        }
    }
}

/// A configuration that was read without problems.
#[derive(Clone, Debug)]
pub struct Loaded<C> {
    /// The effective configuration.
    pub config: C,
    /// Paths that were given but are not needed here; the caller names them in one warning.
    pub unneeded: Vec<String>,
    /// Other remarks (unset variables).
    pub warnings: Vec<String>,
}

/// Reads `layers` over the defaults. `expand_all` is `-config.expand-env`; `variable` looks up an environment variable.
pub fn load<C: Config>(
    layers: &[Layer],
    expand_all: bool,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded<C>, Problems> {
    let mut problems = Problems::default();
    let mut root = Node::null();
    for (index, layer) in layers.iter().enumerate() {
        let index = u16::try_from(index).unwrap_or(u16::MAX - 1);
        match layer_node::<C>(layer, index, expand_all, variable, &mut problems.warnings) {
            Ok(node) if node.is_null() => {}
            Ok(node) => root.merge(node),
            Err(error) => {
                let origin = Origin { layer: index, line: error.line };
                problems.list.push(Problem::at(&Path::default(), origin, error.message));
            }
        }
    }
    let read_all = problems.is_empty();
    let config = de::read::<C>(&root, &Path::default(), &C::unneeded(), &mut problems);
    // When a whole file could not be read, everything a check would miss stands in it.
    if let (Some(config), true) = (&config, read_all) {
        config.check(&mut problems);
    }
    for problem in &mut problems.list {
        if problem.layer == u16::MAX
            && let Some(origin) = find(&root, &problem.path)
        {
            (problem.layer, problem.line) = (origin.layer, Some(origin.line).filter(|&line| line > 0));
        }
        let written = problem.line.is_some();
        problem.source =
            layers.get(usize::from(problem.layer)).filter(|_| written).map(|l| l.name().to_owned());
        if let Some(Layer::Set { .. }) = layers.get(usize::from(problem.layer)) {
            problem.line = None;
        }
    }
    match config {
        Some(config) if problems.is_empty() => {
            let unneeded = problems.unneeded.into_iter().collect();
            Ok(Loaded { config, unneeded, warnings: problems.warnings })
        }
        _ => {
            problems.list.sort_by_key(|problem| (problem.layer, problem.line.unwrap_or(usize::MAX)));
            Err(problems)
        }
    }
}

fn layer_node<C: Config>(
    layer: &Layer,
    index: u16,
    expand_all: bool,
    variable: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Node, node::ParseError> {
    match layer {
        Layer::Yaml { text, .. } => match C::DIALECT {
            Dialect::Loki => node::parse(&expand::text(text, expand_all, variable, warnings), index),
            Dialect::Collector => {
                let mut node = node::parse(text, index)?;
                expand::tree(&mut node, variable, warnings)?;
                Ok(node)
            }
        },
        Layer::Set { path, value, .. } => {
            let mut node = node::parse(value, index)?;
            let steps: Vec<&str> =
                if path.contains("::") { path.split("::").collect() } else { path.split('.').collect() };
            for step in steps.iter().rev() {
                let origin = node.origin;
                node = Node { kind: node::Kind::Map(vec![(step.to_string(), node)]), origin };
            }
            Ok(node)
        }
    }
}

/// Where the deepest written node on a path stands.
fn find(root: &Node, path: &str) -> Option<Origin> {
    let (mut node, mut found) = (root, None);
    for part in path.split('.') {
        let (key, indices) = part.split_once('[').unwrap_or((part, ""));
        let Some(next) = node.get(key) else { return found };
        (node, found) = (next, Some(next.origin));
        for index in indices.split('[').filter_map(|index| index.trim_end_matches(']').parse::<usize>().ok())
        {
            let node::Kind::List(items) = &node.kind else { return found };
            let Some(item) = items.get(index) else { return found };
            (node, found) = (item, Some(item.origin));
        }
    }
    found
}

/// Reads one YAML text over the defaults, without environment: for tests and embedded defaults.
pub fn from_text<C: Config>(text: &str) -> Result<Loaded<C>, Problems> {
    load(&[Layer::Yaml { name: "config".to_owned(), text: text.to_owned() }], false, &|_| None)
}

/// The effective configuration as YAML. [`Secret`]s are hidden, and for the sections kept as [`Value`] everything under a
/// key that sounds like one (`password`, `token`, `authorization`, …), and passwords within URLs.
pub fn print<C: Serialize>(config: &C) -> String {
    let printed = serde_json::to_value(config).map_err(|error| error.to_string()).and_then(|json| {
        let mut node = Node::from_json(&json);
        hide(&mut node);
        serde_saphyr::to_string(&node::Typed(&node)).map_err(|error| error.to_string())
    });
    printed.unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
}

fn hide(node: &mut Node) {
    const SECRET: [&str; 9] = [
        "password",
        "secret",
        "token",
        "api_key",
        "apikey",
        "authorization",
        "credentials",
        "access_key",
        "private_key",
    ];
    match &mut node.kind {
        node::Kind::List(items) => items.iter_mut().for_each(hide),
        node::Kind::Map(entries) => {
            for (key, value) in entries {
                let key = key.to_ascii_lowercase().replace('-', "_");
                match &mut value.kind {
                    node::Kind::Scalar { text, plain }
                        if !text.is_empty() && SECRET.iter().any(|s| key.ends_with(s)) =>
                    {
                        if !matches!(node::Plain::read(text), node::Plain::Bool(_) | node::Plain::Null) {
                            (*text, *plain) = ("<secret>".to_owned(), false);
                        }
                    }
                    _ => hide(value),
                }
            }
        }
        node::Kind::Scalar { text, .. } => {
            let user = text.find("://").map(|at| at + 3);
            let Some(rest) = user.map(|at| &text[at..]) else { return };
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if let Some((name, _)) = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
                let shown = format!("{name}:<secret>");
                let end = rest.find('@').unwrap_or(0);
                *text = format!("{}{shown}{}", &text[..text.len() - rest.len()], &rest[end..]);
            }
        }
    }
}

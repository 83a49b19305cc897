//! The command line every binary shares, in our own form and in the one Loki, Tempo, Promtail and the Collector taught
//! operators: `-config.file=x`, `-target=all`, `-server.http-listen-port=3100`, `--set=a.b=c`, `validate`.

use std::ffi::OsString;

use clap::{ArgMatches, Parser};

/// Flags of every binary. Flatten it into an own struct to add more, or use it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Parser)]
#[command(disable_version_flag = true)]
pub struct Cli {
    /// Configuration file; may repeat, later ones win (also -config.file)
    #[arg(long = "config", value_name = "FILE")]
    pub config: Vec<String>,
    /// Expand every ${VAR} of the configuration, unset ones too (also -config.expand-env)
    #[arg(long)]
    pub expand_env: bool,
    /// Roles to play, separated by commas; all when absent (also -target)
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    pub role: Vec<String>,
    /// Set one value of the configuration; may repeat (also -server.http-listen-port=3100 and the like)
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Check the configuration, print every problem, and exit (also -verify-config, -check-syntax, validate)
    #[arg(long)]
    pub check: bool,
    /// Print the effective configuration, secrets hidden, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Print the effective configuration to standard error, and go on
    #[arg(long)]
    pub print_config_stderr: bool,
    /// Print a table of all metrics, and exit
    #[arg(long)]
    pub print_metrics: bool,
    /// Ask this URL and exit: with 0 if it answers with success, else with 1 (health checks of containers)
    #[arg(long, value_name = "URL")]
    pub probe: Option<String>,
    /// Print name, version and commit, and exit
    #[arg(long, short = 'V')]
    pub version: bool,
    /// A flag in Go's form, `name=value`, as the shim found it.
    #[arg(long, hide = true)]
    pub(crate) go_flag: Vec<String>,
}

impl AsRef<Cli> for Cli {
    fn as_ref(&self) -> &Cli {
        self
    }
}

/// A role that a binary does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role `{name}`: this binary plays {known}, or all")]
pub struct UnknownRole {
    name: String,
    known: String,
}

impl Cli {
    /// The roles asked for, out of `known`; all of them when none or `all` is given.
    pub fn roles<R: Copy + PartialEq>(&self, known: &[(&str, R)]) -> Result<Vec<R>, UnknownRole> {
        let all = || known.iter().map(|(_, role)| *role).collect::<Vec<_>>();
        let mut roles = Vec::new();
        for name in self.role.iter().map(|name| name.trim()) {
            match known.iter().find(|(n, _)| *n == name) {
                _ if name == "all" => return Ok(all()),
                Some((_, role)) if !roles.contains(role) => roles.push(*role),
                Some(_) => {}
                None => {
                    let known = known.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
                    return Err(UnknownRole { name: name.to_owned(), known });
                }
            }
        }
        Ok(if roles.is_empty() { all() } else { roles })
    }
}

/// Reads a command line (the program's name first) as `A`: [`Cli`], or a struct that flattens it.
pub fn parse<A: Parser>(
    name: &'static str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<A, clap::Error> {
    // One version flag for all, ours.
    let command = A::command().name(name).bin_name(name).disable_version_flag(true);
    let matches: ArgMatches = command.try_get_matches_from(shim(args))?;
    A::from_arg_matches(&matches)
}

/// Rewrites Go's flags into ours. Go knows one dash and two as the same, and words with dots.
fn shim(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter().peekable();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    if args.peek().is_some_and(|arg| arg == "validate") {
        args.next();
        out.push("--check".into());
    }
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        let Some((name, value)) = arg.to_str().and_then(flag) else {
            out.push(arg);
            continue;
        };
        let mut switch = |flag: &str| {
            if value.is_none_or(is_true) {
                out.push(flag.into());
            }
        };
        match name {
            "config.expand-env" | "expand-env" => switch("--expand-env"),
            "verify-config" | "check-syntax" | "check" => switch("--check"),
            "print-config-stderr" => switch("--print-config-stderr"),
            "print-config" => switch("--print-config"),
            "version" => switch("--version"),
            "config.file" => out.push(long("config", value)),
            "target" => out.push(long("role", value)),
            _ if name.contains('.') => {
                let value = match value {
                    Some(value) => value.to_owned(),
                    // `-a.b c`; without a value it is a switch.
                    None => {
                        match args.next_if(|next| next.to_str().is_some_and(|next| !next.starts_with('-'))) {
                            Some(next) => next.to_string_lossy().into_owned(),
                            None => "true".to_owned(),
                        }
                    }
                };
                out.push(format!("--go-flag={name}={value}").into());
            }
            _ => out.push(long(name, value)),
        }
    }
    out.extend(args);
    out
}

/// Name and value of a long flag; `None` for anything else (`-h`, a value).
fn flag(arg: &str) -> Option<(&str, Option<&str>)> {
    let body = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    };
    (name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic())).then_some((name, value))
}

fn long(name: &str, value: Option<&str>) -> OsString {
    match value {
        Some(value) => format!("--{name}={value}").into(),
        None => format!("--{name}").into(),
    }
}

/// Go's words for true.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let args = shim(std::iter::once("x").chain(line.split_whitespace()).map(OsString::from));
        let shown: Vec<_> = args[1..].iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(shown.join(" "), expected, "for {line}");
    }

    #[test]
    fn go_flags_become_ours() {
        check("", "");
        check("--config a.yaml --check", "--config a.yaml --check");
        check("-config.file=a.yaml", "--config=a.yaml");
        check("-config.file a.yaml", "--config a.yaml");
        check("--config.file=a=b.yaml", "--config=a=b.yaml");
        check("-config.expand-env", "--expand-env");
        check("-config.expand-env=true -target=all", "--expand-env --role=all");
        check("-config.expand-env=false", "");
        check("-target read,write", "--role read,write");
        check("-verify-config", "--check");
        check("-check-syntax", "--check");
        check("-version", "--version");
        check("-print-config-stderr", "--print-config-stderr");
        check("-log.level=debug", "--go-flag=log.level=debug");
        check(
            "-server.http-listen-port 3100 -x.y",
            "--go-flag=server.http-listen-port=3100 --go-flag=x.y=true",
        );
        check("--server.grpc-listen-port=1", "--go-flag=server.grpc-listen-port=1");
        check("-dry-run -h", "--dry-run -h");
        check("--set=a.b=c", "--set=a.b=c");
        check("validate --config=x", "--check --config=x");
        check("-- -target=x", "-- -target=x");
        check("-5 - -", "-5 - -");
    }

    fn read(line: &str) -> Result<Cli, String> {
        let args = std::iter::once("timberline").chain(line.split_whitespace()).map(OsString::from);
        parse::<Cli>("timberline", args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_typed() {
        let cli =
            read("-config.file=a --config b -target=x,y -log.level=debug --set s.t=1 -config.expand-env")
                .unwrap();
        let expected = Cli {
            config: vec!["a".to_owned(), "b".to_owned()],
            expand_env: true,
            role: vec!["x".to_owned(), "y".to_owned()],
            set: vec!["s.t=1".to_owned()],
            go_flag: vec!["log.level=debug".to_owned()],
            ..Cli::default()
        };
        assert_eq!(cli, expected);
        assert!(read("-version").unwrap().version);
        assert!(read("--bogus").unwrap_err().contains("unexpected argument '--bogus'"));
        assert!(read("-bogus=1").unwrap_err().contains("'--bogus'"));
        assert!(read("stray").unwrap_err().contains("'stray'"));
    }

    #[derive(Debug, Parser)]
    struct More {
        #[command(flatten)]
        cli: Cli,
        /// Print and send nothing
        #[arg(long)]
        dry_run: bool,
    }

    #[test]
    fn binaries_add_flags() {
        let args = ["agent", "-dry-run", "-config.file=x", "-version"].map(OsString::from);
        let more = parse::<More>("agent", args).unwrap();
        assert!(more.dry_run && more.cli.version);
        assert_eq!(more.cli.config, ["x"]);
    }

    #[test]
    fn roles_are_checked() {
        let known = [("distributor", 1), ("ingester", 2)];
        let roles = |line: &str| read(line).unwrap().roles(&known).map_err(|error| error.to_string());
        assert_eq!(roles(""), Ok(vec![1, 2]));
        assert_eq!(roles("-target=all"), Ok(vec![1, 2]));
        assert_eq!(roles("--role=ingester,ingester"), Ok(vec![2]));
        let error = "unknown role `read`: this binary plays distributor, ingester, or all";
        assert_eq!(roles("-target=read"), Err(error.to_owned()));
    }
}

//! The agent's command line: that of every service, and what Promtail has besides.

use std::path::{Path, PathBuf};

use service::{Cli, clap};

use crate::config::Config;

/// Flags of the agent. Promtail's with a dot in their name set the keys of the configuration.
#[derive(Debug, Clone, Default, clap::Parser)]
pub struct Args {
    /// What every service has.
    #[command(flatten)]
    pub cli: Cli,
    /// Print entries rather than send them, and remember no position
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set, value_parser = go_bool)]
    pub dry_run: bool,
    /// Print what every stage changes; usually with -dry-run
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set, value_parser = go_bool)]
    pub inspect: bool,
    /// Read standard input through the stages of the first job, and end with it
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set, value_parser = go_bool)]
    pub stdin: bool,
    /// Log the configuration, last line first, as Grafana shows logs
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set, value_parser = go_bool)]
    pub log_config_reverse_order: bool,
    /// Streams that may have lines at a time; 0 is no limit
    #[arg(long)]
    pub max_streams: Option<usize>,
    /// Longest line, such as 256kb; 0 is no limit
    #[arg(long, value_parser = size)]
    pub max_line_size: Option<service::config::ByteSize>,
    /// Cut longer lines rather than drop them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_parser = go_bool)]
    pub max_line_size_truncate: Option<bool>,
    /// For explain: answer as JSON
    #[arg(long)]
    pub json: bool,
    /// `explain FILE`: tell what becomes of a file, and why nothing is sent
    #[arg(value_name = "explain FILE", num_args = 0..=2)]
    pub(crate) words: Vec<String>,
}

impl AsRef<Cli> for Args {
    fn as_ref(&self) -> &Cli {
        &self.cli
    }
}

impl Args {
    /// Sets what flags without a dot say of the configuration.
    pub fn apply(&self, config: &mut Config) {
        let limits = &mut config.limits_config;
        limits.max_streams = self.max_streams.unwrap_or(limits.max_streams);
        limits.max_line_size = self.max_line_size.unwrap_or(limits.max_line_size);
        limits.max_line_size_truncate = self.max_line_size_truncate.unwrap_or(limits.max_line_size_truncate);
        config.target_config.stdin |= self.stdin;
    }

    /// The file that is to be explained; an error if there are words of another kind.
    pub fn explain(&self) -> Result<Option<PathBuf>, String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words[..] {
            [] => Ok(None),
            ["explain", file] => {
                Ok(Some(std::path::absolute(file).unwrap_or_else(|_| Path::new(file).to_owned())))
            }
            ["explain"] => Err("explain which file? write: explain FILE".to_owned()),
            _ => Err(format!("unexpected argument '{}': the one command is explain FILE", words.join(" "))),
        }
    }
}

/// As Go reads truth values.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("'{other}' is neither true nor false")),
    }
}

fn size(text: &str) -> Result<service::config::ByteSize, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn parse(line: &str) -> Result<Args, String> {
        let args = std::iter::once("timberline-agent").chain(line.split_whitespace()).map(OsString::from);
        service::cli::parse::<Args>("timberline-agent", args).map_err(|error| error.to_string())
    }

    /// The configuration that flags come to, over one with a job.
    fn config(line: &str) -> Config {
        let args = parse(line).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, "clients: [{url: 'http://h/push', external_labels: {a: own}}]\n").unwrap();
        let mut cli = args.cli.clone();
        cli.config.insert(0, path.to_string_lossy().into_owned());
        let mut config = service::read::<Config>(&cli).unwrap().config;
        args.apply(&mut config);
        config
    }

    #[test]
    fn switches_in_gos_forms() {
        let check = |line: &str, read: fn(&Args) -> bool, want: bool| {
            assert_eq!(read(&parse(line).unwrap()), want, "{line}");
        };
        check("-dry-run", |a| a.dry_run, true);
        check("--dry-run", |a| a.dry_run, true);
        check("-dry-run=true", |a| a.dry_run, true);
        check("--dry-run=false", |a| a.dry_run, false);
        check("-inspect=1 -stdin", |a| a.inspect && a.stdin, true);
        check("-check-syntax -config.file=x", |a| a.cli.check, true);
        check("-print-config-stderr", |a| a.cli.print_config_stderr, true);
        check("-log-config-reverse-order", |a| a.log_config_reverse_order, true);
        check("-config.expand-env=true", |a| a.cli.expand_env, true);
        check("-version", |a| a.cli.version, true);
        assert!(parse("-dry-run=maybe").unwrap_err().contains("neither true nor false"));
        assert!(parse("-no-such-flag").unwrap_err().contains("--no-such-flag"));
    }

    #[test]
    fn flags_set_keys() {
        let check = |line: &str, read: fn(&Config) -> String, want: &str| {
            assert_eq!(read(&config(line)), want, "{line}");
        };
        check("-log.level=debug", |c| c.server.log_level.clone(), "debug");
        check("-server.http-listen-port 0", |c| c.server.http_listen_port.to_string(), "0");
        check("--server.http-listen-address=::", |c| c.server.http_listen_address.clone(), "::");
        check(
            "-server.enable-runtime-reload",
            |c| format!("{:?}", c.server.enable_runtime_reload),
            "Some(true)",
        );
        check("-server.disable=true", |c| format!("{:?}", c.server.disable), "Some(true)");
        check("-positions.file=/p.yaml", |c| c.positions.filename.clone(), "/p.yaml");
        check("-positions.sync-period=3s", |c| c.positions.sync_period.to_string(), "3s");
        check("-target.sync-period 1m", |c| c.target_config.sync_period.to_string(), "1m0s");
        check(
            "-limit.readline-rate=5 -limit.readline-rate-enabled",
            |c| format!("{} {}", c.limits_config.readline_rate, c.limits_config.readline_rate_enabled),
            "5 true",
        );
        check(
            "-max-streams=3 -max-line-size 5kb -max-line-size-truncate",
            |c| {
                let l = &c.limits_config;
                format!("{} {} {}", l.max_streams, l.max_line_size.get(), l.max_line_size_truncate)
            },
            "3 5120 true",
        );
        check("-stdin", |c| c.target_config.stdin.to_string(), "true");
        let url = |c: &Config| c.all_clients().iter().map(|c| c.url.clone()).collect::<Vec<_>>().join(" ");
        check("-client.url=http://b/push", url, "http://h/push http://b/push");
        let tenants =
            |c: &Config| format!("{:?}", c.client.as_ref().map(|c| (c.tenant_id.clone(), c.batchsize.get())));
        check(
            "-client.url=http://b/push -client.tenant-id=t -client.batch-size-bytes=10",
            tenants,
            "Some((\"t\", 10))",
        );
    }

    #[test]
    fn labels_of_flags_are_every_clients() {
        let config = config("-client.external-labels=a=flag,b=2 -client.url=http://b/push");
        let labels: Vec<_> = config.all_clients().into_iter().map(|client| client.external_labels).collect();
        let pairs = |pairs: [(&str, &str); 2]| pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        assert_eq!(labels, [pairs([("a", "own"), ("b", "2")]), pairs([("a", "flag"), ("b", "2")])]);
    }

    #[test]
    fn the_one_command() {
        let explain = |line: &str| parse(line).unwrap().explain();
        assert_eq!(explain("-config.file=x"), Ok(None));
        assert_eq!(explain("explain /l/a.log --config x"), Ok(Some(PathBuf::from("/l/a.log"))));
        assert_eq!(explain("--config x explain /l/a.log"), Ok(Some(PathBuf::from("/l/a.log"))));
        assert!(explain("explain").unwrap_err().contains("explain FILE"));
        assert!(explain("stray").unwrap_err().contains("'stray'"));
    }
}

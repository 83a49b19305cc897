//! `timberline-agent explain FILE`: asks the agent that runs with this configuration, or goes by the files alone.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use service::{Program, ServerConfig};

use super::Explanation;
use crate::board::Board;
use crate::config::Config;
use crate::discovery::{Announce, FileDiscovery, FileJob, group};
use crate::metrics::AgentMetrics;
use crate::outlets::{Outlets, World};
use crate::run::{Live, positions};
use crate::targets::TargetMetrics;
use crate::{Args, with_defaults};

/// The whole command.
pub(crate) fn command(args: &Args, file: &Path, program: &Program) -> ExitCode {
    match explain(args, file) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error:#}", program.name);
            ExitCode::FAILURE
        }
    }
}

fn explain(args: &Args, file: &Path) -> Result<String> {
    let mut config = service::read::<Config>(&args.cli).map_err(anyhow::Error::msg)?.config;
    args.apply(&mut config);
    let config = with_defaults(config, false).map_err(anyhow::Error::msg)?;
    if let Some(url) = url(&config.server, file) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if let Ok(text) = runtime.block_on(ask(&url, args.json)) {
            return Ok(text);
        }
    }
    let explanation = Explanation::of(&offline(config)?, file, false);
    Ok(match args.json {
        true => serde_json::to_string_pretty(&explanation)? + "\n",
        false => explanation.to_string(),
    })
}

/// Where the running agent explains a file; `None` if the configuration does not say where it is.
fn url(server: &ServerConfig, file: &Path) -> Option<reqwest::Url> {
    if server.http_listen_port == 0 || server.disable == Some(true) {
        return None;
    }
    let host = match server.http_listen_address.as_str() {
        "" | "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let scheme = if server.http_tls_config.cert_file.is_empty() { "http" } else { "https" };
    let prefix = server.http_path_prefix.trim_end_matches('/');
    let url = format!("{scheme}://{host}:{}{prefix}/explain", server.http_listen_port);
    reqwest::Url::parse_with_params(&url, [("path", file.to_str()?)]).ok()
}

async fn ask(url: &reqwest::Url, json: bool) -> Result<String> {
    let client = service::trust::by_system(reqwest::Client::builder(), [url])?;
    let client = client.timeout(Duration::from_secs(5)).build()?;
    let accept = if json { "application/json" } else { "text/plain" };
    let response = client.get(url.clone()).header(http::header::ACCEPT, accept).send().await?;
    if !response.status().is_success() {
        bail!("the agent answers {}", response.status());
    }
    Ok(response.text().await?)
}

/// What would be in force. Nothing is started, and no engine or API server asked.
pub(super) fn offline(config: Config) -> Result<Live> {
    let config = Arc::new(config);
    let world = World {
        metrics: AgentMetrics::default(),
        target_metrics: TargetMetrics::default(),
        local: None,
        dry_run: config.all_clients().is_empty(),
        inspect: false,
    };
    let outlets = Outlets::build(&config, &world)?;
    let board = Board::default();
    for (job, (scrape, way)) in config.scrape_configs.iter().zip(&outlets.ways).enumerate() {
        let files = |kind, part: usize| FileJob {
            job,
            rules: way.rules.to_vec(),
            docker: false,
            notes: board.notes(job, kind, part.to_string()),
        };
        if !scrape.static_configs.is_empty() {
            files("static_configs", 0).targets(scrape.static_configs.iter().flat_map(group), |_| {});
        }
        for (i, sd) in scrape.file_sd_configs.iter().enumerate() {
            let (commands, _) = std::sync::mpsc::sync_channel(1);
            let announce = Announce::new("", commands);
            let discovery =
                FileDiscovery::new(files("file_sd_configs", i), sd, announce, TargetMetrics::default());
            discovery.map_err(anyhow::Error::msg)?.once();
        }
        for (kind, is_there) in [
            ("docker_sd_configs", !scrape.docker_sd_configs.is_empty()),
            ("kubernetes_sd_configs", !scrape.kubernetes_sd_configs.is_empty()),
        ] {
            if is_there {
                let text = "only a running agent knows what it finds".to_owned();
                board.notes(job, kind, "").failing(text);
            }
        }
    }
    let positions = positions(&config, &world)?;
    Ok(Live { config, board, positions, clients: outlets.clients.clone() })
}

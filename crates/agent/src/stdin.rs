//! `-stdin`: lines of standard input through the stages of the first job, to the clients; the process ends with the input.

use std::io::{BufRead, Read as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use model::{Labels, Timestamp};
use service::{Phase, Process};

use crate::config::{Config, ScrapeConfig};
use crate::discovery::hostname;
use crate::entry::Entry;
use crate::outlets::{Outlets, World};
use crate::targets::{Inlet, Inlets};

/// Lines that may wait between the input and the stages.
const WAITING: usize = 256;

/// Builds it into a process: no listener, no target, no position.
pub(crate) fn build(mut config: Config, world: &World, process: &mut Process) -> Result<()> {
    config.scrape_configs.truncate(1);
    if config.scrape_configs.is_empty() {
        config.scrape_configs.push(ScrapeConfig { job_name: "stdin".to_owned(), ..ScrapeConfig::default() });
    }
    let mut outlets = Outlets::build(&Arc::new(config), world)?;
    let way = outlets.ways.first().cloned().context("there is no job")?;
    let inlet = Inlets::new(way, world.target_metrics.clone()).open();
    let labels = Labels::from_pairs([("job", "stdin".to_owned()), ("hostname", hostname())]);
    let shutdown = process.shutdown();
    process.once("agent/stdin", Phase::Drain, move |stop| async move {
        outlets.start();
        // Blocks until there is input, which may be never: it is left behind when the process ends.
        let (sender, mut lines) = tokio::sync::mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("agent/stdin".to_owned())
            .spawn(move || each_line(std::io::stdin().lock(), |line| sender.blocking_send(line).is_ok()))?;
        let mut inlet = inlet;
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => take(&mut inlet, &labels, line).await,
                    None => break,
                },
                () = tokio::time::sleep(TICK) => inlet.tick(),
                () = stop.cancelled() => break,
            }
        }
        inlet.finish();
        let ended = outlets.end().await;
        shutdown.begin("standard input has ended");
        ended
    });
    Ok(())
}

/// How often stages that wait for more lines are asked.
const TICK: Duration = Duration::from_millis(250);

async fn take(inlet: &mut Inlet, labels: &Labels, line: String) {
    inlet.room().await;
    inlet.enter(Entry::new(Timestamp::now(), line, labels.clone()), None);
}

/// A longer line comes in pieces.
const MAX_LINE: u64 = 16 << 20;

/// Hands on line after line until there are no more or `next` wants none.
fn each_line(mut input: impl BufRead, mut next: impl FnMut(String) -> bool) {
    let mut line = Vec::new();
    while input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        // As Promtail does, lines without a text are left out.
        if !text.is_empty() && !next(text.to_owned()) {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_input() {
        let mut lines = Vec::new();
        each_line(&b"one\n\ntwo\xff\r\nrest"[..], |line| {
            lines.push(line);
            true
        });
        assert_eq!(lines, ["one", "two\u{fffd}", "rest"]);
    }
}

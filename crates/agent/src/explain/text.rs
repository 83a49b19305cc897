//! An explanation for people.

use std::fmt;

use super::jobs::Claim;
use super::lines::{Traced, short};
use super::{Client, Explained, Explanation};
use crate::pages::percent;
use crate::pipeline::Outcome;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path)?;
        writeln!(f, "  verdict: {}", self.verdict)?;
        if !self.running {
            writeln!(f, "  source: the configuration and the positions file; no running agent answered")?;
        }
        if let Some(size) = self.size {
            writeln!(f, "  size: {size} bytes")?;
        }
        for job in &self.jobs {
            self.job(f, job)?;
        }
        for client in &self.clients {
            write_client(f, client, self.running)?;
        }
        Ok(())
    }
}

impl Explanation {
    fn job(&self, f: &mut fmt::Formatter<'_>, explained: &Explained) -> fmt::Result {
        let claim = match explained.job.claim {
            Claim::Reads => "reads it",
            Claim::Dropped => "does not read it",
            Claim::Misses => "is not for it",
        };
        writeln!(f, "job {} ({}) {claim}: {}", explained.job.job, explained.job.kind, explained.job.reason)?;
        if explained.job.claim != Claim::Reads {
            return Ok(());
        }
        writeln!(f, "  labels: {}", explained.job.labels)?;
        let size = self.size.unwrap_or(0);
        for position in &explained.positions {
            let percent = percent(position.offset, size);
            writeln!(
                f,
                "  client {}: {} of {size} bytes acknowledged ({percent} %)",
                position.client, position.offset
            )?;
        }
        if explained.positions.is_empty() {
            writeln!(f, "  position: none is kept yet")?;
        }
        explained.lines.iter().try_for_each(|line| write_line(f, line))
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, traced: &Traced) -> fmt::Result {
    writeln!(f, "  line: {}", traced.line)?;
    for seen in &traced.stages {
        match seen.outcome {
            Outcome::Dropped => writeln!(f, "    {}: drops it", seen.stage)?,
            Outcome::Kept => {
                writeln!(f, "    {}: keeps it for now, or a stage within has ended it", seen.stage)?
            }
            Outcome::Passed if seen.changes.is_empty() => writeln!(f, "    {}: changes nothing", seen.stage)?,
            Outcome::Passed => {
                let changes = seen.changes.iter().map(|change| match &change.after {
                    Some(after) => format!("{} = {}", change.field, model::quote(&short(after))),
                    None => format!("no {}", change.field),
                });
                writeln!(f, "    {}: {}", seen.stage, changes.collect::<Vec<_>>().join(", "))?;
            }
        }
    }
    for sent in &traced.sent {
        writeln!(f, "    sent: {} {} {}", sent.timestamp, sent.labels, sent.line)?;
    }
    match &traced.dropped {
        Some(why) => writeln!(f, "    not sent: {why}"),
        None => Ok(()),
    }
}

fn write_client(f: &mut fmt::Formatter<'_>, client: &Client, running: bool) -> fmt::Result {
    write!(f, "client {} ({})", client.name, client.host)?;
    match (running, client.state.last_sent) {
        (false, _) => write!(f, ": how it fares is not known")?,
        (true, Some(time)) => write!(f, ": last delivered {time}")?,
        (true, None) => write!(f, ": nothing delivered yet")?,
    }
    if client.state.is_waiting {
        write!(f, ", waiting to try again")?;
    }
    if client.state.refused > 0 {
        write!(f, ", {} batches refused", client.state.refused)?;
    }
    writeln!(f)?;
    match &client.state.last_error {
        Some(error) => writeln!(f, "  last error: {} {}", error.at, error.text),
        None => Ok(()),
    }
}

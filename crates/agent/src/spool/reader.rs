//! Reads a spool for one client: through stages of its own into the client's queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use disk::{LogError, LogReader};
use service::CancellationToken;

use super::Spool;
use super::record::{self, Lines};
use crate::progress::Progress;
use crate::source::Ranges;
use crate::targets::{Inlet, TICK};

/// A spool as one client reads it.
pub(crate) struct SpoolReader {
    spool: Arc<Spool>,
    inlet: Inlet,
    progress: Arc<Progress>,
    log: LogReader,
}

/// A pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);

impl SpoolReader {
    /// Reads for `client` until `stop`; where it stands stays with the spool.
    pub(crate) async fn run(
        spool: Arc<Spool>,
        client: String,
        inlet: Inlet,
        stop: CancellationToken,
    ) -> Result<()> {
        loop {
            if let Some((progress, log)) = spool.read_as(&client) {
                return Self { spool, inlet, progress, log }.read(stop).await;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn read(mut self, stop: CancellationToken) -> Result<()> {
        let mut ends = self.spool.ends.subscribe();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let end = *ends.borrow_and_update();
            let records = self.records(end).await?;
            match records {
                Ok(records) if records.is_empty() => tokio::select! {
                    Ok(()) = ends.changed() => {}
                    _ = ticks.tick() => self.inlet.tick(),
                    () = stop.cancelled() => {}
                },
                Ok(records) => {
                    for (position, record) in records {
                        if !self.take(position, record, &stop).await {
                            break;
                        }
                    }
                    self.inlet.tick();
                }
                Err(error) => {
                    self.spool.alarms.failing(&self.spool, &error.to_string());
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        self.inlet.finish();
        Ok(())
    }

    /// The next records below `end`.
    async fn records(&mut self, end: u64) -> Result<Result<Vec<(u64, Bytes)>, LogError>> {
        if self.log.position() >= end {
            return Ok(Ok(Vec::new()));
        }
        let (mut log, spool) = (self.log.clone(), self.spool.clone());
        let read = move || {
            let mut records = Ok(Vec::new());
            while log.position() < end && records.as_ref().is_ok_and(Vec::is_empty) {
                records = log.read(end).map(|mut records| {
                    spool.pass_over_holes(&mut records);
                    records
                });
            }
            (log, records)
        };
        let (log, records) = tokio::task::spawn_blocking(read).await?;
        self.log = log;
        Ok(records)
    }

    /// Hands on the lines of a record as there is room; `false` if the agent stops before the last.
    async fn take(&mut self, position: u64, record: Bytes, stop: &CancellationToken) -> bool {
        let (begin, behind) = (record::first_number(position), record::first_number(position + 1));
        // Of the first record some lines may be done.
        let done = self.progress.acknowledged();
        let lines = Lines::of(record).map(|lines| (begin..).zip(lines));
        let mut lines = match lines {
            Ok(lines) => lines.peekable(),
            Err(error) => return self.unreadable(position, error),
        };
        while let Some((number, line)) = lines.next() {
            let line = match line {
                Ok(line) => line,
                Err(error) => return self.unreadable(position, error),
            };
            if number < done {
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = self.inlet.room() => {}
            }
            // Positions of records come one after the other; only lines of one are numbered without gaps.
            let end = if lines.peek().is_some() { number + 1 } else { behind };
            let ticket = self.progress.open(end);
            self.inlet.enter_from(line, &ticket, Ranges::one(number, number + 1));
            ticket.done(1);
        }
        true
    }

    fn unreadable(&self, position: u64, error: record::RecordError) -> bool {
        self.spool.metrics.lost("spool", "corrupt", 1);
        tracing::error!(job = self.spool.job, position, %error, "a record of the spool cannot be read");
        // Nobody waits for it.
        self.progress.open(record::first_number(position + 1)).done(1);
        true
    }
}

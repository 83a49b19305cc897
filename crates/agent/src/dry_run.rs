//! `-dry-run`: entries are printed as Promtail prints them, rather than sent.

use std::io::{IsTerminal as _, Write};

use futures::future::BoxFuture;
use model::Timestamp;
use model::gotime::{Layout, Zone};
use parking_lot::Mutex;
use service::Failure;
use wire::loki::PushRequest;

use crate::client::LocalStore;
use crate::entry::TENANT_LABEL;

/// Prints what is pushed: time, labels and line, with tabs between them. Structured metadata has no place there; `-inspect` shows
/// it.
pub(crate) struct Printer {
    out: Mutex<Box<dyn Write + Send>>,
    colored: bool,
}

impl Default for Printer {
    fn default() -> Self {
        let out = std::io::stdout();
        Self { colored: out.is_terminal(), out: Mutex::new(Box::new(out)) }
    }
}

impl Printer {
    fn color(&self, code: u8, text: &str) -> String {
        match self.colored {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn print(&self, tenant: &str, request: &PushRequest) -> std::io::Result<()> {
        let mut out = self.out.lock();
        for stream in &request.streams {
            // The tenant was a label when Promtail printed it.
            let labels = match tenant {
                "" => stream.labels.to_string(),
                tenant => {
                    let rest = stream.labels.strip_prefix('{').unwrap_or(&stream.labels);
                    let comma = if rest == "}" { "" } else { ", " };
                    format!("{{{TENANT_LABEL}={}{comma}{rest}", model::quote(tenant))
                }
            };
            for entry in &stream.entries {
                let labels = self.color(33, &labels);
                let time = self.color(34, &time(Timestamp(entry.timestamp_ns)));
                writeln!(out, "{time}\t{labels}\t{}", entry.line.as_str())?;
            }
        }
        out.flush()
    }
}

impl LocalStore for Printer {
    fn push(&self, tenant: &str, request: PushRequest) -> BoxFuture<'_, Result<(), Failure>> {
        let printed = self.print(tenant, &request);
        Box::pin(async { printed.map_err(|error| Failure::invalid(format!("cannot print: {error}"))) })
    }
}

/// Go's `2006-01-02T15:04:05.999999999-0700`.
fn time(time: Timestamp) -> String {
    Layout::parse("2006-01-02T15:04:05.999999999-0700").write(time, &Zone::utc())
}

//! Benchmarks: `cargo xtask bench ingest|query`. They print figures; nothing here passes or fails.

mod cost;
mod ingest;
mod query;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask bench ingest [logs|traces] [--mb N] [--spans N]
       cargo xtask bench query [--mb N] [--runs N]

  ingest  pushes a generated workload into a real server and prints its CPU seconds, peak memory and bytes
          on disk, beside zstd -3 of the same raw bytes
  query   stores the log workload and prints what each of a list of questions costs the server";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("ingest") => ingest::run(&args[1..]),
        Some("query") => query::run(&args[1..]),
        Some("--help" | "help") | None => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("no benchmark is called '{other}'\n{USAGE}"),
    }
}

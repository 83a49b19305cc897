//! The files of the bucket are everybody's: DuckDB counts what the store counts, and the program in `docs/format.md` gives every line
//! back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use model::Timestamp;
use serde_json::Value;
use testkit::workload::{LogLoad, log_bodies};
use testkit::{http, port};

use crate::query::Loki;
use crate::{clients, fleet};

/// Parquet files below a folder.
fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(parquet_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The blocks of the page on the format that are in a language.
fn documented(language: &str) -> Result<Vec<String>> {
    let page = testkit::recorded::workspace().join("docs/format.md");
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.map(str::to_owned).collect())
}

/// Rows of an SQL query.
fn rows(query: &str) -> Result<Vec<Vec<Value>>> {
    let text = clients::run("sql.py", &[query.to_owned()])?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn duckdb_reads_what_the_store_wrote() -> Result<()> {
    let (port, folder) = (port::free(), tempfile::tempdir()?);
    let mut logs = fleet::logs(port, folder.path())?.started()?;
    let now = Timestamp::now().nanos();
    let load = LogLoad {
        bytes: 3 << 20,
        body_bytes: 256 << 10,
        start: now - 60_000_000_000,
        step: 1_000_000,
        seed: 5,
    };
    let mut pushed: Vec<String> = Vec::new();
    for body in log_bodies(load) {
        pushed.extend(String::from_utf8(body.raw)?.lines().map(str::to_owned));
        http::post(format!("{}/loki/api/v1/push", fleet::url(port)), "application/x-protobuf", body.bytes)?
            .ok()?;
    }
    let store = Loki(fleet::url(port));
    store.flush()?;
    let files = parquet_files(folder.path())?;
    let [file] = files.as_slice() else {
        anyhow::bail!("one flush of one tenant made {} files", files.len())
    };
    let file = file.display().to_string();

    let count = rows(&format!("SELECT count(*) FROM '{file}'"))?;
    ensure!(count == [vec![Value::from(pushed.len())]], "{count:?}, {} were pushed", pushed.len());
    let query = r#"sum by (service) (count_over_time({job="docker"} | json | duration_ms > 450 [5m]))"#;
    let counted = store.vector(query, "service", now)?;
    let sql = format!(
        "SELECT labels->>'service', count(*)::DOUBLE FROM '{file}' WHERE labels->>'job' = 'docker' AND \"line.duration_ms\" > 450 GROUP BY 1"
    );
    let seen: BTreeMap<String, f64> = rows(&sql)?
        .into_iter()
        .map(|row| Some((row[0].as_str()?.to_owned(), row[1].as_f64()?)))
        .collect::<Option<_>>()
        .context("a service and a number")?;
    ensure!(seen == counted && seen.len() > 3, "DuckDB: {seen:?}\nthe store: {counted:?}");

    for statement in documented("sql")?.iter().flat_map(|block| block.split_inclusive(';')) {
        if !statement.trim().is_empty() {
            rows(&statement.replace("data.parquet", &file)).with_context(|| statement.to_owned())?;
        }
    }

    let [program] = &documented("python")?[..] else { anyhow::bail!("one program is documented") };
    let script = folder.path().join("lines.py");
    std::fs::write(&script, program)?;
    let rebuilt = clients::run_file(&script, &[file])?;
    let mut rebuilt: Vec<&str> = rebuilt.lines().collect();
    rebuilt.sort_unstable();
    pushed.sort_unstable();
    ensure!(rebuilt == pushed, "the lines of the file are not those that were pushed");
    logs.stop()
}

//! Explanations as people read them.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Explanation;
use super::command::offline;
use crate::config::Config;
use crate::run::tests::Bench;

/// The text, with the folder as `DIR` and times as `TIME`.
fn shown(explanation: &Explanation, folder: &std::path::Path) -> String {
    let text = explanation.to_string().replace(&folder.display().to_string(), "DIR");
    let time = model::regex::Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]+Z").unwrap();
    time.replace_all_in(&text, "TIME")
}

trait ReplaceAllIn {
    fn replace_all_in(&self, text: &str, with: &str) -> String;
}

impl ReplaceAllIn for model::regex::Regex {
    fn replace_all_in(&self, text: &str, with: &str) -> String {
        self.replace_all(text, with)
    }
}

const CLIENT: &str = "clients: [{url: 'http://store:3100/loki/api/v1/push', name: main}]\n";

/// Explains `DIR/app.log` by the files alone.
fn check(jobs: &str, content: Option<&str>, want: &str) {
    let folder = tempfile::tempdir().unwrap();
    let at = |text: &str| text.replace("DIR", &folder.path().display().to_string());
    if let Some(content) = content {
        std::fs::write(folder.path().join("app.log"), content).unwrap();
    }
    let yaml = at(&format!("{CLIENT}positions: {{filename: DIR/positions.yaml}}\nscrape_configs: {jobs}\n"));
    let config = service::config::from_text::<Config>(&yaml).unwrap().config;
    let explanation = Explanation::of(&offline(config).unwrap(), &folder.path().join("app.log"), false);
    assert_eq!(shown(&explanation, folder.path()), want, "{jobs}");
}

#[test]
fn no_job_reads_it() {
    check(
        "[{job_name: far, static_configs: [{labels: {__path__: /srv/*.log}}]},\
          {job_name: near, static_configs: [{labels: {__path__: 'DIR/*.txt'}}]}]",
        Some("x\n"),
        "DIR/app.log
  verdict: no job reads it; closest is job 'near' (static_configs): 'DIR/*.txt' does not match: 'app.log' is not '*.txt'
  source: the configuration and the positions file; no running agent answered
  size: 2 bytes
job near (static_configs) is not for it: 'DIR/*.txt' does not match: 'app.log' is not '*.txt'
job far (static_configs) is not for it: '/srv/*.log' does not match: 'tmp' is not 'srv'
client main (store:3100): how it fares is not known
",
    );
}

#[test]
fn a_rule_drops_it() {
    check(
        "[{job_name: app, relabel_configs: [{source_labels: [app], regex: x, action: keep}],\
           static_configs: [{labels: {app: a, __path__: 'DIR/*.log'}}]}]",
        Some("x\n"),
        "DIR/app.log
  verdict: no job reads it; closest is job 'app' (static_configs): relabel_configs[0] drops the target: {action: keep, source_labels: [app], regex: 'x'}
  source: the configuration and the positions file; no running agent answered
  size: 2 bytes
job app (static_configs) does not read it: relabel_configs[0] drops the target: {action: keep, source_labels: [app], regex: 'x'}
client main (store:3100): how it fares is not known
",
    );
}

#[test]
fn it_is_excluded_or_not_there() {
    let jobs =
        "[{job_name: app, static_configs: [{labels: {__path__: 'DIR/*', __path_exclude__: 'DIR/app.*'}}]}]";
    check(
        jobs,
        Some("x\n"),
        "DIR/app.log
  verdict: no job reads it; closest is job 'app' (static_configs): __path_exclude__ 'DIR/app.*' matches
  source: the configuration and the positions file; no running agent answered
  size: 2 bytes
job app (static_configs) does not read it: __path_exclude__ 'DIR/app.*' matches
client main (store:3100): how it fares is not known
",
    );
    check(
        &jobs.replace("app.*", "b"),
        None,
        "DIR/app.log
  verdict: the file is not there
  source: the configuration and the positions file; no running agent answered
job app (static_configs) reads it: 'DIR/*' matches
  labels: {filename=\"DIR/app.log\"}
  position: none is kept yet
client main (store:3100): how it fares is not known
",
    );
}

#[test]
fn a_stage_drops_it() {
    check(
        "[{job_name: app, static_configs: [{labels: {app: a, __path__: 'DIR/*.log'}}], pipeline_stages: [\
           {json: {expressions: {level: }}}, {labels: {level: }}, {timestamp: {source: t, format: Unix}},\
           {drop: {source: level, value: debug}}]}]",
        Some("{\"level\":\"debug\"}\n"),
        "DIR/app.log
  verdict: lines are not sent because stage 'drop' drops them (scrape_configs[0].pipeline_stages[3].drop)
  source: the configuration and the positions file; no running agent answered
  size: 18 bytes
job app (static_configs) reads it: 'DIR/*.log' matches
  labels: {app=\"a\", filename=\"DIR/app.log\"}
  position: none is kept yet
  line: {\"level\":\"debug\"}
    json: extracted level = \"debug\"
    labels: label level = \"debug\"
    timestamp: changes nothing
    drop: drops it
    not sent: stage 'drop' drops them (scrape_configs[0].pipeline_stages[3].drop)
client main (store:3100): how it fares is not known
",
    );
}

const APP: &str = "[{job_name: app, static_configs: [{labels: {app: a, __path__: '{0}/*.log'}}]}]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_agent_knows_how_far_it_is() {
    let bench = Bench::start(APP);
    std::fs::write(bench.path("app.log"), "one\ntwo\n").unwrap();
    bench.store.expect("", 2).await;
    let explain = || Explanation::of(&bench.live.now(), &bench.path("app.log"), true);
    let settled = async |want: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while explain().verdict != want {
            assert!(Instant::now() < deadline, "{}", explain());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    settled("everything is delivered: 8 of 8 bytes").await;
    let text = shown(&explain(), bench.folder.path());
    let want = "DIR/app.log
  verdict: everything is delivered: 8 of 8 bytes
  size: 8 bytes
job app (static_configs) reads it: 'DIR/*.log' matches
  labels: {app=\"a\", filename=\"DIR/app.log\"}
  client embedded: 8 of 8 bytes acknowledged (100 %)
  line: one
    sent: TIME {app=\"a\", filename=\"DIR/app.log\"} one
  line: two
    sent: TIME {app=\"a\", filename=\"DIR/app.log\"} two
client embedded (embedded): last delivered TIME
";
    assert_eq!(text, want);

    bench.store.is_away.store(true, Ordering::Relaxed);
    std::fs::write(bench.path("other.log"), "three\n").unwrap();
    let explain = || Explanation::of(&bench.live.now(), &bench.path("other.log"), true);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !explain().verdict.starts_with("waiting for the store: client embedded tries again after: ") {
        assert!(Instant::now() < deadline, "{}", explain());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(explain().verdict.ends_with("the store is away"), "{}", explain());
    bench.store.is_away.store(false, Ordering::Relaxed);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_not_be_read() {
    let bench = Bench::start(APP);
    let path = bench.path("app.log");
    std::fs::write(&path, "one\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o0)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        eprintln!("this user may read everything, so there is nothing to see");
    } else {
        let verdict = Explanation::of(&bench.live.now(), &path, true).verdict;
        assert!(verdict.starts_with("the file cannot be read: permission denied"), "{verdict}");
    }
    bench.end().await;
}

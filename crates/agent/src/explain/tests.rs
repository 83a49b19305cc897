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

/// A running agent, or none, with a file of which so much is acknowledged.
fn explained(jobs: &str, acknowledged: Option<u64>, running: bool) -> (tempfile::TempDir, Explanation) {
    explained_with(&format!("{CLIENT}scrape_configs: {jobs}\n"), acknowledged, running)
}

fn explained_with(
    config: &str,
    acknowledged: Option<u64>,
    running: bool,
) -> (tempfile::TempDir, Explanation) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.log");
    std::fs::write(&path, "some line\n").unwrap();
    if let Some(offset) = acknowledged {
        let positions = format!("positions: {{'{}': '{offset}'}}\n", path.display());
        std::fs::write(folder.path().join("positions.yaml"), positions).unwrap();
    }
    let yaml = format!("{config}positions: {{filename: DIR/positions.yaml}}\n")
        .replace("DIR", &folder.path().display().to_string());
    let config = service::config::from_text::<Config>(&yaml).unwrap().config;
    let live = offline(config).unwrap();
    if acknowledged.is_some() {
        let file = std::fs::File::open(&path).unwrap();
        let (_, progress) = live.positions.for_client("main").open_file(&path, &path, &file, 0, 0).unwrap();
        live.positions.close_file(&progress);
        let (_, progress) = live.positions.open_file(&path, &path, &file, 0, 0).unwrap();
        live.positions.close_file(&progress);
    }
    let explanation = Explanation::of(&live, &path, running);
    (folder, explanation)
}

#[test]
fn every_other_verdict() {
    let app = |stages: &str| {
        let labels = "{app: a, __path__: 'DIR/*.log'}";
        format!("[{{job_name: app, static_configs: [{{labels: {labels}}}], pipeline_stages: [{stages}]}}]")
    };
    let bare = app("{labeldrop: [app, filename]}");
    let dropping = app("{drop: {expression: some}}");
    let stage = "stage 'drop' drops them (scrape_configs[0].pipeline_stages[0].drop)";
    for (jobs, acknowledged, running, want) in [
        (&app(""), None, true, "10 bytes are on their way".to_owned()),
        (&app(""), Some(4), true, "6 bytes are on their way".to_owned()),
        (
            &app(""),
            Some(4),
            false,
            "6 bytes wait for an agent: none answers that runs with this configuration".to_owned(),
        ),
        (&app(""), Some(10), false, "everything is delivered: 10 of 10 bytes".to_owned()),
        (&dropping, None, true, format!("lines are not sent because {stage}")),
        (&dropping, Some(10), true, format!("everything is read; lines may be missing because {stage}")),
        (
            &bare,
            None,
            true,
            "lines are not sent because no label is left after the stages (no_labels)".to_owned(),
        ),
    ] {
        let (_folder, explanation) = explained(jobs, acknowledged, running);
        assert_eq!(explanation.verdict, want, "{jobs}\n{explanation}");
    }
    // A client gives them some.
    let client = CLIENT.replace("name: main", "name: main, external_labels: {host: h}");
    let (_folder, explanation) = explained_with(&format!("{client}scrape_configs: {bare}\n"), None, true);
    assert_eq!(explanation.verdict, "10 bytes are on their way");
    // Lines that are too long.
    let limit = "limits_config: {max_line_size: 5}\n";
    let (_folder, explanation) =
        explained_with(&format!("{CLIENT}{limit}scrape_configs: {}\n", app("")), None, true);
    assert!(explanation.verdict.contains("limits_config.max_line_size"), "{explanation}");
}

#[test]
fn a_client_that_is_refused() {
    let jobs = "[{job_name: app, static_configs: [{labels: {app: a, __path__: 'DIR/*.log'}}]}]";
    let refused = "client main was refused for good 2 times: 400 Bad Request: too old";
    for (acknowledged, want) in [
        (None, refused.to_owned()),
        (Some(10), format!("everything is read; lines may be missing because {refused}")),
    ] {
        let (_folder, mut explanation) = explained(jobs, acknowledged, true);
        let status = crate::board::ClientStatus::default();
        status.refused(&"once");
        status.refused(&"400 Bad Request: too old");
        explanation.clients[0].state = status.now();
        assert_eq!(explanation.judge(), want);
    }
}

#[test]
fn what_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let problem = |path: &std::path::Path| super::look(path).1.unwrap_or_default();
    assert_eq!(problem(folder.path()), "it is a folder, not a file");
    assert_eq!(problem(&folder.path().join("none")), "the file is not there");
    assert!(problem(&file.join("below")).starts_with("the file cannot be looked at: "));
    assert!(problem(std::path::Path::new("/dev/null")).starts_with("the file cannot be read: "));
    assert_eq!(problem(&file), "");
    let jobs = "[{job_name: app, static_configs: [{labels: {app: a, __path__: 'DIR/*.log'}}]}]";
    check(
        jobs,
        Some(""),
        "DIR/app.log
  verdict: the file is empty
  source: the configuration and the positions file; no running agent answered
  size: 0 bytes
job app (static_configs) reads it: 'DIR/*.log' matches
  labels: {app=\"a\", filename=\"DIR/app.log\"}
  position: none is kept yet
client main (store:3100): how it fares is not known
",
    );
}

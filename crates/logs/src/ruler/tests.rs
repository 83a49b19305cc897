//! The ruler as a whole, with a querier that answers as it is told and an Alertmanager that writes down what it hears.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use futures::future::BoxFuture;
use http::HeaderMap;
use logql::MetricExpr;
use model::Timestamp;
use model::duration::{MINUTE, SECOND};
use serde_json::Value;

use super::*;
use crate::limits::Limits;
use crate::ruler::alert::State as AlertState;
use crate::ruler::eval::Vector;
use crate::ruler::group::parse_group;
use crate::ruler::status::Filter;

/// Answers every query with the same, or fails.
#[derive(Clone)]
struct Answers(Arc<Mutex<Result<Vector, String>>>);

impl Answers {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Ok(Vec::new()))))
    }

    fn set(&self, apps: &[(&str, f64)]) {
        let series = |(app, value): &(&str, f64)| ([("app".to_owned(), (*app).to_owned())].into(), *value);
        *self.0.lock() = Ok(apps.iter().map(series).collect());
    }

    fn fail(&self, why: &str) {
        *self.0.lock() = Err(why.to_owned());
    }
}

impl Query for Answers {
    fn instant<'a>(
        &'a self,
        _: &'a TenantId,
        _: &'a MetricExpr,
        _: Timestamp,
    ) -> BoxFuture<'a, Result<Vector, Failure>> {
        let answer = self.0.lock().clone().map_err(Failure::internal);
        Box::pin(async move { answer })
    }
}

/// What an Alertmanager heard: tenant and alert.
#[derive(Clone, Default)]
struct Alertmanager(Arc<Mutex<Vec<(String, Value)>>>);

impl Alertmanager {
    async fn serve(&self) -> String {
        async fn hear(
            State(own): State<Alertmanager>,
            headers: HeaderMap,
            axum::Json(alerts): axum::Json<Vec<Value>>,
        ) {
            let tenant = headers["x-scope-orgid"].to_str().unwrap();
            own.0.lock().extend(alerts.into_iter().map(|alert| (tenant.to_owned(), alert)));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/am", listener.local_addr().unwrap());
        let router = Router::new().route("/am/api/v2/alerts", post(hear)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// Waits for this many alerts and takes them.
    async fn heard(&self, count: usize) -> Vec<(String, Value)> {
        until("alerts", || self.0.lock().len() >= count).await;
        std::mem::take(&mut *self.0.lock())
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

fn ruler(config: &RulerConfig, blob: &Blob, answers: &Answers, limits: Limits, files: &[String]) -> Ruler {
    let wal = std::env::temp_dir();
    let places = Places { files, files_only: false, wal: &wal };
    let (limits, metrics) = (Overrides::fixed(limits), Metrics::default());
    Ruler::with_query(config, &places, blob.clone(), Box::new(answers.clone()), limits, &metrics).unwrap()
}

const ALERT: &str = "{alert: Many, expr: 'count_over_time({a=\"b\"}[1m]) > 1', for: 2m, \
    labels: {severity: page}, annotations: {summary: '{{ $labels.app }} has {{ $value }}'}}";

fn group(name: &str, rules: &[&str]) -> RuleGroup {
    let rules: String = rules.iter().map(|rule| format!("\n- {rule}")).collect();
    parse_group(&format!(
        "name: {name}\ninterval: 1m\nrules: {}",
        if rules.is_empty() { "[]" } else { &rules }
    ))
    .unwrap()
}

fn made(source: RuleGroup) -> Group {
    let id = GroupId { tenant: tenant(), namespace: "ns".to_owned(), name: source.name.clone() };
    Group::new(id, CheckedGroup::check(source, "").unwrap(), MINUTE)
}

fn minute(n: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + n * 60)
}

#[tokio::test]
async fn alerts_reach_alertmanager() {
    let (manager, answers) = (Alertmanager::default(), Answers::new());
    let config = RulerConfig {
        alertmanager_url: manager.serve().await,
        external_url: "http://grafana/".to_owned(),
        external_labels: [("region".to_owned(), "eu".to_owned()), ("app".to_owned(), "no".to_owned())].into(),
        ..RulerConfig::default()
    };
    let ruler = ruler(&config, &Blob::memory(), &answers, Limits::default(), &[]);
    let services = ruler.services.clone();
    let cancel = CancellationToken::new();
    let (own, token) = (services.clone(), cancel.clone());
    let sending = tokio::spawn(async move { own.notifier.run(token).await });
    let group = made(group("g", &[ALERT]));
    answers.set(&[("x", 5.0)]);
    for n in 0..3 {
        group.evaluate(&services, minute(n)).await;
    }
    let heard = manager.heard(1).await;
    assert_eq!(heard.len(), 1, "nothing is said of what is pending");
    let (of, alert) = &heard[0];
    assert_eq!(of, "t");
    let labels = serde_json::json!({"alertname": "Many", "app": "x", "region": "eu", "severity": "page"});
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["annotations"]["summary"], "x has 5");
    assert_eq!(alert["startsAt"], minute(2).to_string());
    assert_eq!(alert["endsAt"], minute(6).to_string());
    let url = alert["generatorURL"].as_str().unwrap();
    assert!(url.starts_with("http://grafana/explore?left=%7B") && url.contains("count_over_time"), "{url}");
    answers.set(&[]);
    group.evaluate(&services, minute(3)).await;
    let (_, alert) = manager.heard(1).await.remove(0);
    assert_eq!(
        (&alert["startsAt"], &alert["endsAt"]),
        (&minute(2).to_string().into(), &minute(3).to_string().into())
    );
    cancel.cancel();
    sending.await.unwrap();
}

#[tokio::test]
async fn the_oldest_alerts_make_room() {
    let answers = Answers::new();
    let config = RulerConfig {
        alertmanager_url: "http://127.0.0.1:9".to_owned(),
        notification_queue_capacity: 3,
        ..RulerConfig::default()
    };
    let ruler = ruler(&config, &Blob::memory(), &answers, Limits::default(), &[]);
    let group = made(group("g", &["{alert: A, expr: 'count_over_time({a=\"b\"}[1m])'}"]));
    answers.set(&[("1", 1.0), ("2", 1.0), ("3", 1.0), ("4", 1.0), ("5", 1.0)]);
    group.evaluate(&ruler.services, minute(0)).await;
    let labels = OfTenant { user: "t".to_owned() };
    assert_eq!(ruler.services.metrics.dropped.get_or_create(&labels).get(), 2);
    assert_eq!(ruler.services.metrics.queue_length.get(), 3);
}

#[tokio::test]
async fn pending_alerts_survive_a_restart() {
    let (blob, answers) = (Blob::memory(), Answers::new());
    let config =
        RulerConfig { for_grace_period: service::config::Duration::from_secs(1), ..RulerConfig::default() };
    let one = ruler(&config, &blob, &answers, Limits::default(), &[]);
    let before = made(group("g", &[ALERT]));
    answers.set(&[("x", 5.0)]);
    before.evaluate(&one.services, minute(0)).await;
    before.evaluate(&one.services, minute(1)).await;
    let two = ruler(&config, &blob, &answers, Limits::default(), &[]);
    let after = made(group("g", &[ALERT]));
    let found = saved::read(&blob, &after.id).await.unwrap().unwrap();
    found.apply(&after.checked, &mut after.state.lock().rules, minute(10), 60 * MINUTE, SECOND);
    after.evaluate(&two.services, minute(10)).await;
    assert_eq!(after.state.lock().rules[0].state(), AlertState::Pending);
    after.evaluate(&two.services, minute(11)).await;
    assert_eq!(after.state.lock().rules[0].state(), AlertState::Firing);
    // After a longer outage than is tolerated it begins anew.
    let late = made(group("g", &[ALERT]));
    let found = saved::read(&blob, &late.id).await.unwrap().unwrap();
    found.apply(&late.checked, &mut late.state.lock().rules, minute(200), 60 * MINUTE, SECOND);
    assert_eq!(late.state.lock().rules[0].state(), AlertState::Inactive);
}

#[tokio::test]
async fn a_changed_group_keeps_what_is_the_same() {
    let answers = Answers::new();
    let ruler = ruler(&RulerConfig::default(), &Blob::memory(), &answers, Limits::default(), &[]);
    let before = made(group("g", &["{record: r, expr: 'count_over_time({a=\"b\"}[1m])'}", ALERT]));
    answers.set(&[("x", 5.0)]);
    before.evaluate(&ruler.services, minute(0)).await;
    let changed = ALERT.replace("> 1", "> 2");
    let after = made(group("g", &[&changed]));
    after.adopt(&before);
    after.evaluate(&ruler.services, minute(2)).await;
    assert_eq!(after.state.lock().rules[0].state(), AlertState::Firing, "its `for` goes on");
}

#[test]
fn groups_are_spread_over_their_interval() {
    let slots: Vec<i64> = (0..100)
        .map(|n| {
            let group = made(group(&format!("g{n}"), &[]));
            let (now, slot) = (minute(0), group.slot_after(minute(0)));
            assert!(slot > now && slot.nanos() - now.nanos() <= MINUTE);
            assert_eq!(group.slot_after(slot).nanos(), slot.nanos() + MINUTE);
            assert_eq!(group.slot_after(slot.plus(-1)), slot);
            (slot.nanos() - now.nanos()) / (10 * SECOND)
        })
        .collect();
    for tenth in 0..6 {
        assert!(slots.iter().filter(|slot| **slot == tenth).count() > 5, "{slots:?}");
    }
}

#[tokio::test]
async fn groups_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("t")).unwrap();
    let rule = "{alert: A, expr: 'count_over_time({a=\"b\"}[1m])'}";
    let file = format!("groups: [{{name: filed, interval: 5ms, rules: [{rule}]}}]");
    std::fs::write(dir.path().join("t/file.yaml"), file).unwrap();
    let (blob, answers) = (Blob::memory(), Answers::new());
    let config =
        RulerConfig { poll_interval: service::config::Duration::from_millis(20), ..RulerConfig::default() };
    let limits = Limits {
        ruler_max_rule_groups_per_tenant: 1,
        ruler_max_rules_per_rule_group: 1,
        ..Limits::default()
    };
    let ruler = Arc::new(ruler(&config, &blob, &answers, limits, &[dir.path().display().to_string()]));
    let cancel = CancellationToken::new();
    let (own, token) = (ruler.clone(), cancel.clone());
    let running = tokio::spawn(async move { own.run(token).await });
    answers.set(&[("x", 1.0)]);

    let mut posted = group("posted", &[rule]);
    posted.interval = Some(group::Span(5_000_000));
    ruler.set_group(&tenant(), "ns", posted.clone()).await.unwrap();
    let refused = |failure: Result<(), Failure>| failure.unwrap_err().message().to_owned();
    let other = RuleGroup { name: "other".to_owned(), ..posted.clone() };
    assert!(refused(ruler.set_group(&tenant(), "ns", other).await).contains("(limit: 1 actual: 2)"));
    let two = group("posted", &[rule, ALERT]);
    assert!(refused(ruler.set_group(&tenant(), "ns", two).await).contains("rules per rule group limit"));
    let wrong = group("posted", &["{alert: A, expr: 'count('}"]);
    assert!(refused(ruler.set_group(&tenant(), "ns", wrong).await).contains("rule 1 'A'"));

    let shown = || {
        let json = serde_json::to_value(ruler.status(&tenant(), &Filter::default())).unwrap();
        json.as_array().unwrap().clone()
    };
    let firing =
        |group: &Value| group["rules"][0]["state"] == "firing" && group["rules"][0]["health"] == "ok";
    until("both groups firing", || shown().len() == 2 && shown().iter().all(firing)).await;
    assert!(
        refused(ruler.set_group(&tenant(), "file.yaml", posted.clone()).await).contains("come from files")
    );
    assert_eq!((&shown()[0]["file"], &shown()[1]["file"]), (&"file.yaml".into(), &"ns".into()));
    assert_eq!(ruler.alerts(&tenant()).len(), 2);
    assert!(ruler.alerts(&TenantId::parse("u").unwrap()).is_empty());
    let only = |filter: Filter| ruler.status(&tenant(), &filter).len();
    assert_eq!(only(Filter { files: vec!["ns".to_owned()], ..Filter::default() }), 1);
    assert_eq!(only(Filter { alerting: Some(false), ..Filter::default() }), 0);
    assert_eq!(only(Filter { rules: vec!["A".to_owned()], ..Filter::default() }), 2);

    answers.fail("the store is away");
    until("the error", || shown()[1]["rules"][0]["lastError"] == "the store is away").await;
    assert_eq!(shown()[1]["rules"][0]["health"], "err");
    answers.set(&[]);

    assert!(ruler.remove(&tenant(), "ns", Some("posted")).await.unwrap());
    assert!(!ruler.remove(&tenant(), "ns", None).await.unwrap());
    std::fs::remove_file(dir.path().join("t/file.yaml")).unwrap();
    until("no groups", || shown().is_empty()).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !blob.list("ruler/t/alerts").await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "saved alerts stay");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    cancel.cancel();
    running.await.unwrap();
}

//! Bytes by label: Drilldown's landing page.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use logql::{LabelSet, QueryResult, Sample, Series};
use model::{Labels, MatchOp, Matcher};
use service::Failure;

use crate::api::App;
use crate::api::ask::{Ask, AskMany, json};
use crate::api::json::{envelope, push_result, result_type};
use crate::api::page_not_found;
use crate::api::streams::by_tenant;
use crate::query::catalog;
use crate::query::run::within;
use crate::query::stats::QueryStats;
use crate::query::view::View;

/// What is asked for.
#[derive(Clone)]
struct Volume {
    matchers: Vec<Matcher>,
    /// Labels to aggregate by; all labels if none.
    by: Vec<String>,
    /// One entry per label name instead of per label set.
    names_only: bool,
}

impl Volume {
    fn new(ask: &Ask) -> Result<Self, Failure> {
        let is_all = ask.params.get("query").is_none_or(|text| text.replace(' ', "") == "{}");
        let mut matchers = if is_all { Vec::new() } else { ask.matchers(false)? };
        let targets: Vec<String> = ask
            .params
            .get("targetLabels")
            .map(|text| text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect())
            .unwrap_or_default();
        let names_only = match ask.params.get("aggregateBy") {
            None | Some("series") => false,
            Some("labels") => true,
            Some(other) => {
                return Err(Failure::invalid(format!("invalid aggregateBy '{other}': use series or labels")));
            }
        };
        for target in &targets {
            if !matchers.iter().any(|m| m.name() == target) {
                let any = Matcher::new(target.as_str(), MatchOp::Regex, ".+")
                    .map_err(|e| Failure::invalid(e.to_string()))?;
                matchers.push(any);
            }
        }
        let by =
            if targets.is_empty() { matchers.iter().map(|m| m.name().to_owned()).collect() } else { targets };
        Ok(Self { matchers, by, names_only })
    }

    /// The label sets that a stream counts for.
    fn keys(&self, labels: &Labels) -> Vec<LabelSet> {
        let wanted = |name: &str| self.by.is_empty() || self.by.iter().any(|b| b == name);
        let own = labels.iter().filter(|(name, _)| wanted(name));
        if self.names_only {
            own.map(|(name, _)| LabelSet::from_pairs([(name, "")])).collect()
        } else {
            vec![LabelSet::from_pairs(own)]
        }
    }

    fn sum(&self, tenants: &[Of], first: i64, last: i64) -> BTreeMap<LabelSet, u64> {
        let mut sums = BTreeMap::new();
        for Of { view, selectors } in tenants {
            for (labels, amount) in catalog::streams(view, selectors, first..=last) {
                for key in self.keys(&labels) {
                    *sums.entry(key).or_default() += amount.bytes;
                }
            }
        }
        sums
    }
}

/// What is summed of a tenant.
struct Of {
    view: Arc<View>,
    selectors: Vec<Vec<Matcher>>,
}

async fn answer(app: &App, ask: &Ask, step: Option<i64>) -> Result<Response, Failure> {
    if !ask.limits.volume_enabled {
        return Err(page_not_found());
    }
    let (start, end) = ask.params.range(ask.now)?;
    let limit = ask.params.limit("limit", 100)?;
    let step = step.map(|_| ask.params.step(start, end)).transpose()?;
    let volume = Volume::new(ask)?;
    let (first, last) = (start.nanos(), end.nanos());
    let max = ask.limits.volume_max_series;
    let result = within(ask.limits.query_timeout.get(), async {
        let mut tenants = Vec::new();
        for (tenant, selectors) in by_tenant(ask, std::slice::from_ref(&volume.matchers))? {
            tenants.push(Of { view: app.querier.view(&tenant, first, last).await?, selectors });
        }
        let work = move || {
            // Each bucket is stamped with its end.
            let mut buckets = Vec::new();
            let mut from = first;
            while let Some(step) = step.filter(|step| from.saturating_add(*step) < last) {
                buckets.push((from, from + step - 1, (from + step) / 1_000_000));
                from += step;
            }
            buckets.push((from, last, last / 1_000_000));
            let mut series: BTreeMap<LabelSet, Vec<(i64, f64)>> = BTreeMap::new();
            for (from, to, stamp) in buckets {
                for (key, bytes) in volume.sum(&tenants, from, to) {
                    series.entry(key).or_default().push((stamp, bytes as f64));
                }
            }
            series
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Failure::internal(format!("summing died: {e}")))
    })
    .await?;
    if result.len() > max {
        return Err(Failure::invalid(format!(
            "the query hit the max number of series limit (limit: {max} series): aggregate by fewer labels or raise \
             limits_config.volume_max_series"
        )));
    }
    let mut series: Vec<(LabelSet, Vec<(i64, f64)>)> = result.into_iter().collect();
    let total = |points: &[(i64, f64)]| points.iter().map(|p| p.1).sum::<f64>();
    // Stable: equal volumes stay in order of their labels.
    series.sort_by(|a, b| total(&b.1).total_cmp(&total(&a.1)));
    series.truncate(limit);
    let result = if series.iter().any(|(_, points)| points.len() > 1) {
        QueryResult::Matrix(series.into_iter().map(|(labels, points)| Series { labels, points }).collect())
    } else {
        let sample = |(labels, points): (LabelSet, Vec<(i64, f64)>)| {
            points.into_iter().next().map(|(timestamp_ms, value)| Sample { labels, timestamp_ms, value })
        };
        QueryResult::Vector(series.into_iter().filter_map(sample).collect())
    };
    let stats = QueryStats::default().json(0);
    Ok(json(envelope(result_type(&result), &[], &[], &stats, |out| push_result(out, &result))))
}

/// `/index/volume`
pub(crate) async fn instant(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    answer(&app, &ask, None).await
}

/// `/index/volume_range`
pub(crate) async fn range(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    answer(&app, &ask, Some(0)).await
}

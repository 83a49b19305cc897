//! The questions of the API, free of HTTP and gRPC: limits, defaults and Tempo's error texts.

use model::{TenantId, duration};
use service::Failure;
use traceql::{MetricsParams, Query, SearchParams};
use wire::tempo::{
    QueryInstantResponse, QueryRangeResponse, SearchResponse, SearchTagValuesResponse,
    SearchTagValuesV2Response, SearchTagsResponse, SearchTagsV2Response, SearchTagsV2Scope, TagValue,
};

use super::answer;
use super::params::check_range;
use crate::query::Querier;
use crate::tags::{INTRINSICS, TagNames};

/// A search; times in ns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// TraceQL; without it the search is by tags.
    pub query: Option<String>,
    /// All must hold.
    pub tags: Vec<(String, String)>,
    /// Bounds of the trace's duration, for a search by tags.
    pub min_duration: Option<i64>,
    /// The upper one.
    pub max_duration: Option<i64>,
    /// Traces.
    pub limit: Option<usize>,
    /// Spans per span set.
    pub spans: Option<usize>,
    /// From and to.
    pub range: (i64, i64),
}

/// Which tag names, or values, are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tags {
    /// Scope of names, or the tag whose values.
    pub of: String,
    /// Filter, possibly unfinished.
    pub query: Option<String>,
    /// Most names per scope, or values; 0 for all.
    pub limit: usize,
    /// From and to, ns.
    pub range: (i64, i64),
}

/// A metrics query; times in ns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// TraceQL.
    pub query: String,
    /// From and to.
    pub range: (i64, i64),
    /// `None` for one interval over the whole range.
    pub step: Option<i64>,
    /// Exemplars; 0 for the default.
    pub exemplars: usize,
    /// Series; 0 for the default.
    pub max_series: usize,
}

impl Querier {
    pub(crate) async fn ask_search(
        &self,
        tenants: &[TenantId],
        ask: Search,
    ) -> Result<SearchResponse, Failure> {
        let limits = &self.config.query_frontend.search;
        if ask.query.is_some() && !ask.tags.is_empty() {
            return Err(Failure::invalid("invalid request: can't specify tags and q in the same query"));
        }
        let limit = match ask.limit {
            Some(0) => return Err(Failure::invalid("invalid limit: must be a positive number")),
            Some(n) if limits.max_result_limit > 0 && n > limits.max_result_limit => {
                return Err(Failure::invalid(format!(
                    "limit {n} exceeds max limit {}",
                    limits.max_result_limit
                )));
            }
            limit => limit.unwrap_or(limits.default_result_limit),
        };
        let spans = match ask.spans {
            Some(n) if limits.max_spans_per_span_set > 0 && n > limits.max_spans_per_span_set => {
                let max = limits.max_spans_per_span_set;
                return Err(Failure::invalid(format!("spans per span set exceeds {max}. received {n}")));
            }
            Some(0) | None => limits.default_spans_per_span_set,
            Some(n) => n,
        };
        let by_tags = ask.query.is_none();
        let query = match ask.query {
            Some(text) => self.parse(&text)?,
            None => query_of_tags(&ask.tags, ask.min_duration, ask.max_duration)?,
        };
        let (start, end) = ask.range;
        let params = SearchParams {
            start: Some(start),
            end: Some(end),
            limit,
            spans_per_spanset: spans,
            most_recent: false,
        };
        let (found, cost) = self.search(tenants, &query, params).await?;
        let pad = self.config.overrides.defaults.read.left_pad_trace_ids;
        Ok(answer::search(found, cost, !by_tags, pad))
    }

    async fn names(
        &self,
        tenants: &[TenantId],
        ask: &Tags,
    ) -> Result<(TagNames, crate::scan::Cost), Failure> {
        const SCOPES: [&str; 9] =
            ["", "none", "resource", "span", "event", "link", "instrumentation", "trace", "intrinsic"];
        if !SCOPES.contains(&ask.of.as_str()) {
            return Err(Failure::invalid(format!("invalid scope: {}", ask.of)));
        }
        let (mut names, cost) = match ask.of.as_str() {
            "intrinsic" | "trace" => Default::default(),
            _ => self.tag_names(tenants, self.filter(&ask.query)?, ask.range).await?,
        };
        let all = matches!(ask.of.as_str(), "" | "none");
        names.retain(|scope, _| all || *scope == ask.of);
        if all || ask.of == "intrinsic" {
            names.insert("intrinsic", INTRINSICS.iter().map(|name| (*name).to_owned()).collect());
        }
        if ask.limit > 0 {
            for names in names.values_mut() {
                if let Some(beyond) = names.iter().nth(ask.limit).cloned() {
                    names.split_off(&beyond);
                }
            }
        }
        Ok((names, cost))
    }

    fn filter(&self, query: &Option<String>) -> Result<Option<traceql::Filter>, Failure> {
        let Some(query) = query else { return Ok(None) };
        self.check_size(query)?;
        Ok(traceql::parse_lenient(query))
    }

    pub(crate) async fn ask_tags(
        &self,
        tenants: &[TenantId],
        ask: Tags,
    ) -> Result<SearchTagsResponse, Failure> {
        let (mut names, cost) = self.names(tenants, &ask).await?;
        if ask.of != "intrinsic" {
            names.remove("intrinsic");
        }
        let flat: std::collections::BTreeSet<String> = names.into_values().flatten().collect();
        Ok(SearchTagsResponse {
            tag_names: flat.into_iter().collect(),
            metrics: Some(answer::metadata_metrics(cost)),
        })
    }

    pub(crate) async fn ask_tags_v2(
        &self,
        tenants: &[TenantId],
        ask: Tags,
    ) -> Result<SearchTagsV2Response, Failure> {
        let (names, cost) = self.names(tenants, &ask).await?;
        let scope = |(name, tags): (&str, std::collections::BTreeSet<String>)| SearchTagsV2Scope {
            name: name.to_owned(),
            tags: tags.into_iter().collect(),
        };
        Ok(SearchTagsV2Response {
            scopes: names.into_iter().map(scope).collect(),
            metrics: Some(answer::metadata_metrics(cost)),
        })
    }

    pub(crate) async fn ask_values(
        &self,
        tenants: &[TenantId],
        ask: Tags,
    ) -> Result<SearchTagValuesResponse, Failure> {
        let fixed = match ask.of.as_str() {
            "status.code" => Some(vec!["error", "ok", "unset"]),
            "error" => Some(vec!["true"]),
            _ => None,
        };
        if let Some(fixed) = fixed {
            let tag_values = fixed.into_iter().map(str::to_owned).collect();
            return Ok(SearchTagValuesResponse { tag_values, metrics: Some(Default::default()) });
        }
        let of = match ask.of.as_str() {
            "name" => "name".to_owned(),
            "root.name" => "rootName".to_owned(),
            "root.service.name" => "rootServiceName".to_owned(),
            name => format!(".{}", quoted_name(name)),
        };
        let found = self.ask_values_v2(tenants, Tags { of, ..ask }).await?;
        let mut tag_values: Vec<String> = found.tag_values.into_iter().map(|v| v.value).collect();
        tag_values.sort();
        tag_values.dedup();
        Ok(SearchTagValuesResponse { tag_values, metrics: found.metrics })
    }

    pub(crate) async fn ask_values_v2(
        &self,
        tenants: &[TenantId],
        ask: Tags,
    ) -> Result<SearchTagValuesV2Response, Failure> {
        let invalid = |e| Failure::invalid(format!("please provide a valid tagName: {e}"));
        let field = traceql::parse_field(&ask.of).map_err(invalid)?;
        let filter = self.filter(&ask.query)?;
        let (values, cost) = self.tag_values(tenants, &field, filter, ask.range, ask.limit).await?;
        let value = |(of, value): (&str, String)| TagValue { kind: of.to_owned(), value };
        Ok(SearchTagValuesV2Response {
            tag_values: values.into_iter().map(value).collect(),
            metrics: Some(answer::metadata_metrics(cost)),
        })
    }

    pub(crate) async fn ask_range(
        &self,
        tenants: &[TenantId],
        ask: Metrics,
    ) -> Result<QueryRangeResponse, Failure> {
        let max_series = self.max_series(&ask);
        let (found, cost) = self.count(tenants, ask, max_series).await?;
        Ok(answer::range(found, cost, max_series))
    }

    pub(crate) async fn ask_instant(
        &self,
        tenants: &[TenantId],
        ask: Metrics,
    ) -> Result<QueryInstantResponse, Failure> {
        let max_series = self.max_series(&ask);
        let (found, cost) = self.count(tenants, ask, max_series).await?;
        Ok(answer::instant(found, cost, max_series))
    }

    /// The smaller of the two limits that are set.
    fn max_series(&self, ask: &Metrics) -> usize {
        let own = self.config.query_frontend.metrics.max_response_series;
        [own, ask.max_series].into_iter().filter(|n| *n > 0).min().unwrap_or_default()
    }

    async fn count(
        &self,
        tenants: &[TenantId],
        ask: Metrics,
        max_series: usize,
    ) -> Result<(traceql::MetricsAnswer, crate::scan::Cost), Failure> {
        let limits = &self.config.query_frontend.metrics;
        let (start, end) = ask.range;
        let query = self.parse(&ask.query)?;
        let max = i64::try_from(limits.max_duration.get().as_nanos()).unwrap_or(i64::MAX);
        if max > 0 && end.saturating_sub(start) > max {
            return Err(Failure::invalid(format!(
                "metrics query time range exceeds the maximum allowed duration of {}",
                duration::format_go(max)
            )));
        }
        if let Some(step) = ask.step {
            let range = end.saturating_sub(start);
            let least = range.div_euclid(i64::try_from(limits.max_intervals.max(1)).unwrap_or(i64::MAX));
            if step < least {
                return Err(Failure::invalid(format!(
                    "step of {} is too small, minimum step for given range is {}",
                    duration::format_go(step),
                    duration::format_go(least)
                )));
            }
        }
        let exemplars =
            if ask.exemplars == 0 { limits.max_exemplars } else { ask.exemplars.min(limits.max_exemplars) };
        let params = MetricsParams {
            start,
            end,
            step: ask.step.unwrap_or(end - start),
            instant: ask.step.is_none(),
            exemplars: if ask.step.is_none() { 0 } else { exemplars },
            max_series,
        };
        self.metrics(tenants, &query, params).await
    }

    /// A range given in seconds, 0 for not given, as gRPC requests have it.
    pub(crate) fn range_of_seconds(&self, start: u32, end: u32) -> Result<(i64, i64), Failure> {
        let query = match (start, end) {
            (0, 0) => String::new(),
            (0, end) => format!("end={end}"),
            (start, 0) => format!("start={start}"),
            (start, end) => format!("start={start}&end={end}"),
        };
        super::params::Params::of_query(&query).range(self.max_range())
    }

    /// The longest range of a search, ns; 0 for no limit.
    pub(crate) fn max_range(&self) -> i64 {
        let max = self.config.query_frontend.search.max_duration.get();
        i64::try_from(max.as_nanos()).unwrap_or(i64::MAX)
    }

    /// A range given in ns.
    pub(crate) fn range_of_nanos(&self, start: u64, end: u64) -> Result<(i64, i64), Failure> {
        let range = (start as i64, end as i64);
        check_range(range.0, range.1, 0)?;
        Ok(range)
    }
}

/// An attribute's name as TraceQL reads it.
fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A search by tags. Each pair must hold somewhere in the trace, not all on one span.
fn query_of_tags(
    tags: &[(String, String)],
    min_duration: Option<i64>,
    max_duration: Option<i64>,
) -> Result<Query, Failure> {
    if let (Some(min), Some(max)) = (min_duration, max_duration)
        && max < min
    {
        return Err(Failure::invalid("invalid maxDuration: must be greater than minDuration"));
    }
    let bound = |nanos: Option<i64>| nanos.filter(|nanos| *nanos > 0);
    let query = Query::from_tags(tags, bound(min_duration), bound(max_duration));
    query.map_err(|e| Failure::invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_tag_searches() {
        let tags =
            [("service.name".to_owned(), "a".to_owned()), ("status.code".to_owned(), "error".to_owned())];
        assert!(query_of_tags(&tags, Some(1_500_000), None).is_ok());
        assert!(query_of_tags(&[("status.code".to_owned(), "bad".to_owned())], None, None).is_err());
        assert!(query_of_tags(&[], Some(2), Some(1)).is_err());
    }
}

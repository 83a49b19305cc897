//! OTLP logs to streams and entries, by Loki's mapping: some resource attributes become labels, all else structured metadata.

use std::sync::Arc;

use model::regex::Regex;
use model::{Labels, LabelsBuilder, Timestamp};
use serde::{Deserialize, Serialize};
use service::config::Problems;
use wire::otlp::logs::{LogRecord, resource_logs};
use wire::otlp::{AnyValue, Attributes, OtlpError, Scope};

use crate::ingest::accept::Acceptor;
use crate::ingest::names::{SERVICE_LABELS, SERVICE_NAME, UNKNOWN_SERVICE, sanitise};
use crate::ingest::otlp_text as text;
use crate::ingest::pairs::Pairs;
use crate::ingest::streams::{Stream, Streams};
use crate::limits::Limits;

/// Resource attributes that become labels where nothing else is configured.
const INDEXED: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

/// What becomes of attributes: Loki's `otlp_config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtlpConfig {
    /// Attributes of resources.
    pub resource_attributes: ResourceAttributes,
    /// Attributes of scopes.
    pub scope_attributes: Vec<AttributesRule>,
    /// Attributes of log records.
    pub log_attributes: Vec<AttributesRule>,
    /// Makes the severity text a label.
    pub severity_text_as_label: bool,
}

/// What becomes of resource attributes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceAttributes {
    /// Leave the built-in list of labels out.
    pub ignore_defaults: bool,
    /// Rules, the first that fits holds.
    pub attributes_config: Vec<AttributesRule>,
}

/// Attributes and what to do with them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttributesRule {
    /// What to do.
    pub action: Action,
    /// The attributes by name.
    pub attributes: Vec<String>,
    /// The attributes by a regular expression over the whole name.
    pub regex: String,
}

/// What to do with an attribute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Make it a stream label.
    IndexLabel,
    /// Keep it with the entry.
    #[default]
    StructuredMetadata,
    /// Leave it out.
    Drop,
}

impl OtlpConfig {
    /// Checks what types cannot.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let lists = [
            ("resource_attributes.attributes_config", &self.resource_attributes.attributes_config),
            ("scope_attributes", &self.scope_attributes),
            ("log_attributes", &self.log_attributes),
        ];
        for (name, rules) in lists {
            for (i, rule) in rules.iter().enumerate() {
                let at = format!("{path}.{name}[{i}]");
                if let Err(error) = Regex::anchored(&rule.regex) {
                    problems.add(format!("{at}.regex"), error.to_string());
                }
                if rule.regex.is_empty() == rule.attributes.is_empty() {
                    problems.add(at.clone(), "needs either `attributes` or `regex`");
                }
                if name == "scope_attributes" && rule.action == Action::IndexLabel {
                    problems.add(format!("{at}.action"), "scope attributes cannot be index labels");
                }
            }
        }
    }
}

/// The compiled mapping.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    defaults: bool,
    resource: Vec<CompiledRule>,
    scope: Vec<CompiledRule>,
    log: Vec<CompiledRule>,
    severity_text_as_label: bool,
}

#[derive(Debug, Clone)]
struct CompiledRule {
    action: Action,
    names: Vec<String>,
    regex: Option<Regex>,
}

impl Mapping {
    /// Compiles a checked configuration; a rule whose expression does not compile fits nothing.
    pub fn new(config: &OtlpConfig) -> Self {
        let compile = |rules: &[AttributesRule]| {
            let rule = |rule: &AttributesRule| CompiledRule {
                action: rule.action,
                names: rule.attributes.clone(),
                regex: Some(&rule.regex).filter(|r| !r.is_empty()).and_then(|r| Regex::anchored(r).ok()),
            };
            rules.iter().map(rule).collect()
        };
        Self {
            defaults: !config.resource_attributes.ignore_defaults,
            resource: compile(&config.resource_attributes.attributes_config),
            scope: compile(&config.scope_attributes),
            log: compile(&config.log_attributes),
            severity_text_as_label: config.severity_text_as_label,
        }
    }

    fn resource(&self, name: &str) -> Action {
        match action(&self.resource, name) {
            Some(action) => action,
            None if self.defaults && INDEXED.contains(&name) => Action::IndexLabel,
            None => Action::StructuredMetadata,
        }
    }

    /// Adds the entries of a checked request to a push.
    pub fn map(
        &self,
        body: &[u8],
        streams: &Streams,
        tenant: &str,
        limits: &Limits,
        now: Timestamp,
        acceptor: &mut Acceptor<'_>,
    ) -> Result<(), OtlpError> {
        let mut entry = Pairs::default();
        for resource in resource_logs(body) {
            let resource = resource?;
            let (labels, shared) = self.map_resource(resource.resource.map(|r| r.attributes()), limits);
            let base = streams.get_built(&labels, tenant, limits, now);
            for scope in resource.scope_logs() {
                let scope = scope?;
                let of_scope = self.map_scope(scope.scope);
                for record in scope.log_records() {
                    let record = record?;
                    entry.clear();
                    let mut extra: Option<LabelsBuilder> = None;
                    self.map_record(&record, &mut entry, |name, value| {
                        extra.get_or_insert_with(|| labels.to_builder()).set(name, value);
                    });
                    entry.extend(&shared);
                    entry.extend(&of_scope);
                    let own = extra.map(|builder| streams.get_built(&builder.build(), tenant, limits, now));
                    match own.as_ref().unwrap_or(&base) {
                        Ok(stream) => accept(acceptor, stream, &record, &entry, now),
                        Err(error) => acceptor.refuse(error.rule, 1, 0, || error.text.clone()),
                    }
                }
            }
        }
        Ok(())
    }

    /// The labels and the metadata that all records of a resource share.
    fn map_resource(&self, attributes: Option<Attributes<'_>>, limits: &Limits) -> (Labels, Pairs) {
        let mut labels = Labels::default().to_builder();
        let mut metadata = Pairs::default();
        let mut service = None;
        for attribute in attributes.iter().flat_map(Attributes::iter) {
            match self.resource(attribute.key) {
                Action::Drop => {}
                Action::StructuredMetadata => flatten(attribute.key, attribute.value, &mut metadata),
                Action::IndexLabel => {
                    let mut found = Pairs::default();
                    flatten(attribute.key, attribute.value, &mut found);
                    for (name, value) in found.iter() {
                        labels.set(name, value);
                        if service.is_none() && !value.is_empty() && SERVICE_LABELS.contains(&name) {
                            service = Some(value.to_owned());
                        }
                    }
                }
            }
        }
        if labels.get(SERVICE_NAME).is_none() && !limits.discover_service_name.is_empty() {
            labels.set(SERVICE_NAME, service.as_deref().unwrap_or(UNKNOWN_SERVICE));
        }
        (labels.build(), metadata)
    }

    fn map_scope(&self, scope: Option<Scope<'_>>) -> Pairs {
        let mut metadata = Pairs::default();
        let Some(scope) = scope else { return metadata };
        for attribute in scope.attributes().iter() {
            if action(&self.scope, attribute.key) != Some(Action::Drop) {
                flatten(attribute.key, attribute.value, &mut metadata);
            }
        }
        for (name, value) in [("scope_name", scope.name), ("scope_version", scope.version)] {
            if !value.is_empty() {
                metadata.add(name, value);
            }
        }
        if scope.dropped_attributes_count != 0 {
            metadata.add("scope_dropped_attributes_count", &scope.dropped_attributes_count.to_string());
        }
        metadata
    }

    fn map_record(&self, record: &LogRecord<'_>, metadata: &mut Pairs, mut label: impl FnMut(&str, &str)) {
        for attribute in record.attributes().iter() {
            match action(&self.log, attribute.key) {
                Some(Action::Drop) => {}
                Some(Action::IndexLabel) => {
                    let mut found = Pairs::default();
                    flatten(attribute.key, attribute.value, &mut found);
                    found.iter().for_each(|(name, value)| label(name, value));
                }
                _ => flatten(attribute.key, attribute.value, metadata),
            }
        }
        let number = |out: &mut Pairs, name: &'static str, value: u64| {
            if value != 0 {
                out.add_with(name.into(), |text| text::push_u64(text, value));
            }
        };
        if record.time != 0 {
            number(metadata, "observed_timestamp", record.observed_time);
        }
        number(metadata, "severity_number", u64::try_from(record.severity_number).unwrap_or(0));
        if self.severity_text_as_label && !record.severity_text.is_empty() {
            label("severity_text", record.severity_text);
        } else if !record.severity_text.is_empty() {
            metadata.add("severity_text", record.severity_text);
        }
        number(metadata, "dropped_attributes_count", record.dropped_attributes_count.into());
        number(metadata, "flags", record.flags.into());
        for (name, id) in [("trace_id", record.trace_id), ("span_id", record.span_id)] {
            if id.iter().any(|b| *b != 0) {
                metadata.add_with(name.into(), |out| text::push_hex(out, id));
            }
        }
        if !record.event_name.is_empty() {
            metadata.add("event_name", record.event_name);
        }
    }
}

fn action(rules: &[CompiledRule], name: &str) -> Option<Action> {
    let fits = |rule: &&CompiledRule| {
        rule.names.iter().any(|n| n == name) || rule.regex.as_ref().is_some_and(|r| r.is_match(name))
    };
    rules.iter().find(fits).map(|rule| rule.action)
}

fn accept(
    acceptor: &mut Acceptor<'_>,
    stream: &Arc<Stream>,
    record: &LogRecord<'_>,
    metadata: &Pairs,
    now: Timestamp,
) {
    let time = [record.time, record.observed_time].into_iter().find(|t| *t != 0);
    let time = time.map_or(now.nanos(), |t| i64::try_from(t).unwrap_or(i64::MAX));
    let at = acceptor.stream(stream);
    match record.body {
        Some(AnyValue::Str(line)) => acceptor.entry(stream, at, time, line, metadata),
        None | Some(AnyValue::Null) => acceptor.entry(stream, at, time, "", metadata),
        Some(value) => {
            let mut line = String::new();
            text::push_value(&mut line, value);
            acceptor.entry(stream, at, time, &line, metadata);
        }
    }
}

/// Adds an attribute; a map becomes one pair per leaf. A name without letter or digit is left out.
fn flatten(name: &str, value: AnyValue<'_>, out: &mut Pairs) {
    match value {
        AnyValue::Null => {}
        AnyValue::KvList(members) => {
            for member in members.iter() {
                flatten(&format!("{name}_{}", member.key), member.value, out);
            }
        }
        AnyValue::Str(text) => drop(out.add_raw(name, text)),
        value => {
            if let Ok(name) = sanitise(name) {
                out.add_with(name, |text| text::push_value(text, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::otlp::{Format, Signal};

    fn map(config: OtlpConfig, json: &str) -> Vec<String> {
        let limits = Limits::default();
        let now = Timestamp::from_seconds(1_700_000_000);
        let (body, _) = Signal::Logs.decode(json.to_owned().into(), Format::Json).unwrap();
        let mut acceptor = Acceptor::new(&limits, now);
        Mapping::new(&config).map(&body, &Streams::default(), "t", &limits, now, &mut acceptor).unwrap();
        let accepted = acceptor.finish();
        assert!(accepted.reasons.failure().is_none());
        let mut out = Vec::new();
        for stream in &accepted.rows.streams {
            for row in 0..stream.len() {
                let metadata: Vec<String> = stream
                    .columns
                    .iter()
                    .flat_map(|c| {
                        c.iter().filter(|(r, _)| *r as usize == row).map(|(_, v)| format!("{}={v}", c.name))
                    })
                    .collect();
                out.push(format!(
                    "{} {} {} [{}]",
                    stream.labels,
                    stream.timestamps[row],
                    stream.line(row),
                    metadata.join(" ")
                ));
            }
        }
        out
    }

    const BODY: &str = r#"{"resourceLogs":[{"resource":{"attributes":[
        {"key":"k8s.container.name","value":{"stringValue":"c1"}},{"key":"host.name","value":{"stringValue":"h"}}]},
        "scopeLogs":[{"scope":{"name":"s","attributes":[{"key":"x.y","value":{"boolValue":true}}]},"logRecords":[
        {"timeUnixNano":"1700000000000000001","observedTimeUnixNano":"5","severityNumber":13,"body":{"kvlistValue":{"values":[
            {"key":"b","value":{"doubleValue":0.5}},{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"q\""}]}}}]}},
         "attributes":[{"key":"n","value":{"kvlistValue":{"values":[{"key":"m","value":{"intValue":"7"}}]}}}],
         "traceId":"44fbb74408feef98f3f42a456319a551"},
        {"body":{"intValue":"3"}}]}]}]}"#;

    #[test]
    fn the_default_mapping() {
        let labels = r#"{k8s_container_name="c1", service_name="c1"}"#;
        assert_eq!(
            map(OtlpConfig::default(), BODY),
            [
                format!(
                    "{labels} 1700000000000000001 {{\"a\":[1,\"q\\\"\"],\"b\":0.5}} [n_m=7 observed_timestamp=5 severity_number=13 \
                     trace_id=44fbb74408feef98f3f42a456319a551 host_name=h x_y=true scope_name=s detected_level=warn]"
                ),
                format!(
                    "{labels} 1700000000000000000 3 [host_name=h x_y=true scope_name=s detected_level=unknown]"
                ),
            ]
        );
    }

    #[test]
    fn configured_mappings() {
        let rule = |action, names: &[&str], regex: &str| AttributesRule {
            action,
            attributes: names.iter().map(|n| (*n).to_owned()).collect(),
            regex: regex.to_owned(),
        };
        let config = OtlpConfig {
            resource_attributes: ResourceAttributes {
                ignore_defaults: true,
                attributes_config: vec![rule(Action::IndexLabel, &[], "host\\..*")],
            },
            scope_attributes: vec![rule(Action::Drop, &["x.y"], "")],
            log_attributes: vec![rule(Action::IndexLabel, &["n"], "")],
            severity_text_as_label: false,
        };
        let rows = map(config, BODY);
        assert!(
            rows[0].starts_with(r#"{host_name="h", n_m="7", service_name="unknown_service"} 17"#),
            "{rows:?}"
        );
        assert!(rows[1].starts_with(r#"{host_name="h", service_name="unknown_service"} 17"#), "{rows:?}");
        assert!(rows[1].ends_with("[k8s_container_name=c1 scope_name=s detected_level=unknown]"), "{rows:?}");
    }
}

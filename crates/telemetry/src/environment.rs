//! What the standard variables ask for: `OTEL_*` (specification 1.x) and `RUST_LOG`, over [`Settings`].

use std::{collections::HashMap, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;

use crate::{Format, Settings};

/// A copy of the variables that matter, so that tests need not change the process's.
pub(crate) struct Environment(HashMap<String, String>);

impl Environment {
    pub(crate) fn of_process() -> Environment {
        let ours = |name: &str| name.starts_with("OTEL_") || name == "RUST_LOG";
        let read = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| ours(name))?;
            Some((name, value.into_string().ok()?))
        };
        Environment(std::env::vars_os().filter_map(read).collect())
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Environment {
        Environment(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    /// An empty variable counts as not set.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn millis(&self, names: &[&str], default: u64) -> Duration {
        let value = names.iter().find_map(|name| self.get(name)?.parse().ok());
        Duration::from_millis(value.unwrap_or(default))
    }

    fn count(&self, name: &str, default: usize) -> usize {
        self.get(name).and_then(|value| value.parse().ok()).filter(|&n| n > 0).unwrap_or(default)
    }
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// Where and how to export one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) endpoint: String,
    pub(crate) protocol: Protocol,
    /// For one batch, its retries included.
    pub(crate) timeout: Duration,
    /// Items waiting; more are dropped.
    pub(crate) queue: usize,
    /// Items in one export.
    pub(crate) batch: usize,
    /// Longest time an item waits for its batch to fill.
    pub(crate) delay: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) traces: Option<Target>,
    pub(crate) logs: Option<Target>,
}

impl Targets {
    pub(crate) fn is_on(&self) -> bool {
        self.traces.is_some() || self.logs.is_some()
    }
}

/// All that is to be done, decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) service: String,
    pub(crate) attributes: Vec<KeyValue>,
    pub(crate) format: Format,
    pub(crate) level: String,
    /// No spans, no export: lines only.
    pub(crate) disabled: bool,
    pub(crate) sampler: Sampler,
    pub(crate) export: Targets,
    /// What the operator asked for and does not get.
    pub(crate) remarks: Vec<String>,
}

pub(crate) fn plan(settings: Settings, environment: &Environment) -> Plan {
    let mut remarks = Vec::new();
    let mut attributes = Vec::new();
    let mut service = None;
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',') {
        match pair.split_once('=').map(|(key, value)| (key.trim(), decode(value.trim()))) {
            Some(("service.name", name)) => service = Some(name),
            Some((key, value)) if !key.is_empty() => attributes.push(KeyValue::new(key.to_owned(), value)),
            _ if pair.trim().is_empty() => {}
            _ => remarks.push(format!("OTEL_RESOURCE_ATTRIBUTES: `{pair}` is not key=value")),
        }
    }
    let service =
        environment.get("OTEL_SERVICE_NAME").map(str::to_owned).or(service).unwrap_or(settings.service);
    let has_version = attributes.iter().any(|attribute| attribute.key.as_str() == "service.version");
    if let (Some(version), false) = (settings.version, has_version) {
        attributes.push(KeyValue::new("service.version", version));
    }

    let disabled = environment.is_true("OTEL_SDK_DISABLED");
    let mut target = |signal: &str, schedule: &str| -> Option<Target> {
        if disabled {
            return None;
        }
        let own = |rest: &str| environment.get(&format!("OTEL_EXPORTER_OTLP_{signal}_{rest}"));
        let any = |rest: &str| own(rest).or_else(|| environment.get(&format!("OTEL_EXPORTER_OTLP_{rest}")));
        let asked = environment.get(&format!("OTEL_{signal}_EXPORTER"));
        match asked {
            Some("otlp") | None => {}
            Some("none") => return None,
            Some(other) => {
                remarks.push(format!(
                    "OTEL_{signal}_EXPORTER={other} is not supported, nothing is exported: use otlp or none"
                ));
                return None;
            }
        }
        let protocol = match any("PROTOCOL") {
            None | Some("grpc") => Protocol::Grpc,
            Some("http/protobuf") => Protocol::Http,
            Some(other) => {
                remarks.push(format!(
                    "OTEL_EXPORTER_OTLP_PROTOCOL={other} is not supported, no {} are exported: use grpc or http/protobuf",
                    signal.to_lowercase()
                ));
                return None;
            }
        };
        // The specification's defaults apply where export is asked for by name.
        let default = || match protocol {
            Protocol::Grpc => "http://localhost:4317".to_owned(),
            Protocol::Http => "http://localhost:4318".to_owned(),
        };
        let base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT").map(str::to_owned);
        let base = base.or_else(|| settings.endpoint.clone()).or_else(|| asked.map(|_| default()));
        let endpoint = match (own("ENDPOINT"), base) {
            // A signal's own endpoint is a full URL.
            (Some(own), _) => own.to_owned(),
            (None, Some(base)) if protocol == Protocol::Http => {
                format!("{}/v1/{}", base.trim_end_matches('/'), signal.to_lowercase())
            }
            (None, base) => base?,
        };
        let queue = environment.count(&format!("OTEL_{schedule}_MAX_QUEUE_SIZE"), 2048);
        let delay_default = if schedule == "BSP" { 5000 } else { 1000 };
        Some(Target {
            endpoint: if endpoint.contains("://") { endpoint } else { format!("http://{endpoint}") },
            protocol,
            timeout: environment.millis(
                &[&format!("OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT"],
                10_000,
            ),
            queue,
            batch: environment.count(&format!("OTEL_{schedule}_MAX_EXPORT_BATCH_SIZE"), 512).min(queue),
            delay: environment.millis(&[&format!("OTEL_{schedule}_SCHEDULE_DELAY")], delay_default),
        })
    };
    let export = Targets { traces: target("TRACES", "BSP"), logs: target("LOGS", "BLRP") };

    let sampler = sampler(environment, &mut remarks);
    let level = environment.get("RUST_LOG").or(environment.get("OTEL_LOG_LEVEL")).map(str::to_owned);
    let level = level.filter(|level| match crate::check_level(level) {
        Ok(()) => true,
        Err(error) => {
            remarks.push(format!("RUST_LOG or OTEL_LOG_LEVEL: {error}"));
            false
        }
    });
    let level = level.or(settings.level).unwrap_or_else(|| "info".to_owned());
    Plan { service, attributes, format: settings.format, level, disabled, sampler, export, remarks }
}

fn sampler(environment: &Environment, remarks: &mut Vec<String>) -> Sampler {
    let ratio =
        || environment.get("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse().ok()).unwrap_or(1.0);
    let by_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    match environment.get("OTEL_TRACES_SAMPLER").unwrap_or("parentbased_always_on") {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio()),
        "parentbased_always_off" => by_parent(Sampler::AlwaysOff),
        "parentbased_traceidratio" => by_parent(Sampler::TraceIdRatioBased(ratio())),
        "parentbased_always_on" => by_parent(Sampler::AlwaysOn),
        other => {
            remarks
                .push(format!("OTEL_TRACES_SAMPLER={other} is not supported: parentbased_always_on is used"));
            by_parent(Sampler::AlwaysOn)
        }
    }
}

/// Percent-decoding, as resource attributes are written; what is not an escape stays.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(variables: &[(&str, &str)]) -> Plan {
        plan(Settings::new("given").version("1").level("warn"), &Environment::of(variables))
    }

    #[test]
    fn nothing_is_exported_unless_asked_for() {
        let plan = plan_of(&[]);
        assert!(!plan.export.is_on() && !plan.disabled && plan.remarks.is_empty());
        assert_eq!((plan.service.as_str(), plan.level.as_str()), ("given", "warn"));
        let asked = super::plan(Settings::new("x").otlp_endpoint("http://h:4317"), &Environment::of(&[]));
        assert_eq!(asked.export.traces.unwrap().endpoint, "http://h:4317");
        assert!(asked.export.logs.is_some());
    }

    #[test]
    fn the_environment_wins() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
        let targets = |extra: &[(&str, &str)]| {
            let variables: Vec<_> = std::iter::once(endpoint).chain(extra.iter().copied()).collect();
            let plan = plan_of(&variables);
            let show = |target: Option<Target>| target.map_or("-".to_owned(), |target| target.endpoint);
            (show(plan.export.traces), show(plan.export.logs), plan.remarks.len())
        };
        let both = "http://collector:4317".to_owned();
        let none = "-".to_owned();
        assert_eq!(targets(&[]), (both.clone(), both.clone(), 0));
        assert_eq!(targets(&[("OTEL_TRACES_EXPORTER", "none")]), (none.clone(), both.clone(), 0));
        assert_eq!(targets(&[("OTEL_LOGS_EXPORTER", "none")]), (both.clone(), none.clone(), 0));
        assert_eq!(targets(&[("OTEL_LOGS_EXPORTER", "console")]), (both.clone(), none.clone(), 1));
        assert_eq!(targets(&[("OTEL_SDK_DISABLED", "TRUE")]), (none.clone(), none.clone(), 0));
        assert_eq!(targets(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), (both.clone(), both.clone(), 0));
        assert_eq!(targets(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]), (none.clone(), none, 2));
        let http = ["http://collector:4317/v1/traces", "http://collector:4317/v1/logs"].map(str::to_owned);
        let [traces, logs] = http;
        assert_eq!(targets(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), (traces, logs, 0));
        let own = targets(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://l:1")]);
        assert_eq!(own, (both, "https://l:1".to_owned(), 0));
    }

    #[test]
    fn resource_and_level() {
        let plan = plan_of(&[
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a, zone=eu%2Cwest,bad,%zz=1"),
            ("RUST_LOG", "debug,h2=warn"),
            ("OTEL_LOG_LEVEL", "error"),
        ]);
        assert_eq!(
            (plan.service.as_str(), plan.level.as_str(), plan.remarks.len()),
            ("a", "debug,h2=warn", 1)
        );
        let shown: Vec<String> =
            plan.attributes.iter().map(|kv| format!("{}={}", kv.key, kv.value)).collect();
        assert_eq!(shown, ["zone=eu,west", "%zz=1", "service.version=1"]);
        let plan = plan_of(&[("OTEL_SERVICE_NAME", "b"), ("OTEL_LOG_LEVEL", "error")]);
        assert_eq!((plan.service.as_str(), plan.level.as_str()), ("b", "error"));
        let plan = plan_of(&[("RUST_LOG", "loud")]);
        assert_eq!((plan.level.as_str(), plan.remarks.len()), ("warn", 1));
    }

    #[test]
    fn samplers() {
        for (name, expected) in [
            ("always_on", "AlwaysOn"),
            ("always_off", "AlwaysOff"),
            ("traceidratio", "TraceIdRatioBased(0.25)"),
            ("parentbased_always_off", "ParentBased(AlwaysOff)"),
            ("parentbased_traceidratio", "ParentBased(TraceIdRatioBased(0.25))"),
            ("jaeger_remote", "ParentBased(AlwaysOn)"),
        ] {
            let plan = plan_of(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", "0.25")]);
            assert_eq!(format!("{:?}", plan.sampler), expected, "{name}");
            assert_eq!(plan.remarks.len(), usize::from(name == "jaeger_remote"));
        }
    }
}

//! Names: structured metadata names are made clean, streams without a `service_name` get one.

use std::borrow::Cow;

use model::{Labels, LabelsBuilder};

/// The label by which Grafana finds services.
pub const SERVICE_NAME: &str = "service_name";
/// Its value where no label tells.
pub const UNKNOWN_SERVICE: &str = "unknown_service";
/// Labels that tell the service's name, first come first.
pub const SERVICE_LABELS: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// A name has no letter or digit in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("structured metadata name '{0}' has no letter or digit")]
pub struct NameError(pub String);

/// Makes a metadata or attribute name a label name: characters outside `[A-Za-z0-9_]` become `_`, runs of `_` one (but `__x__`
/// keeps its outer pairs), a leading digit gets `key_` before it.
pub fn sanitise(name: &str) -> Result<Cow<'_, str>, NameError> {
    let bytes = name.as_bytes();
    let clean = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && bytes.first().is_some_and(|b| b.is_ascii_alphabetic())
        && !bytes.windows(2).any(|w| w == b"__");
    if clean {
        return Ok(Cow::Borrowed(name));
    }
    if !name.chars().any(|c| c.is_ascii_alphanumeric()) {
        return Err(NameError(name.to_owned()));
    }
    let dunder = name.len() > 4 && name.starts_with("__") && name.ends_with("__");
    let core = if dunder { &name[2..name.len() - 2] } else { name };
    let mut out = String::with_capacity(name.len() + 4);
    if dunder {
        out.push_str("__");
    } else if core.starts_with(|c: char| c.is_ascii_digit()) {
        out.push_str("key_");
    }
    let mut underscore = false;
    for c in core.chars() {
        let ordinary = c.is_ascii_alphanumeric();
        if ordinary || !underscore {
            out.push(if ordinary { c } else { '_' });
        }
        underscore = !ordinary;
    }
    if dunder {
        out.push_str("__");
    }
    Ok(Cow::Owned(out))
}

/// Adds `service_name` by the labels in `names`, unless it is there; returns whether it was added.
pub fn discover_service(labels: &mut LabelsBuilder, names: &[String]) -> bool {
    if names.is_empty() || labels.get(SERVICE_NAME).is_some() {
        return false;
    }
    let found = names.iter().find_map(|name| labels.get(name)).unwrap_or(UNKNOWN_SERVICE).to_owned();
    labels.set(SERVICE_NAME, &found);
    true
}

/// Label sets of our own, which get no further labels.
pub fn is_internal(labels: &Labels) -> bool {
    labels.get("__aggregated_metric__").is_some() || labels.get("__pattern__").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_clean() {
        for (name, clean) in [
            ("trace_id", "trace_id"),
            ("k8s.pod.name", "k8s_pod_name"),
            ("a.-b", "a_b"),
            ("a__b", "a_b"),
            ("__x.y__", "__x_y__"),
            ("_x", "_x"),
            ("1a", "key_1a"),
            ("é1", "_1"),
        ] {
            assert_eq!(sanitise(name).as_deref(), Ok(clean), "{name}");
        }
        assert!(sanitise("").is_err() && sanitise("__").is_err() && sanitise(".-").is_err());
    }

    #[test]
    fn services_are_named() {
        let names: Vec<String> = SERVICE_LABELS.iter().map(|n| (*n).to_owned()).collect();
        let check = |pairs: &[(&str, &str)], expect: Option<&str>| {
            let mut builder = Labels::from_pairs(pairs.iter().copied()).to_builder();
            discover_service(&mut builder, &names);
            assert_eq!(builder.get(SERVICE_NAME), expect, "{pairs:?}");
        };
        check(&[("job", "j"), ("app", "a")], Some("a"));
        check(&[("x", "y")], Some("unknown_service"));
        check(&[("service_name", "own"), ("app", "a")], Some("own"));
    }
}

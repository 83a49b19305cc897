//! The `__meta_kubernetes_pod_*` labels of a pod's containers, as Prometheus makes them.

use serde_json::Value;

use crate::discovery::sanitize;
use crate::relabel::TargetLabels;

/// A pod's unique id.
pub(super) fn uid(pod: &Value) -> Option<String> {
    pod.pointer("/metadata/uid")?.as_str().map(str::to_owned)
}

/// Labels of the targets of a pod: one for each port of each container, or one for a container without ports. A pod without
/// an address has none: it does not run yet.
pub(super) fn targets(pod: &Value) -> Vec<TargetLabels> {
    let address = text(pod, "/status/podIP");
    if address.is_empty() {
        return Vec::new();
    }
    let of_pod = pod_labels(pod, &address);
    let kinds = [("/spec/containers", false), ("/spec/initContainers", true)];
    let containers = kinds.into_iter().flat_map(|(at, init)| list(pod, at).map(move |c| (c, init)));
    let mut targets = Vec::new();
    for (container, init) in containers {
        let mut labels = of_pod.clone();
        let name = text(container, "/name");
        set(&mut labels, "container_image", text(container, "/image"));
        set(&mut labels, "container_init", init.to_string());
        set(&mut labels, "container_id", container_id(pod, &name));
        set(&mut labels, "container_name", name);
        let mut ports = list(container, "/ports").peekable();
        if ports.peek().is_none() {
            labels.insert("__address__".to_owned(), address.clone());
            targets.push(labels);
            continue;
        }
        for port in ports {
            let mut labels = labels.clone();
            let number = port.get("containerPort").and_then(Value::as_u64).unwrap_or_default();
            let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            labels.insert("__address__".to_owned(), format!("{host}:{number}"));
            set(&mut labels, "container_port_number", number.to_string());
            set(&mut labels, "container_port_name", text(port, "/name"));
            set(&mut labels, "container_port_protocol", text(port, "/protocol"));
            targets.push(labels);
        }
    }
    targets
}

fn pod_labels(pod: &Value, address: &str) -> TargetLabels {
    let mut labels = TargetLabels::new();
    labels.insert("__meta_kubernetes_namespace".to_owned(), text(pod, "/metadata/namespace"));
    set(&mut labels, "name", text(pod, "/metadata/name"));
    set(&mut labels, "ip", address.to_owned());
    set(&mut labels, "uid", text(pod, "/metadata/uid"));
    set(&mut labels, "phase", text(pod, "/status/phase"));
    set(&mut labels, "node_name", text(pod, "/spec/nodeName"));
    set(&mut labels, "host_ip", text(pod, "/status/hostIP"));
    let ready = list(pod, "/status/conditions").find(|c| text(c, "/type") == "Ready");
    set(&mut labels, "ready", ready.map_or("unknown".to_owned(), |c| text(c, "/status").to_lowercase()));
    let is_controller = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    if let Some(owner) = list(pod, "/metadata/ownerReferences").find(is_controller) {
        set(&mut labels, "controller_kind", text(owner, "/kind"));
        set(&mut labels, "controller_name", text(owner, "/name"));
    }
    for (at, kind) in [("/metadata/labels", "label"), ("/metadata/annotations", "annotation")] {
        for (name, value) in pod.pointer(at).and_then(Value::as_object).into_iter().flatten() {
            let name = sanitize(name);
            set(&mut labels, &format!("{kind}_{name}"), value.as_str().unwrap_or_default().to_owned());
            set(&mut labels, &format!("{kind}present_{name}"), "true".to_owned());
        }
    }
    labels
}

/// `containerd://…` of a container, once it was started.
fn container_id(pod: &Value, name: &str) -> String {
    let kinds = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let mut statuses = kinds.into_iter().flat_map(|at| list(pod, at));
    statuses.find(|status| text(status, "/name") == name).map_or(String::new(), |s| text(s, "/containerID"))
}

fn set(labels: &mut TargetLabels, name: &str, value: String) {
    if !value.is_empty() {
        labels.insert(format!("__meta_kubernetes_pod_{name}"), value);
    }
}

fn text(value: &Value, at: &str) -> String {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(at).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_of_a_pod() {
        let pod = json!({
            "metadata": {
                "name": "web-0", "namespace": "shop", "uid": "u-1",
                "labels": {"app.kubernetes.io/name": "web"},
                "annotations": {"a/b": ""},
                "ownerReferences": [{"kind": "X", "name": "x"}, {"kind": "StatefulSet", "name": "web", "controller": true}],
            },
            "spec": {
                "nodeName": "n1",
                "containers": [
                    {"name": "nginx", "image": "nginx:1", "ports": [
                        {"containerPort": 80, "name": "http", "protocol": "TCP"}, {"containerPort": 81, "protocol": "TCP"}]},
                    {"name": "side", "image": "side:2"},
                ],
                "initContainers": [{"name": "init", "image": "init:3"}],
            },
            "status": {
                "podIP": "10.0.0.1", "hostIP": "192.168.0.1", "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "nginx", "containerID": "containerd://abc"}],
            },
        });
        let all = targets(&pod);
        let show = |labels: &TargetLabels, names: &[&str]| {
            let get = |name: &&str| labels.get(*name).cloned().unwrap_or_else(|| "-".to_owned());
            names.iter().map(get).collect::<Vec<_>>().join(" ")
        };
        let per_target = [
            "__address__",
            "__meta_kubernetes_pod_container_name",
            "__meta_kubernetes_pod_container_id",
            "__meta_kubernetes_pod_container_init",
            "__meta_kubernetes_pod_container_port_name",
            "__meta_kubernetes_pod_container_port_number",
        ];
        assert_eq!(
            all.iter().map(|labels| show(labels, &per_target)).collect::<Vec<_>>(),
            [
                "10.0.0.1:80 nginx containerd://abc false http 80",
                "10.0.0.1:81 nginx containerd://abc false - 81",
                "10.0.0.1 side - false - -",
                "10.0.0.1 init - true - -",
            ]
        );
        let prefix = |name: &&str| format!("__meta_kubernetes_{name}");
        let of_pod = [
            "namespace",
            "pod_name",
            "pod_ip",
            "pod_ready",
            "pod_phase",
            "pod_uid",
            "pod_node_name",
            "pod_host_ip",
            "pod_controller_kind",
            "pod_controller_name",
            "pod_label_app_kubernetes_io_name",
            "pod_labelpresent_app_kubernetes_io_name",
            "pod_annotationpresent_a_b",
            "pod_container_image",
        ];
        let names: Vec<String> = of_pod.iter().map(prefix).collect();
        assert_eq!(
            show(&all[0], &names.iter().map(String::as_str).collect::<Vec<_>>()),
            "shop web-0 10.0.0.1 true Running u-1 n1 192.168.0.1 StatefulSet web web true true nginx:1"
        );
    }

    #[test]
    fn ids_come_and_change_with_the_containers() {
        let pod = |status: Value| {
            json!({
                "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1"},
                "spec": {"containers": [{"name": "nginx"}], "initContainers": [{"name": "init"}]},
                "status": status,
            })
        };
        let ids = |status: Value| {
            let id = |labels: &TargetLabels| labels.get("__meta_kubernetes_pod_container_id").cloned();
            targets(&pod(status)).iter().map(id).collect::<Vec<_>>()
        };
        let status = |init: Value, own: Value| json!({"podIP": "10.0.0.1", "initContainerStatuses": init, "containerStatuses": own});
        let some = |id: &str| Some(id.to_owned());
        // Scheduled, but no container is known yet: there are targets, without ids.
        assert_eq!(ids(json!({"podIP": "10.0.0.1"})), [None, None]);
        assert_eq!(ids(status(json!([]), Value::Null)), [None, None]);
        let waiting = json!([{"name": "nginx", "state": {"waiting": {"reason": "PodInitializing"}}}]);
        let init = json!([{"name": "init", "containerID": "containerd://1"}]);
        assert_eq!(ids(status(init.clone(), waiting)), [None, some("containerd://1")]);
        // Started, and again after a crash.
        for id in ["containerd://2", "cri-o://3"] {
            let own = json!([{"name": "nginx", "containerID": id, "lastState": {"terminated": {"containerID": "containerd://2"}}}]);
            assert_eq!(ids(status(init.clone(), own)), [some(id), some("containerd://1")]);
        }
    }

    #[test]
    fn pods_without_an_address_or_without_anything() {
        assert!(targets(&json!({"metadata": {"uid": "u"}, "status": {"phase": "Pending"}})).is_empty());
        assert!(targets(&json!({"status": {"podIP": "::1"}})).is_empty());
        assert!(targets(&json!(7)).is_empty());
        let v6 = json!({"spec": {"containers": [{"ports": [{"containerPort": 1}]}]}, "status": {"podIP": "fd00::1"}});
        assert_eq!(targets(&v6)[0]["__address__"], "[fd00::1]:1");
    }
}

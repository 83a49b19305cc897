//! The labels that a container is found under, which relabelling sees: Prometheus has a target for each of its networks and ports.
//!
//! Lines are read once, so of these targets the first that relabelling keeps is the container's. They come in an order that does not
//! change from one list to the next: networks by name, ports by number.

use std::collections::{BTreeMap, HashMap};

use super::docker_config::DockerSdConfig;
use super::engine::{Container, Endpoint, Network, Port};
use super::sanitize;
use crate::relabel::TargetLabels;
use crate::tail::Stream;

/// Networks by id.
pub(super) type Networks = HashMap<String, Network>;

/// The `__meta_docker_*` labels, and `__address__`, of each target of a container; at least one. `others` are the containers of
/// the same list, one of whose networks it may share.
pub(super) fn targets(
    container: &Container,
    others: &[Container],
    networks: &Networks,
    config: &DockerSdConfig,
) -> Vec<TargetLabels> {
    let base = of_container(container);
    let mut places: Vec<_> =
        places(container, others).iter().filter_map(|(n, e)| Some((n, e.as_ref()?))).collect();
    if config.match_first_network {
        places.truncate(1);
    }
    let mut ports: Vec<&Port> = container.ports.iter().filter(|port| port.protocol == "tcp").collect();
    // Where it is published on several addresses, IPv4 comes first.
    ports.sort();
    let mut targets = Vec::new();
    for (name, place) in places {
        let mut labels = base.clone();
        set(&mut labels, "network_ip", &place.ip_address);
        of_network(&mut labels, name, place, networks);
        let at = |port: u16| match place.ip_address.contains(':') {
            true => format!("[{}]:{port}", place.ip_address),
            false => format!("{}:{port}", place.ip_address),
        };
        if ports.is_empty() {
            let is_hosts = container.host_config.network_mode == "host";
            let address = if is_hosts { config.host_networking_host.clone() } else { at(config.port) };
            labels.insert("__address__".to_owned(), address);
            targets.push(labels);
            continue;
        }
        for port in &ports {
            let mut labels = labels.clone();
            labels.insert("__address__".to_owned(), at(port.private_port));
            set(&mut labels, "port_private", &port.private_port.to_string());
            if port.public_port > 0 {
                set(&mut labels, "port_public", &port.public_port.to_string());
                set(&mut labels, "port_public_ip", &port.ip);
            }
            targets.push(labels);
        }
    }
    if targets.is_empty() {
        targets.push(base);
    }
    targets
}

/// The same for one of its outputs.
pub(super) fn of_stream(target: &TargetLabels, stream: Stream) -> TargetLabels {
    let mut labels = target.clone();
    set(&mut labels, "container_log_stream", stream.as_str());
    labels
}

fn set(labels: &mut TargetLabels, name: &str, value: &str) {
    labels.insert(format!("__meta_docker_{name}"), value.to_owned());
}

fn of_container(container: &Container) -> TargetLabels {
    let mut labels = BTreeMap::new();
    set(&mut labels, "container_id", &container.id);
    set(&mut labels, "container_name", container.names.first().map_or("", String::as_str));
    set(&mut labels, "container_network_mode", &container.host_config.network_mode);
    for (key, value) in &container.labels {
        set(&mut labels, &format!("container_label_{}", sanitize(key)), value);
    }
    labels
}

fn of_network(labels: &mut TargetLabels, name: &str, place: &Endpoint, networks: &Networks) {
    set(labels, "network_id", &place.network_id);
    set(labels, "network_name", name);
    let Some(network) = networks.get(&place.network_id) else { return };
    set(labels, "network_name", &network.name);
    set(labels, "network_scope", &network.scope);
    set(labels, "network_internal", &network.internal.to_string());
    set(labels, "network_ingress", &network.ingress.to_string());
    for (key, value) in &network.labels {
        set(labels, &format!("network_label_{}", sanitize(key)), value);
    }
}

/// Its networks, or those of the container whose it shares, who may share another's.
fn places<'a>(
    mut container: &'a Container,
    others: &'a [Container],
) -> &'a BTreeMap<String, Option<Endpoint>> {
    for _ in 0..others.len() {
        let shares = container.host_config.network_mode.strip_prefix("container:");
        let Some(id) = shares.filter(|_| container.network_settings.networks.is_empty()) else { break };
        let Some(other) = others.iter().find(|other| other.id == id) else { break };
        container = other;
    }
    &container.network_settings.networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(json: serde_json::Value) -> Container {
        serde_json::from_value(json).unwrap()
    }

    /// The labels of all targets, without the prefix.
    fn check(container: &Container, others: &[Container], config: &str, want: &[&[(&str, &str)]]) {
        let config: DockerSdConfig = serde_json::from_str(config).unwrap();
        let network = |id: &str, name: &str, internal| Network {
            id: id.into(),
            name: name.into(),
            scope: "local".into(),
            internal,
            labels: HashMap::from([("tier-1".to_owned(), "x".to_owned())]),
            ..Network::default()
        };
        let networks = [network("n1", "back", true), network("n2", "front", false)];
        let networks = networks.map(|network| (network.id.clone(), network)).into();
        let targets = targets(container, others, &networks, &config);
        let short = |(name, value): (String, String)| {
            (name.strip_prefix("__meta_docker_").unwrap_or(&name).to_owned(), value)
        };
        let got: Vec<BTreeMap<String, String>> =
            targets.into_iter().map(|labels| labels.into_iter().map(short).collect()).collect();
        let want: Vec<BTreeMap<String, String>> = want
            .iter()
            .map(|labels| labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
            .collect();
        assert_eq!(got, want);
    }

    const C: &str = "container_id";
    const NAME: &str = "container_name";
    const MODE: &str = "container_network_mode";

    #[test]
    fn networks_and_ports() {
        let two = container(serde_json::json!({
            "Id": "c", "Names": ["/web"], "State": "running", "Labels": {"com.docker.compose.service": "web"},
            "HostConfig": {"NetworkMode": "front"},
            "Ports": [{"PrivatePort": 8443, "PublicPort": 443, "Type": "tcp", "IP": "::"},
                      {"PrivatePort": 8443, "PublicPort": 443, "Type": "tcp", "IP": "0.0.0.0"},
                      {"PrivatePort": 53, "Type": "udp"}, {"PrivatePort": 80, "Type": "tcp"}],
            "NetworkSettings": {"Networks": {"front": {"NetworkID": "n2", "IPAddress": "10.0.0.2"},
                                             "back": {"NetworkID": "n1", "IPAddress": "10.1.0.2"}}}}));
        let base = [
            (C, "c"),
            (NAME, "/web"),
            (MODE, "front"),
            ("container_label_com_docker_compose_service", "web"),
        ];
        let back = [
            ("network_id", "n1"),
            ("network_name", "back"),
            ("network_scope", "local"),
            ("network_internal", "true"),
            ("network_ingress", "false"),
            ("network_label_tier_1", "x"),
            ("network_ip", "10.1.0.2"),
        ];
        let front = [
            ("network_id", "n2"),
            ("network_name", "front"),
            ("network_scope", "local"),
            ("network_internal", "false"),
            ("network_ingress", "false"),
            ("network_label_tier_1", "x"),
            ("network_ip", "10.0.0.2"),
        ];
        let plain = |ip| [("__address__", ip), ("port_private", "80")];
        let public = |address, ip| {
            [
                ("__address__", address),
                ("port_private", "8443"),
                ("port_public", "443"),
                ("port_public_ip", ip),
            ]
        };
        let all: Vec<Vec<(&str, &str)>> =
            [(&back, "10.1.0.2:80", "10.1.0.2:8443"), (&front, "10.0.0.2:80", "10.0.0.2:8443")]
                .into_iter()
                .flat_map(|(network, first, second)| {
                    let own = [&base[..], &network[..]].concat();
                    [
                        [&own[..], &plain(first)[..]].concat(),
                        [&own[..], &public(second, "0.0.0.0")[..]].concat(),
                        [&own[..], &public(second, "::")[..]].concat(),
                    ]
                })
                .collect();
        let all: Vec<&[(&str, &str)]> = all.iter().map(Vec::as_slice).collect();
        check(&two, &[], "{}", &all[..3]);
        check(&two, &[], r#"{"match_first_network": false}"#, &all);
    }

    #[test]
    fn without_ports_or_networks() {
        let make = |id: &str, mode: &str, networks: serde_json::Value| {
            container(serde_json::json!({"Id": id, "Names": ["/x"], "HostConfig": {"NetworkMode": mode},
                "NetworkSettings": {"Networks": networks}}))
        };
        let host = make("c", "host", serde_json::json!({"host": {"NetworkID": "h", "IPAddress": ""}}));
        let labels = [
            (C, "c"),
            (NAME, "/x"),
            (MODE, "host"),
            ("network_id", "h"),
            ("network_name", "host"),
            ("network_ip", ""),
        ];
        check(&host, &[], "{}", &[&[&labels[..], &[("__address__", "localhost")]].concat()]);
        let named = [&labels[..], &[("__address__", "node-1")]].concat();
        check(&host, &[], r#"{"host_networking_host": "node-1"}"#, &[&named]);

        let none = make("c", "none", serde_json::json!({"none": {"NetworkID": "n", "IPAddress": ""}}));
        let labels = [
            (C, "c"),
            (NAME, "/x"),
            (MODE, "none"),
            ("network_id", "n"),
            ("network_name", "none"),
            ("network_ip", ""),
        ];
        check(&none, &[], r#"{"port": 90}"#, &[&[&labels[..], &[("__address__", ":90")]].concat()]);

        // It shares the network of one that shares it with a third.
        let third =
            make("c3", "bridge", serde_json::json!({"bridge": {"NetworkID": "b", "IPAddress": "fd00::1"}}));
        let others = [make("c2", "container:c3", serde_json::json!({})), third];
        let sharing = make("c", "container:c2", serde_json::json!({}));
        let own = [(C, "c"), (NAME, "/x"), (MODE, "container:c2")];
        let shared = [
            ("network_id", "b"),
            ("network_name", "bridge"),
            ("network_ip", "fd00::1"),
            ("__address__", "[fd00::1]:80"),
        ];
        check(&sharing, &others, "{}", &[&[&own[..], &shared[..]].concat()]);
        // The other is gone, or they share in a circle.
        check(&sharing, &[], "{}", &[&own]);
        let circle = [make("c2", "container:c", serde_json::json!({})), sharing.clone()];
        check(&sharing, &circle, "{}", &[&own]);
    }
}

//! Who has connected: `__syslog_connection_*`.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::relabel::TargetLabels;

/// Labels by address of the peer, remembered for the senders of datagrams.
#[derive(Debug, Default)]
pub(super) struct Peers(HashMap<IpAddr, TargetLabels>);

impl Peers {
    const MAX: usize = 1024;

    /// The labels of a peer.
    pub(super) fn labels(&mut self, address: IpAddr) -> &TargetLabels {
        if self.0.len() >= Self::MAX && !self.0.contains_key(&address) {
            self.0.clear();
        }
        self.0.entry(address).or_insert_with(|| labels(address))
    }
}

/// The labels of a peer. Its name is that of `/etc/hosts`; an address that is not there names itself, rather than have messages
/// wait for a name server.
pub(super) fn labels(address: IpAddr) -> TargetLabels {
    let address = address.to_canonical();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let name = name_in(&hosts, address).unwrap_or_else(|| address.to_string());
    TargetLabels::from([
        ("__syslog_connection_ip_address".to_owned(), address.to_string()),
        ("__syslog_connection_hostname".to_owned(), name),
    ])
}

/// The first name of an address in the text of `/etc/hosts`.
fn name_in(hosts: &str, address: IpAddr) -> Option<String> {
    let of_line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let is_it = words.next()?.parse() == Ok(address);
        words.next().filter(|_| is_it).map(str::to_owned)
    };
    hosts.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses() {
        let hosts = "# 10.0.0.1 no\n10.0.0.1\tweb-1 web # here\n::1 v6\n10.0.0.2\n";
        let check = |address: &str, want: Option<&str>| {
            assert_eq!(name_in(hosts, address.parse().unwrap()).as_deref(), want, "{address}");
        };
        check("10.0.0.1", Some("web-1"));
        check("::1", Some("v6"));
        check("10.0.0.2", None);
        check("10.0.0.3", None);
        let labels = labels("::ffff:192.0.2.77".parse().unwrap());
        assert_eq!(labels["__syslog_connection_ip_address"], "192.0.2.77");
        assert_eq!(labels["__syslog_connection_hostname"], "192.0.2.77");
    }

    #[test]
    fn memory_is_bounded() {
        let mut peers = Peers::default();
        for n in 0..3000_u32 {
            peers.labels(IpAddr::from(n.to_be_bytes()));
            assert!(peers.0.len() <= Peers::MAX);
        }
    }
}

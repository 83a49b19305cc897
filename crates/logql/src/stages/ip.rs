//! Addresses in texts: `ip("10.0.0.0/8")` in line and label filters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses: one, a CIDR block or a range `low-high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpSet {
    v6: bool,
    low: u128,
    high: u128,
}

fn number(addr: IpAddr) -> (bool, u128) {
    match addr {
        IpAddr::V4(v4) => (false, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => (true, u128::from(v6)),
    }
}

impl IpSet {
    pub(super) fn parse(pattern: &str) -> Option<Self> {
        if let Some((low, high)) = pattern.split_once('-') {
            let ((v6, low), (other, high)) =
                (number(low.trim().parse().ok()?), number(high.trim().parse().ok()?));
            return (v6 == other && low <= high).then_some(Self { v6, low, high });
        }
        let (addr, bits) = match pattern.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u32>().ok()?)),
            None => (pattern, None),
        };
        let (v6, addr) = number(addr.parse().ok()?);
        let width = if v6 { 128 } else { 32 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return None;
        }
        let free = width - bits;
        let hosts = if free == 128 { u128::MAX } else { (1 << free) - 1 };
        Some(Self { v6, low: addr & !hosts, high: addr | hosts })
    }

    fn contains(&self, addr: IpAddr) -> bool {
        let (v6, addr) = number(addr);
        v6 == self.v6 && (self.low..=self.high).contains(&addr)
    }

    /// Whether some address in the text belongs to the set.
    pub(super) fn occurs_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let part = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        let mut at = 0;
        while at < bytes.len() {
            let Some(skip) = bytes[at..].iter().position(part) else { return false };
            let start = at + skip;
            let end = bytes[start..].iter().position(|b| !part(b)).map_or(bytes.len(), |n| start + n);
            if self.occurs_in_run(&text[start..end]) {
                return true;
            }
            at = end;
        }
        false
    }

    /// `run` has only hexadecimal digits, colons and dots: an address perhaps with a port or a full stop behind it.
    fn occurs_in_run(&self, run: &str) -> bool {
        if self.v6 {
            let run = run.trim_end_matches('.');
            let parsed = run.parse::<Ipv6Addr>().or_else(|_| run.trim_end_matches(':').parse());
            return parsed.is_ok_and(|addr| self.contains(addr.into()));
        }
        run.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .filter_map(|part| part.trim_matches('.').parse::<Ipv4Addr>().ok())
            .any(|addr| self.contains(addr.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_texts() {
        let check = |pattern: &str, text: &str, want: bool| {
            assert_eq!(IpSet::parse(pattern).unwrap().occurs_in(text), want, "{pattern} in {text}");
        };
        check("10.0.0.0/8", "from 10.1.2.3:80 ok", true);
        check("10.0.0.0/8", "from 11.1.2.3 ok", false);
        check("10.1.0.0-10.2.255.255", "10.2.3.4.", true);
        check("192.168.0.1", "[192.168.0.1]", true);
        check("2001:db8::/32", "src=2001:db8::1 dst", true);
        check("2001:db8::/32", "src=2002:db8::1 dst", false);
        check("0.0.0.0/0", "version 1.2.3", false);
        for bad in ["", "x", "10.x", "10.0.0.0/33", "10.0.0.2-10.0.0.1", "10.0.0.1-::1"] {
            assert_eq!(IpSet::parse(bad), None, "{bad}");
        }
    }
}

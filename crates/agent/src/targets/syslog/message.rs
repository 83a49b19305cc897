//! A syslog message, however it was written, and the labels that it gives.

use std::borrow::Cow;

use model::Timestamp;

use crate::discovery::sanitize;
use crate::relabel::TargetLabels;

/// An element of structured data: its id and parameters.
pub(super) type Element<'a> = (&'a str, Vec<(&'a str, Cow<'a, str>)>);

/// What a message says. Parts that were left out, or written as `-`, are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message<'a> {
    /// Facility and severity: `8 × facility + severity`, below 192.
    pub(super) priority: u8,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) host: Option<&'a str>,
    pub(super) app: Option<&'a str>,
    pub(super) process: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    /// Structured data by element: parameters in the order of writing.
    pub(super) data: Vec<Element<'a>>,
    /// What is left: the text. Never empty.
    pub(super) text: Option<&'a str>,
}

/// Reads `<34>`; the priority and what follows.
pub(super) fn priority(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = plain.then(|| digits.parse().ok()).flatten().filter(|p| *p < 192)?;
    Some((priority, rest))
}

impl Message<'_> {
    /// The severity's keyword.
    fn severity(&self) -> &'static str {
        const NAMES: [&str; 8] =
            ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"];
        NAMES[usize::from(self.priority % 8)]
    }

    /// The facility's keyword, or its description where it has none, as Promtail gives it.
    fn facility(&self) -> &'static str {
        const NAMES: [&str; 24] = [
            "kern",
            "user",
            "mail",
            "daemon",
            "auth",
            "syslog",
            "lpr",
            "news",
            "uucp",
            "clock daemon",
            "authpriv",
            "ftp",
            "NTP subsystem",
            "log audit",
            "log alert",
            "cron",
            "local0",
            "local1",
            "local2",
            "local3",
            "local4",
            "local5",
            "local6",
            "local7",
        ];
        NAMES.get(usize::from(self.priority / 8)).copied().unwrap_or_default()
    }

    /// Adds the `__syslog_message_*` labels; those of structured data if `with_data`.
    pub(super) fn label(&self, labels: &mut TargetLabels, with_data: bool) {
        let mut set = |name: &str, value: &str| {
            labels.insert(format!("__syslog_message_{name}"), value.to_owned());
        };
        set("severity", self.severity());
        set("facility", self.facility());
        let parts = [
            ("hostname", self.host),
            ("app_name", self.app),
            ("proc_id", self.process),
            ("msg_id", self.kind),
        ];
        for (name, value) in parts {
            value.into_iter().for_each(|value| set(name, value));
        }
        for (id, parameters) in self.data.iter().filter(|_| with_data) {
            for (name, value) in parameters {
                set(&format!("sd_{}_{}", sanitize(id), sanitize(name)), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities() {
        let check = |text: &str, want: Option<(u8, &str)>| assert_eq!(priority(text), want, "{text}");
        check("<0>x", Some((0, "x")));
        check("<191>", Some((191, "")));
        for bad in ["", "<", "<>x", "<192>x", "<0001>x", "<+1>x", "x<1>", "<1", "<999999999999>"] {
            check(bad, None);
        }
    }

    #[test]
    fn labels_of_a_message() {
        let message = Message {
            priority: 165,
            host: Some("h"),
            process: Some("7"),
            data: vec![("id@32473", vec![("a.b", "v".into())])],
            ..Message::default()
        };
        let check = |with_data: bool, want: &[(&str, &str)]| {
            let mut labels = TargetLabels::new();
            message.label(&mut labels, with_data);
            let shown: Vec<_> =
                labels.iter().map(|(n, v)| (n.trim_start_matches("__syslog_message_"), v.as_str())).collect();
            assert_eq!(shown, want);
        };
        let plain = [("facility", "local4"), ("hostname", "h"), ("proc_id", "7"), ("severity", "notice")];
        check(false, &plain);
        let data = [&plain[..3], &[("sd_id_32473_a_b", "v")], &plain[3..]].concat();
        check(true, &data);
    }

    #[test]
    fn every_priority_has_names() {
        for priority in 0..192 {
            let message = Message { priority, ..Message::default() };
            assert!(!message.severity().is_empty() && !message.facility().is_empty(), "{priority}");
        }
    }
}

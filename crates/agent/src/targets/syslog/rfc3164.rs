//! RFC 3164, which describes rather than defines: `<34>Oct 11 22:14:15 host app[123]: text`. Only the priority must be there.

use model::Timestamp;
use model::gotime::{Layout, Zone};

use super::message::{Message, priority};

/// Reads a message; times without a year are near `now`, and in UTC. `None` if there is no priority.
pub(super) fn parse(text: &str, now: Timestamp) -> Option<Message<'_>> {
    let (priority, rest) = priority(text)?;
    let (timestamp, rest) = time(rest, now);
    let mut message = Message { priority, timestamp, ..Message::default() };
    // Without a time there is no header to speak of.
    let text = if timestamp.is_some() { header(rest, &mut message) } else { rest };
    message.text = Some(text).filter(|text| !text.is_empty());
    Some(message)
}

/// The time and what follows its space.
fn time(text: &str, now: Timestamp) -> (Option<Timestamp>, &str) {
    /// `Oct 11 22:14:15`
    const LENGTH: usize = 15;
    if let (Some(written), Some(rest)) = (text.get(..LENGTH), text.get(LENGTH..))
        && let Ok(time) = Layout::parse("Jan _2 15:04:05").read_near(written, &Zone::utc(), now)
    {
        return (Some(time), rest.strip_prefix(' ').unwrap_or(rest));
    }
    if let (Some((written, rest)), Some(layout)) = (text.split_once(' '), Layout::named("RFC3339Nano"))
        && let Ok(time) = layout.read(written, &Zone::utc())
    {
        return (Some(time), rest);
    }
    (None, text)
}

/// Takes host and tag; what is left.
fn header<'a>(text: &'a str, message: &mut Message<'a>) -> &'a str {
    if let Some(text) = tag(text, message) {
        return text;
    }
    match text.split_once(' ') {
        Some((host, rest)) if !host.is_empty() => {
            message.host = Some(host);
            tag(rest, message).unwrap_or(rest)
        }
        _ => text,
    }
}

/// Takes `app:` or `app[123]:`; the text after it, if there was a tag.
fn tag<'a>(text: &'a str, message: &mut Message<'a>) -> Option<&'a str> {
    let end = text.find([':', '[', ' ']).filter(|end| *end > 0)?;
    let (app, rest) = text.split_at(end);
    let (process, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (process, rest) = rest.split_once(']')?;
            let is_plain = !process.contains([' ', '[']);
            (Some(process).filter(|p| !p.is_empty()), rest.strip_prefix(':').filter(|_| is_plain)?)
        }
        None => (None, rest.strip_prefix(':')?),
    };
    // `2001:db8::1` and `host:80` are hosts.
    let text = match rest.strip_prefix(' ') {
        Some(text) => text,
        None if rest.is_empty() || process.is_some() => rest,
        None => return None,
    };
    (message.app, message.process) = (Some(app), process);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2024-01-15.
    const NOW: Timestamp = Timestamp(1_705_312_800_000_000_000);

    fn check(text: &str, want: [&str; 5]) {
        let message = parse(text, NOW).unwrap_or_else(|| panic!("not a message: {text}"));
        let time = message.timestamp.map_or("-".to_owned(), |t| t.to_string());
        let show = |part: Option<&str>| part.unwrap_or("-").to_owned();
        let shown = [time, show(message.host), show(message.app), show(message.process), show(message.text)];
        assert_eq!(shown.each_ref().map(String::as_str), want, "{text}");
    }

    #[test]
    fn forms_in_the_wild() {
        check(
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
            ["2024-10-11T22:14:15Z", "mymachine", "su", "-", "'su root' failed"],
        );
        check("<13>Jan  5 01:02:03 host sshd[42]: hi", ["2024-01-05T01:02:03Z", "host", "sshd", "42", "hi"]);
        check("<13>Dec 31 23:59:59 h a: x", ["2023-12-31T23:59:59Z", "h", "a", "-", "x"]);
        check(
            "<13>Jan  5 01:02:03 sshd[42]: no host",
            ["2024-01-05T01:02:03Z", "-", "sshd", "42", "no host"],
        );
        check(
            "<13>2024-02-03T04:05:06.5+01:00 host app: x",
            ["2024-02-03T03:05:06.5Z", "host", "app", "-", "x"],
        );
        check(
            "<13>Jan  5 01:02:03 host no tag here",
            ["2024-01-05T01:02:03Z", "host", "-", "-", "no tag here"],
        );
        check("<13>Jan  5 01:02:03 fd00::1 app: x", ["2024-01-05T01:02:03Z", "fd00::1", "app", "-", "x"]);
        check("<13>just text: here", ["-", "-", "-", "-", "just text: here"]);
        check("<13>", ["-", "-", "-", "-", "-"]);
    }

    #[test]
    fn years_are_near() {
        // 2023-12-31T23:59:50Z: the sender's clock is a little ahead.
        let eve = Timestamp(1_704_067_190_000_000_000);
        let time = |text: &str, now| parse(text, now).unwrap().timestamp.unwrap().to_string();
        assert_eq!(time("<13>Jan  1 00:00:05 h a: x", eve), "2024-01-01T00:00:05Z");
        assert_eq!(time("<13>Dec 31 23:59:45 h a: x", eve), "2023-12-31T23:59:45Z");
        assert_eq!(time("<13>Feb 29 12:00:00 h a: x", NOW), "2024-02-29T12:00:00Z");
    }

    #[test]
    fn what_is_no_message() {
        for text in ["", "no priority", "<300>x"] {
            assert_eq!(parse(text, NOW), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,100}", tail in r"[\[\]: a-z0-9é]{0,40}") {
            parse(&text, NOW);
            parse(&format!("<1>{text}"), NOW);
            parse(&format!("<1>Jan  5 01:02:03 {tail}"), NOW);
        }
    }
}

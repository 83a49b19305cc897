//! RFC 5424: `<34>1 2003-10-11T22:14:15.003Z host app 123 ID47 [id name="value"] text`.

use std::borrow::Cow;

use model::gotime::{Layout, Zone};

use super::message::{Element, Message, priority};

/// Reads a message; `None` if it is not one.
pub(super) fn parse(text: &str) -> Option<Message<'_>> {
    let (priority, rest) = priority(text)?;
    let (version, rest) = rest.split_once(' ')?;
    let is_version = (1..=3).contains(&version.len())
        && version.bytes().all(|b| b.is_ascii_digit())
        && !version.starts_with('0');
    let (time, rest) = rest.split_once(' ').filter(|_| is_version)?;
    let timestamp = match time {
        "-" => None,
        time => Some(Layout::named("RFC3339Nano")?.read(time, &Zone::utc()).ok()?),
    };
    let (host, rest) = field(rest)?;
    let (app, rest) = field(rest)?;
    let (process, rest) = field(rest)?;
    let (kind, rest) = field(rest)?;
    let (data, rest) = structured_data(rest)?;
    let rest = match rest.strip_prefix(' ') {
        Some(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        None if rest.is_empty() => rest,
        None => return None,
    };
    let text = Some(rest).filter(|text| !text.is_empty());
    Some(Message { priority, timestamp, host, app, process, kind, data, text })
}

/// A field of the header and what follows its space; `-` is none.
fn field(text: &str) -> Option<(Option<&str>, &str)> {
    let (field, rest) = text.split_once(' ')?;
    let is_field = !field.is_empty() && field.bytes().all(|b| b.is_ascii_graphic());
    is_field.then(|| (Some(field).filter(|field| *field != "-"), rest))
}

/// `-`, or elements in brackets one after the other.
fn structured_data(text: &str) -> Option<(Vec<Element<'_>>, &str)> {
    if let Some(rest) = text.strip_prefix('-') {
        return Some((Vec::new(), rest));
    }
    let (mut elements, mut rest) = (Vec::new(), text);
    while rest.starts_with('[') {
        let (element, after) = element(rest)?;
        elements.push(element);
        rest = after;
    }
    (!elements.is_empty()).then_some((elements, rest))
}

/// `[id name="value" …]`
fn element(text: &str) -> Option<(Element<'_>, &str)> {
    let (id, mut rest) = name(text.strip_prefix('[')?)?;
    let mut parameters = Vec::new();
    while let Some(parameter) = rest.strip_prefix(' ') {
        let (name, after) = name(parameter)?;
        let (value, after) = value(after.strip_prefix("=\"")?)?;
        parameters.push((name, value));
        rest = after;
    }
    Some(((id, parameters), rest.strip_prefix(']')?))
}

/// A name: printable, without space, `=`, `]` and `"`.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_end = |b: u8| !b.is_ascii_graphic() || matches!(b, b'=' | b']' | b'"');
    let end = text.bytes().position(is_end).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A value up to its closing quote. A backslash makes `"`, `\` and `]` stand for themselves; before anything else it is one.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (mut out, mut from, mut at) = (String::new(), 0, 0);
    loop {
        at += memchr::memchr2(b'"', b'\\', text.as_bytes().get(at..)?)?;
        if text.as_bytes()[at] == b'"' {
            let value = match out.is_empty() {
                true => Cow::Borrowed(&text[from..at]),
                false => Cow::Owned(out + &text[from..at]),
            };
            return Some((value, &text[at + 1..]));
        }
        match text.as_bytes().get(at + 1) {
            Some(b'"' | b'\\' | b']') => {
                out.push_str(&text[from..at]);
                (from, at) = (at + 1, at + 2);
                // What is owned must not look borrowed: the escaped character is its first.
                if out.is_empty() {
                    out.push_str(&text[from..at]);
                    from = at;
                }
            }
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Message<'_> {
        parse(text).unwrap_or_else(|| panic!("not a message: {text}"))
    }

    #[test]
    fn examples_of_the_rfc() {
        let message = parsed(
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
        );
        assert_eq!(message.priority, 34);
        assert_eq!(message.timestamp.unwrap().to_string(), "2003-10-11T22:14:15.003Z");
        assert_eq!((message.host, message.app), (Some("mymachine.example.com"), Some("su")));
        assert_eq!((message.process, message.kind), (None, Some("ID47")));
        assert_eq!(message.text, Some("'su root' failed for lonvick on /dev/pts/8"));

        let message = parsed(
            r#"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts."#,
        );
        assert_eq!(message.timestamp.unwrap().to_string(), "2003-08-24T12:14:15.000003Z");
        assert_eq!(message.process, Some("8710"));

        let message = parsed(
            r#"<165>1 2003-10-11T22:14:15.003Z m evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]"#,
        );
        assert_eq!(message.text, None);
        let ids: Vec<_> = message.data.iter().map(|(id, parameters)| (*id, parameters.len())).collect();
        assert_eq!(ids, [("exampleSDID@32473", 3), ("examplePriority@32473", 1)]);
        assert_eq!(message.data[0].1[1], ("eventSource", "Application".into()));
    }

    #[test]
    fn values_are_unescaped() {
        let check = |written: &str, want: &str| {
            let text = format!("<1>1 - - - - - [i n=\"{written}\"]");
            assert_eq!(parsed(&text).data[0].1[0].1, want, "{written}");
        };
        check("", "");
        check(r"a\]b", "a]b");
        check(r#"\"\\\]"#, r#""\]"#);
        check(r"c:\dir", r"c:\dir");
        check("é ]", "é ]");
    }

    #[test]
    fn what_is_no_message() {
        for text in [
            "",
            "hello",
            "<34>",
            "<34>1",
            "<34>0 - - - - - - x",
            "<34>1 yesterday - - - - - x",
            "<34>1 - - - - -",
            "<34>1 - - - - - -x",
            "<34>1 - - - - - [",
            "<34>1 - - - - - [a",
            "<34>1 - - - - - [a b=\"c]",
            "<34>1 - - - - - []",
            "<34>1 - -  - - - x",
            "<34>1 - h\u{e9} - - - - x",
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}", tail in r#"[\[\]"\\= a-z@é-]{0,60}"#) {
            parse(&text);
            parse(&format!("<34>1 - - - - - {tail}"));
            parse(&format!("<34>1 {text}"));
        }

        #[test]
        fn what_is_written_is_read(
            priority in 0_u8..192,
            fields in proptest::collection::vec("[!-~]{1,20}", 4),
            parameters in proptest::collection::vec(("[a-zA-Z0-9.@]{1,10}", ".{0,20}"), 0..4),
            text in "[^\u{feff}].{0,50}",
        ) {
            let escape = |value: &str| value.replace('\\', r"\\").replace('"', "\\\"").replace(']', r"\]");
            let written: String = parameters.iter().map(|(n, v)| format!(" {n}=\"{}\"", escape(v))).collect();
            let line = format!("<{priority}>1 - {} [id{written}] {text}", fields.join(" "));
            let message = parse(&line).unwrap();
            prop_assert_eq!(message.priority, priority);
            prop_assert_eq!(message.text, Some(text.as_str()));
            let host = Some(fields[0].as_str()).filter(|host| *host != "-");
            prop_assert_eq!(message.host, host);
            let read: Vec<_> = message.data[0].1.iter().map(|(n, v)| ((*n).to_owned(), v.to_string())).collect();
            prop_assert_eq!(read, parameters);
        }
    }
}

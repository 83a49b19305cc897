//! Sprig's functions on texts that need more than a line. Characters are bytes where Go has bytes; a cut within one leaves
//! U+FFFD.

use std::fmt::Write as _;

use gotemplate::MAX_LENGTH;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Adler-32 (RFC 1950).
pub(super) fn adler32(text: &str) -> u32 {
    let (a, b) = text.bytes().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

/// The alphabet of base 32 (RFC 4648).
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

pub(super) fn base32(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for chunk in text.as_bytes().chunks(5) {
        let bits =
            (0..5).fold(0_u64, |bits, i| bits << 8 | u64::from(chunk.get(i).copied().unwrap_or_default()));
        let digits = (chunk.len() * 8).div_ceil(5);
        for i in 0..8 {
            let digit = BASE32[(bits >> (35 - 5 * i) & 31) as usize];
            out.push(if i < digits { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Undoes [`base32`]; where that cannot be, Go's complaint.
pub(super) fn from_base32(text: &str) -> String {
    let digits = text.trim_end_matches('=');
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(digits.len()), 0_u64, 0);
    for (at, byte) in digits.bytes().enumerate() {
        let Some(digit) = BASE32.iter().position(|b| *b == byte) else {
            return format!("illegal base32 data at input byte {at}");
        };
        (bits, count) = (bits << 5 | digit as u64, count + 5);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    if !text.len().is_multiple_of(8) {
        return format!("illegal base32 data at input byte {}", text.len());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// At most `width` bytes, three of them dots where something was cut behind, or also before if `offset` is beyond it.
pub(super) fn abbreviated(offset: usize, width: usize, text: &str) -> String {
    let length = text.len();
    let cut = |from: usize, to: usize| String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned();
    if length <= width {
        return text.to_owned();
    }
    let offset = offset.min(length).min(length - (width - 3));
    if offset <= 4 {
        return cut(0, width - 3) + "...";
    }
    if offset + width - 3 < length {
        return format!("...{}", abbreviated(0, width - 3, &cut(offset, length)));
    }
    format!("...{}", cut(length - (width - 3), length))
}

/// The first letter of each word in lower case.
pub(super) fn uncapitalized(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .flat_map(|c| {
            let lower = before.is_whitespace();
            before = c;
            if lower { c.to_lowercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

/// Small letters large and large ones small; the first of each word is made large where it was small.
pub(super) fn swapped_case(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .flat_map(|c| {
            let first = before.is_whitespace();
            before = c;
            match c {
                c if c.is_uppercase() => c.to_lowercase().collect::<Vec<_>>(),
                c if c.is_lowercase() && first => c.to_uppercase().collect(),
                c if c.is_lowercase() => c.to_uppercase().collect(),
                c => vec![c],
            }
        })
        .collect()
}

pub(super) fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

/// Words in lower case, told apart by blanks, `_`, `-`, `.`, by capital letters (the last of several begins a word), and by
/// digits with small letters behind them.
pub(super) fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for (i, &c) in chars.iter().enumerate() {
        if c.is_whitespace() || matches!(c, '_' | '-' | '.') {
            open = false;
            continue;
        }
        let before = if i > 0 { chars[i - 1] } else { ' ' };
        let begins = if c.is_uppercase() {
            !before.is_uppercase() || chars.get(i + 1).is_some_and(|next| next.is_lowercase())
        } else if c.is_ascii_digit() && !before.is_ascii_digit() {
            let behind = chars[i..].iter().find(|c| !c.is_ascii_digit());
            let in_number = words.last().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            !in_number && behind.is_some_and(|c| c.is_lowercase())
        } else {
            false
        };
        if !open || begins {
            words.push(String::new());
            open = true;
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// Lines of at most `width` bytes, broken at blanks; a longer word is cut only if `cuts_words`.
pub(super) fn wrapped(width: i64, separator: &str, cuts_words: bool, text: &str) -> String {
    let width = usize::try_from(width).unwrap_or_default().clamp(1, MAX_LENGTH);
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while bytes.len() - at > width && out.len() <= MAX_LENGTH {
        if bytes[at] == b' ' {
            at += 1;
            continue;
        }
        let blank = memchr::memrchr(b' ', &bytes[at..=at + width]).map(|blank| at + blank);
        let end = match blank {
            Some(blank) => blank,
            None if cuts_words => at + width,
            None => match memchr::memchr(b' ', &bytes[at + width..]) {
                Some(blank) => at + width + blank,
                None => break,
            },
        };
        out.extend_from_slice(&bytes[at..end]);
        out.extend_from_slice(separator.as_bytes());
        at = if blank.is_none() && cuts_words { end } else { end + 1 };
    }
    out.extend_from_slice(&bytes[at..]);
    String::from_utf8_lossy(&out).into_owned()
}

/// The shortest name of the same path.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

pub(super) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

pub(super) fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |at| &path[..=at]))
}

pub(super) fn extension(path: &str) -> &str {
    let name = &path[path.rfind('/').map_or(0, |at| at + 1)..];
    name.rfind('.').map_or("", |at| &name[at..])
}

/// The text with `$name` and `${name}` replaced by what `value` says.
pub(super) fn expanded(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braced = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        match braced {
            Some((name, behind)) => {
                out.push_str(&value(name));
                rest = behind;
            }
            None if length == 0 => out.push('$'),
            None => {
                out.push_str(&value(&rest[..length]));
                rest = &rest[length..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(
            (base32("foobar").as_str(), from_base32("MZXW6YTBOI======").as_str()),
            ("MZXW6YTBOI======", "foobar")
        );
        assert_eq!(from_base32("M1"), "illegal base32 data at input byte 1");
        assert_eq!(abbreviated(0, 5, "hello world"), "he...");
        assert_eq!(abbreviated(5, 10, "1234 5678 9123"), "...5678...");
        assert_eq!(abbreviated(12, 10, "1234 5678 9123"), "...78 9123");
        let snake = |text: &str| words(text).join("_");
        for (text, want) in [
            ("FirstName", "first_name"),
            ("HTTPServer", "http_server"),
            ("NoHTTPS", "no_https"),
            ("GO PATH-a.b", "go_path_a_b"),
            ("http2xx", "http_2xx"),
            ("HTTP20xOK", "http_20x_ok"),
            ("Duration2m3s", "duration_2m3s"),
            ("Bld4Floor3rd", "bld4_floor_3rd"),
        ] {
            assert_eq!(snake(text), want);
        }
        assert_eq!(wrapped(5, "\n", false, "aa bb cc dddddddd e"), "aa bb\ncc\ndddddddd\ne");
        assert_eq!(wrapped(3, "|", true, "aaaabb"), "aaa|abb");
        assert_eq!(
            (clean("/a/../b//c/."), clean("../a/.."), clean("")),
            ("/b/c".into(), "..".into(), ".".into())
        );
        assert_eq!((dir("/a/b/"), dir("a"), dir("/")), ("/a/b".into(), ".".into(), "/".into()));
        assert_eq!((base("/a/b/"), extension("/a.b/c"), extension("c.tar.gz")), ("b", "", ".gz"));
        assert_eq!(expanded("a $x ${y z} $ $", |name| format!("<{name}>")), "a <x> <y z> $ $");
        assert_eq!(swapped_case("aB c"), "Ab C");
    }
}

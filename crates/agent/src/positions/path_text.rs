//! Paths in the state. Names are bytes, JSON is text: a path that is no text is written with its odd bytes escaped, and comes back as
//! it was; all others are plain strings.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text<'a> {
    Plain(Cow<'a, str>),
    /// `\xe9` is a byte, `\\` a backslash.
    Escaped {
        escaped: Cow<'a, str>,
    },
}

impl<'a> Text<'a> {
    fn of(path: &'a Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Plain(text.into()),
            None => Self::Escaped { escaped: escape(path.as_os_str().as_bytes()).into() },
        }
    }

    fn path(self) -> Option<PathBuf> {
        match self {
            Self::Plain(text) => Some(text.into_owned().into()),
            Self::Escaped { escaped } => Some(OsString::from_vec(unescape(&escaped)?).into()),
        }
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        if let Some(after) = escape.strip_prefix('\\') {
            bytes.push(b'\\');
            rest = after;
        } else {
            let byte = escape.strip_prefix('x')?;
            bytes.push(u8::from_str_radix(byte.get(..2)?, 16).ok()?);
            rest = byte.get(2..)?;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    Text::of(path).serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let text = Text::deserialize(from)?;
    text.path().ok_or_else(|| D::Error::custom("a path has an escape that is neither \\\\ nor \\xHH"))
}

/// The same of a path that may be missing.
pub(super) mod optional {
    use super::*;

    pub(in crate::positions) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Text::of).serialize(to)
    }

    pub(in crate::positions) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<Text<'_>>::deserialize(from)?;
        let path = |text: Text<'_>| text.path().ok_or_else(|| D::Error::custom("a path's escape is wrong"));
        text.map(path).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "super")]
        path: PathBuf,
        #[serde(default, with = "super::optional")]
        real: Option<PathBuf>,
    }

    #[test]
    fn text_is_plain_and_the_rest_readable() {
        let check = |bytes: &[u8], want: &str| {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            let text = serde_json::to_string(&Holder { path, real: None }).unwrap();
            assert_eq!(text, format!(r#"{{"path":{want},"real":null}}"#));
        };
        check(b"/var/log/a.log", r#""/var/log/a.log""#);
        check("/l/caf\u{e9}\\x41.log".as_bytes(), "\"/l/caf\u{e9}\\\\x41.log\"");
        check(b"/l/caf\xe9.log", r#"{"escaped":"/l/caf\\xe9.log"}"#);
        check(b"/l/\xff\\n", r#"{"escaped":"/l/\\xff\\\\n"}"#);
    }

    #[test]
    fn wrong_escapes_are_errors() {
        for text in [r"\", r"\x", r"\xe", r"\xé", r"\n", r"\xgg"] {
            let json = serde_json::json!({"path": {"escaped": text}}).to_string();
            assert!(serde_json::from_str::<Holder>(&json).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_path_comes_back(bytes: Vec<u8>, odd in "[\\\\x0-9a-f/\u{e9}]{0,20}", cut in 0usize..20) {
            let mut mixed = odd.clone().into_bytes();
            mixed.truncate(cut);
            for bytes in [bytes, odd.into_bytes(), mixed] {
                let path = PathBuf::from(OsString::from_vec(bytes));
                let holder = Holder { path: path.clone(), real: Some(path) };
                let text = serde_json::to_string(&holder).unwrap();
                prop_assert_eq!(serde_json::from_str::<Holder>(&text).unwrap(), holder);
            }
        }
    }
}

//! JSON strings at a glance: most have no escapes, or simple ones. What is not simple is left to a parser.

/// Where the string that `bytes` lie within ends, is escaped, or breaks JSON's rules: the first quote, backslash or control byte.
#[inline]
pub(crate) fn special(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        if let Some(at) = special_of(*word) {
            return Some(8 * i + at);
        }
    }
    rest.iter().position(is_special).map(|at| 8 * words.len() + at)
}

#[inline]
fn is_special(byte: &u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// As [`special`], of eight bytes at once.
#[inline]
fn special_of(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    // The high bit of a byte is set where the byte is 0, or less than 0x20; higher bytes may have it wrongly, the lowest never.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let found =
        (control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')))) & HIGHS;
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

/// Reads a string whose opening quote is before `text`: its value, and what comes behind the closing quote. `None` if it
/// does not end, or takes a parser.
pub(crate) fn unescape(text: &str) -> Option<(String, &str)> {
    let bytes = text.as_bytes();
    // Escapes take more than what they stand for, so this is enough up to the first string's end.
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    loop {
        // Escapes are close to each other, so what lies between them is copied by the word, and what was too much taken back.
        let plain = match bytes[at..].first_chunk::<8>() {
            Some(word) => {
                out.extend_from_slice(word);
                let Some(plain) = special_of(*word) else {
                    at += 8;
                    continue;
                };
                out.truncate(out.len() - (8 - plain));
                plain
            }
            None => {
                let plain = bytes[at..].iter().position(is_special)?;
                out.extend_from_slice(&bytes[at..at + plain]);
                plain
            }
        };
        at += plain;
        if bytes[at] == b'"' {
            return Some((String::from_utf8(out).ok()?, &text[at + 1..]));
        }
        if bytes[at] != b'\\' {
            return None;
        }
        let escape = *bytes.get(at + 1)?;
        at += 2;
        out.push(match escape {
            b'"' | b'\\' | b'/' => escape,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x8,
            b'f' => 0xc,
            b'u' => {
                let digits = text.get(at..at + 4).filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))?;
                at += 4;
                // Halves of a character are left to a parser.
                let escaped = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                out.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_that_is_special(bytes: Vec<u8>, plain in "[a-zé~ -]{0,40}") {
            let simple = |bytes: &[u8]| bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(special(&bytes), simple(&bytes));
            let mut long = plain.into_bytes();
            long.extend_from_slice(&bytes);
            prop_assert_eq!(special(&long), simple(&long));
        }

        #[test]
        fn as_a_parser_reads_it(text in "\\PC{0,60}", raw in "([a-z\"é]|\\\\[\"\\\\/bfnrtux]|\\\\u[0-9a-fA-F]{4}|[\\x00-\\x20]){0,20}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let (value, rest) = unescape(&quoted[1..]).unwrap();
            prop_assert_eq!((value.as_str(), rest), (text.as_str(), ""));
            // Whatever is read is what a parser reads.
            if let Some((value, rest)) = unescape(&raw) {
                let json = format!("\"{}", &raw[..raw.len() - rest.len()]);
                prop_assert_eq!(Some(value), serde_json::from_str::<String>(&json).ok(), "{}", json);
            }
        }
    }
}

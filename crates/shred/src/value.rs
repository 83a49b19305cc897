//! Values as text and back, such that the bytes are the same.

use crate::{Form, Kind};

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
/// All decimals are less, whatever their sign: other programs know decimals of 64 bits as those of 18 digits.
const LIMIT: i64 = 1_000_000_000_000_000_000;
/// Digits after the point that a decimal can have.
pub(crate) const MAX_SCALE: u8 = 18;

/// The integer that is written so in its shortest form.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0', rest @ ..] if negative || !rest.is_empty() => return None,
        _ if digits.len() > 19 => return None,
        _ => {}
    }
    let mut value = 0u64;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // At most 19 digits: less than 10^19, which fits.
        value = value * 10 + u64::from(digit);
    }
    match negative {
        false => i64::try_from(value).ok(),
        true => 0i64.checked_sub_unsigned(value),
    }
}

/// The number in units of 10^-`scale`, and how many digits stood after the point.
#[inline]
pub(crate) fn decimal(text: &[u8], scale: u8) -> Option<(i64, u8)> {
    let Some(point) = text.iter().position(|b| *b == b'.') else {
        let value = integer(text)?.checked_mul(power_of_ten(scale)?)?;
        return (value.unsigned_abs() < LIMIT as u64).then_some((value, 0));
    };
    let (whole, digits) = (&text[..point], &text[point + 1..]);
    let count = u8::try_from(digits.len()).ok().filter(|n| (1..=scale).contains(n))?;
    let (negative, whole) = match whole {
        [b'-', whole @ ..] => (true, whole),
        whole => (false, whole),
    };
    let whole = integer(whole).filter(|w| *w >= 0)?;
    let mut fraction = 0i64;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        fraction = fraction * 10 + i64::from(digit);
    }
    let fraction = fraction.checked_mul(power_of_ten(scale - count)?)?;
    let value = whole.checked_mul(power_of_ten(scale)?)?.checked_add(fraction).filter(|v| *v < LIMIT)?;
    // A negative zero has no integer.
    if negative && value == 0 { None } else { Some((if negative { -value } else { value }, count)) }
}

fn power_of_ten(exponent: u8) -> Option<i64> {
    if exponent > MAX_SCALE { None } else { Some(10i64.pow(u32::from(exponent))) }
}

/// Decodes lower-case hex digits; false if there are others, or more or fewer than the bytes take.
#[inline]
pub(crate) fn hex(text: &[u8], out: &mut [u8]) -> bool {
    if text.len() != out.len() * 2 {
        return false;
    }
    let mut bad = 0;
    for (pair, byte) in text.chunks_exact(2).zip(out) {
        let (high, low) = (HEX_VALUES[pair[0] as usize], HEX_VALUES[pair[1] as usize]);
        bad |= high | low;
        *byte = high << 4 | low & 15;
    }
    bad & 0x80 == 0
}

const HEX_VALUES: [u8; 256] = {
    let mut values = [0x80; 256];
    let mut digit = 0;
    while digit < 16 {
        values[HEX_DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

/// Appends the digits.
#[inline]
pub fn push_hex(bytes: &[u8], out: &mut String) {
    for part in bytes.chunks(32) {
        let mut digits = [0; 64];
        for (byte, pair) in part.iter().zip(digits.chunks_exact_mut(2)) {
            pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
            pair[1] = HEX_DIGITS[usize::from(byte & 15)];
        }
        push_ascii(&digits[..part.len() * 2], out);
    }
}

/// Appends an integer, or a number in units of 10^-`scale` with some digits after the point.
#[inline]
pub(crate) fn push_number(value: i64, kind: Kind, form: Form, out: &mut String) {
    let mut buffer = [0; 48];
    let start = number_text(value, kind, form, &mut buffer);
    push_ascii(&buffer[start..], out);
}

/// Bytes of the text of a number.
#[inline]
pub fn number_len(value: i64, kind: Kind, form: Form) -> usize {
    let (mut whole, mut fraction) = (value.unsigned_abs(), 0);
    if let (Kind::Decimal { scale }, Form::Decimals(digits)) = (kind, form) {
        let digits = digits.min(MAX_SCALE);
        whole /= 10u64.pow(u32::from(scale.min(MAX_SCALE).max(digits)));
        fraction = usize::from(digits) + usize::from(digits > 0);
    }
    usize::from(value < 0) + whole.checked_ilog10().unwrap_or(0) as usize + 1 + fraction
}

/// Writes the text to the end of the buffer and says where it starts.
fn number_text(value: i64, kind: Kind, form: Form, buffer: &mut [u8; 48]) -> usize {
    let mut left = value.unsigned_abs();
    let mut at = buffer.len();
    if let (Kind::Decimal { scale }, Form::Decimals(digits)) = (kind, form) {
        let digits = digits.min(MAX_SCALE);
        left /= 10u64.pow(u32::from(scale.min(MAX_SCALE).saturating_sub(digits)));
        for _ in 0..digits {
            at -= 1;
            buffer[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        if digits > 0 {
            at -= 1;
            buffer[at] = b'.';
        }
    }
    loop {
        at -= 1;
        buffer[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    at
}

fn push_ascii(bytes: &[u8], out: &mut String) {
    // ASCII by construction.
    out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_shortest_integers() {
        for (text, expect) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("99999999999999999999", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            ("", None),
            ("-", None),
            ("1e5", None),
            ("1.0", None),
            ("٣", None),
        ] {
            assert_eq!(integer(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (text, scale, expect) in [
            ("1.5", 2, Some((150, 1))),
            ("1.50", 2, Some((150, 2))),
            ("1.500", 2, None),
            ("7", 2, Some((700, 0))),
            ("-0.05", 2, Some((-5, 2))),
            ("-0.00", 2, None),
            ("-0", 2, None),
            ("0.0", 2, Some((0, 1))),
            (".5", 2, None),
            ("1.", 2, None),
            ("--1.5", 2, None),
            ("1.-5", 2, None),
            ("1.5e3", 9, None),
            ("92233720368547758.08", 2, None),
            ("9999999999999999.99", 2, Some((LIMIT - 1, 2))),
            ("10000000000000000", 2, None),
        ] {
            let parsed = decimal(text.as_bytes(), scale);
            assert_eq!(parsed, expect, "{text}");
            if let Some((value, digits)) = parsed {
                let mut out = String::new();
                push_number(value, Kind::Decimal { scale }, Form::Decimals(digits), &mut out);
                assert_eq!(out, text);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_comes_back(text in "-?[0-9]{0,20}(\\.[0-9]{0,19})?", scale in 1u8..=18) {
            let mut out = String::new();
            if let Some(value) = integer(text.as_bytes()) {
                push_number(value, Kind::Integer, Form::Plain, &mut out);
                prop_assert_eq!(&out, &text);
                prop_assert_eq!(number_len(value, Kind::Integer, Form::Plain), text.len());
            }
            if let Some((value, digits)) = decimal(text.as_bytes(), scale) {
                out.clear();
                push_number(value, Kind::Decimal { scale }, Form::Decimals(digits), &mut out);
                prop_assert_eq!(&out, &text);
            }
        }

        #[test]
        fn hex_comes_back(text in "[0-9a-fA-F]{0,70}", bytes in 0usize..36) {
            let mut decoded = vec![0; bytes];
            let lower = text.len() == 2 * bytes && !text.bytes().any(|b| b.is_ascii_uppercase());
            prop_assert_eq!(hex(text.as_bytes(), &mut decoded), lower);
            if lower {
                let mut out = String::new();
                push_hex(&decoded, &mut out);
                prop_assert_eq!(out, text);
            }
        }
    }
}

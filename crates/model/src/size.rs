//! Sizes in bytes as people write them: `64KB`, `1.5MiB`.
//!
//! Two dialects: in a query `KB` is 1000 bytes and `KiB` 1024 (the rules of Go's `go-humanize`, which
//! LogQL follows); in a config file every unit is a power of 1024 (the rules of Loki's config).

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number at the start.
    #[error("size {0:?} must start with a number, as in 64KB")]
    Number(String),
    /// A unit that does not exist.
    #[error("unhandled size name: {0}, use one of B KB MB GB TB PB EB")]
    Unit(String),
    /// More than a `u64` holds.
    #[error("too large: {0}")]
    TooLarge(String),
}

/// Parses a size of a query: `1.5MB`, `10 kib`, `1,024`. Any case; `KB` is 1000, `KiB` is 1024.
pub fn parse_humanized(text: &str) -> Result<u64, SizeError> {
    parse(text, 1000)
}

/// Parses a size of a config file: `256KB`, `4MB`, `1048576`. Any case; `KB` and `KiB` are both 1024.
pub fn parse_config(text: &str) -> Result<u64, SizeError> {
    parse(text.trim(), 1024)
}

fn parse(text: &str, decimal_base: u64) -> Result<u64, SizeError> {
    let number_end =
        text.bytes().position(|b| !(b.is_ascii_digit() || b == b'.' || b == b',')).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let number = number.replace(',', "");
    let unit = unit.trim().to_ascii_lowercase();
    let multiple = multiple(&unit, decimal_base).ok_or_else(|| SizeError::Unit(unit.clone()))?;
    let too_large = || SizeError::TooLarge(text.to_owned());
    // Whole numbers stay exact beyond the 53 bits of a float.
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(multiple).ok_or_else(too_large);
    }
    let value: f64 = number.parse().map_err(|_| SizeError::Number(text.to_owned()))?;
    let bytes = value * multiple as f64;
    if bytes >= u64::MAX as f64 {
        return Err(too_large());
    }
    Ok(bytes as u64)
}

fn multiple(unit: &str, decimal_base: u64) -> Option<u64> {
    let (prefix, base) = match unit.strip_suffix('b').unwrap_or(unit) {
        "" => return Some(1),
        binary if binary.len() == 2 => (binary.strip_suffix('i')?, 1024),
        decimal => (decimal, decimal_base),
    };
    let power = ["k", "m", "g", "t", "p", "e"].iter().position(|p| *p == prefix)?;
    Some((0..=power).fold(1u64, |product, _| product.saturating_mul(base)))
}

/// Writes a size as `go-humanize` does, with powers of 1000 and at most one decimal: `1.5 MB`, `82 kB`, `7 B`.
pub fn format_humanized(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog(1000);
    let value = bytes as f64 / 1000f64.powi(exponent as i32);
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn humanized() {
        let check = |text: &str, expect: u64| assert_eq!(parse_humanized(text), Ok(expect), "{text}");
        check("42", 42);
        check("42B", 42);
        check("1KB", 1000);
        check("1kb", 1000);
        check("1 KiB", 1024);
        check("1Ki", 1024);
        check("1.5MB", 1_500_000);
        check("1,024", 1024);
        check("2 GiB ", 2 << 30);
        check("18446744073709551615", u64::MAX);
        for bad in ["", "KB", "1XB", "1KBs", "-1KB", "1.2.3MB", "20EB", "1 K B", "1bb", "1ib"] {
            assert!(parse_humanized(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn config() {
        let check = |text: &str, expect: u64| assert_eq!(parse_config(text), Ok(expect), "{text}");
        check("256KB", 256 << 10);
        check("4MB", 4 << 20);
        check("4mb", 4 << 20);
        check("1048576", 1 << 20);
        check("1.5GB", 3 << 29);
        check("1GiB", 1 << 30);
    }

    #[test]
    fn written() {
        let check = |bytes: u64, expect: &str| assert_eq!(format_humanized(bytes), expect);
        check(0, "0 B");
        check(9, "9 B");
        check(999, "999 B");
        check(1000, "1.0 kB");
        check(82_854_982, "83 MB");
        check(1_500_000, "1.5 MB");
        check(9_960_000, "10 MB");
        check(999_999, "1000 kB");
        check(u64::MAX, "18 EB");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-0-9., ]{0,24}[a-zA-Zé]{0,4}", bytes: u64) {
            let _ = (parse_humanized(&text), parse_config(&text));
            prop_assert!(parse_humanized(&format_humanized(bytes)).is_ok());
        }
    }
}

//! Durations in query text: `1h30m`, `2d`, `1.5s`, `900us`.

/// Reads a duration literal: first as Prometheus writes them, then as Go does. Nanoseconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    prometheus(text).or_else(|| go(text))
}

/// The text of a duration as Go prints it.
pub(crate) fn format(nanos: i64) -> String {
    let negative = nanos < 0;
    let n = nanos.unsigned_abs();
    let sign = if negative { "-" } else { "" };
    if n == 0 {
        return "0s".to_owned();
    }
    if n < 1_000 {
        return format!("{sign}{n}ns");
    }
    if n < 1_000_000 {
        return format!("{sign}{}µs", fraction(n, 1_000));
    }
    if n < 1_000_000_000 {
        return format!("{sign}{}ms", fraction(n, 1_000_000));
    }
    let (minutes, rest) = (n / 60_000_000_000, n % 60_000_000_000);
    let seconds = fraction(rest, 1_000_000_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

fn fraction(n: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", n / unit, n % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn prometheus(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000_000_000),
        ("w", 7 * 86_400_000_000_000),
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
    ];
    let mut rest = text;
    let mut next = 0;
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = UNITS.iter().position(|(name, _)| *name == &rest[..letters])?;
        if unit < next {
            return None;
        }
        next = unit + 1;
        total = total.checked_add(number.checked_mul(UNITS[unit].1)?)?;
        rest = &rest[letters..];
    }
    Some(total)
}

fn go(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (whole, part) = rest[..digits].split_once('.').unwrap_or((&rest[..digits], ""));
        if part.contains('.') || (whole.is_empty() && part.is_empty()) {
            return None;
        }
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit: i64 = match &rest[..letters] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let number: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(number.checked_mul(unit)?)?;
        if !part.is_empty() {
            let fraction: f64 = format!("0.{part}").parse().ok()?;
            total = total.checked_add((fraction * unit as f64).round() as i64)?;
        }
        rest = &rest[letters..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let s = 1_000_000_000;
        for (text, expect) in [
            ("1h30m", Some(5400 * s)),
            ("1.5s", Some(1_500_000_000)),
            ("2d", Some(172_800 * s)),
            ("900us", Some(900_000)),
            ("5µs", Some(5_000)),
            (".5s", Some(500_000_000)),
            ("1y", Some(365 * 86_400 * s)),
            ("1h1d", None),
            ("1sec", None),
            ("5", None),
            ("99999999999y", None),
        ] {
            assert_eq!(parse(text), expect, "{text}");
        }
    }

    #[test]
    fn writes_as_go_does() {
        for (nanos, expect) in [
            (0, "0s"),
            (100_000_000, "100ms"),
            (1_043_415_240, "1.04341524s"),
            (5_400_000_000_000, "1h30m0s"),
            (90_000_000_000, "1m30s"),
            (1_500, "1.5µs"),
            (-7, "-7ns"),
        ] {
            assert_eq!(format(nanos), expect);
        }
    }
}

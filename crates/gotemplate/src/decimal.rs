//! Decimal arithmetic of `addf` and its kin: 0.1 + 0.2 is 0.3.

/// A number `digits · 10^-scale`.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    digits: i128,
    scale: u32,
}

/// Digits after the point of a quotient.
const DIVISION_SCALE: u32 = 16;

impl Decimal {
    /// The shortest decimal that names this float.
    fn of(value: f64) -> Option<Self> {
        let text = value.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { digits, scale: u32::try_from(fraction.len()).ok()? })
    }

    fn scaled(self, scale: u32) -> Option<i128> {
        self.digits.checked_mul(10_i128.checked_pow(scale.checked_sub(self.scale)?)?)
    }

    fn float(self) -> Option<f64> {
        format!("{}e-{}", self.digits, self.scale).parse().ok()
    }
}

fn compute(a: f64, b: f64, exact: impl FnOnce(Decimal, Decimal) -> Option<Decimal>, rough: f64) -> f64 {
    let result = Decimal::of(a).zip(Decimal::of(b)).and_then(|(a, b)| exact(a, b)?.float());
    result.unwrap_or(rough)
}

pub(crate) fn add(a: f64, b: f64) -> f64 {
    let exact = |a: Decimal, b: Decimal| {
        let scale = a.scale.max(b.scale);
        Some(Decimal { digits: a.scaled(scale)?.checked_add(b.scaled(scale)?)?, scale })
    };
    compute(a, b, exact, a + b)
}

pub(crate) fn subtract(a: f64, b: f64) -> f64 {
    add(a, -b)
}

pub(crate) fn multiply(a: f64, b: f64) -> f64 {
    let exact = |a: Decimal, b: Decimal| {
        Some(Decimal { digits: a.digits.checked_mul(b.digits)?, scale: a.scale + b.scale })
    };
    compute(a, b, exact, a * b)
}

/// `None` for a division by zero.
pub(crate) fn divide(a: f64, b: f64) -> Option<f64> {
    if b == 0.0 {
        return None;
    }
    let exact = |a: Decimal, b: Decimal| {
        // a/b with 16 digits after the point, rounded half away from zero.
        let digits =
            a.digits.checked_mul(10_i128.checked_pow((DIVISION_SCALE + b.scale).checked_sub(a.scale)?)?)?;
        let (quotient, rest) = (digits / b.digits, digits % b.digits);
        let up = rest.checked_mul(2)?.unsigned_abs() >= b.digits.unsigned_abs();
        let sign = if (digits < 0) == (b.digits < 0) { 1 } else { -1 };
        Some(Decimal { digits: quotient + if up { sign } else { 0 }, scale: DIVISION_SCALE })
    };
    Some(compute(a, b, exact, a / b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_where_floats_are_not() {
        assert_eq!(add(0.1, 0.2), 0.3);
        assert_eq!(subtract(1.0, 0.9), 0.1);
        assert_eq!(multiply(1.1, 1.1), 1.21);
        assert_eq!(divide(1.0, 3.0), Some(0.333_333_333_333_333_3));
        assert_eq!(divide(-1.0, 8.0), Some(-0.125));
        assert_eq!(divide(1.0, 0.0), None);
        assert_eq!(multiply(1e200, 1e100), 1e300);
    }
}

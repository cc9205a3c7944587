//! Numbers as Python computes with them.

use std::cmp::Ordering;

use crate::llm::text::jinja::limits::{Fault, Result};

/// The integer that a number is, if it is one.
pub(in crate::llm::text::jinja) fn as_integer(number: f64) -> Option<i128> {
    (number.trunc() == number && number.abs() < 1.5e38).then_some(number as i128)
}

pub(in crate::llm::text::jinja) fn too_large() -> Fault {
    Fault::new("an integer is beyond 2**127, which is as far as this renderer counts")
}

fn by_zero() -> Fault {
    Fault::new("division by zero")
}

/// `//` and `%`: the quotient rounded down, and what it leaves, with the sign of the divisor.
pub(in crate::llm::text::jinja) fn divide(a: i128, b: i128) -> Result<(i128, i128)> {
    if b == 0 {
        return Err(by_zero());
    }
    let quotient = a.checked_div(b).ok_or_else(too_large)?;
    let rest = a.wrapping_rem(b);
    if rest != 0 && (rest < 0) != (b < 0) {
        Ok((quotient - 1, rest + b))
    } else {
        Ok((quotient, rest))
    }
}

/// `//` and `%` of floating-point numbers.
pub(in crate::llm::text::jinja) fn divide_float(a: f64, b: f64) -> Result<(f64, f64)> {
    if b == 0.0 {
        return Err(by_zero());
    }
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest == 0.0 {
        rest = 0.0f64.copysign(b);
    } else if (rest < 0.0) != (b < 0.0) {
        rest += b;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return Ok((0.0f64.copysign(a / b), rest));
    }
    let floor = quotient.floor();
    Ok((if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest))
}

/// `/`
pub(in crate::llm::text::jinja) fn quotient(a: f64, b: f64) -> Result<f64> {
    if b == 0.0 { Err(by_zero()) } else { Ok(a / b) }
}

/// `**` of integers, the exponent not negative.
pub(in crate::llm::text::jinja) fn power(base: i128, exponent: i128) -> Result<i128> {
    match (base, u32::try_from(exponent)) {
        (0 | 1, _) => Ok(if exponent == 0 { 1 } else { base }),
        (-1, _) => Ok(if exponent % 2 == 0 { 1 } else { -1 }),
        (_, Ok(exponent)) => base.checked_pow(exponent).ok_or_else(too_large),
        _ => Err(too_large()),
    }
}

/// `**` of floating-point numbers.
pub(in crate::llm::text::jinja) fn power_float(base: f64, exponent: f64) -> Result<f64> {
    if base == 0.0 && exponent < 0.0 {
        return Err(Fault::new("0.0 cannot be raised to a negative power"));
    }
    let result = base.powf(exponent);
    if result.is_nan() && !base.is_nan() && !exponent.is_nan() {
        return Err(Fault::new("a power of a negative number is complex, which is not supported"));
    }
    if result.is_infinite() && base.is_finite() && exponent.is_finite() {
        return Err(Fault::new("a power is too large for a floating-point number"));
    }
    Ok(result)
}

/// The order of an integer and a floating-point number, exactly.
pub(in crate::llm::text::jinja) fn order_mixed(integer: i128, number: f64) -> Option<Ordering> {
    if number.is_nan() {
        return None;
    }
    if number.abs() >= 1.5e38 {
        return Some(if number > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = integer.cmp(&(number.trunc() as i128));
    Some(whole.then_with(|| 0.0.partial_cmp(&number.fract()).unwrap_or(Ordering::Equal)))
}

/// Python's `round`: to the nearest, halves to even, exactly as the number stands in binary.
pub(in crate::llm::text::jinja) fn round(number: f64, digits: i128) -> f64 {
    if !number.is_finite() || digits > 350 {
        return number;
    }
    if digits < -310 {
        return 0.0f64.copysign(number);
    }
    if let Ok(digits) = usize::try_from(digits) {
        return format!("{number:.digits$}").parse().unwrap_or(number);
    }
    let digits = digits.unsigned_abs() as i32;
    let unit = 10f64.powi(digits);
    let scaled = number / unit;
    let mut rounded = scaled.round();
    if (scaled - scaled.trunc()).abs() == 0.5 {
        rounded = 2.0 * (scaled / 2.0).round();
    }
    rounded * unit
}

/// `round` of an integer to tens, hundreds and so on.
pub(in crate::llm::text::jinja) fn round_integer(number: i128, digits: i128) -> Result<i128> {
    if digits >= 0 {
        return Ok(number);
    }
    let Some(unit) = u32::try_from(-digits).ok().and_then(|d| 10i128.checked_pow(d)) else {
        return Ok(0);
    };
    let (quotient, rest) = divide(number, unit)?;
    let up = match (rest * 2).cmp(&unit) {
        Ordering::Greater => true,
        Ordering::Equal => quotient % 2 != 0,
        Ordering::Less => false,
    };
    (quotient + i128::from(up)).checked_mul(unit).ok_or_else(too_large)
}

//! Values of options.

/// A finite number from 0 on.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0 && value.is_finite(), "0 or a positive number")
}

/// A number above 0 to multiply logits with, which have 32 bits.
pub fn factor(text: &str) -> Result<f64, String> {
    let allowed = |value| value >= f64::from(f32::MIN_POSITIVE) && fits(value);
    number(text, allowed, "a positive number that fits into 32 bits")
}

/// A number to add to logits, which have 32 bits.
pub fn summand(text: &str) -> Result<f64, String> {
    number(text, fits, "a number that fits into 32 bits")
}

fn fits(value: f64) -> bool {
    value.abs() <= f64::from(f32::MAX)
}

/// A share of the probabilities that is not empty.
pub fn top_p(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number above 0 and at most 1")
}

/// A share of the greatest probability.
pub fn min_p(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|&value| allowed(value));
    value.ok_or_else(|| format!("expected {expected}"))
}

/// A token and what to add to its logit.
pub fn bias(text: &str) -> Result<(u32, f64), String> {
    let parse = || {
        let (id, bias) = text.split_once('=')?;
        let bias: f64 = bias.parse().ok()?;
        let allowed = bias == f64::NEG_INFINITY || fits(bias);
        allowed.then_some((id.parse().ok()?, bias))
    };
    let expected = "expected ID=NUMBER, with a number that fits into 32 bits, or ID=-inf";
    parse().ok_or_else(|| expected.to_owned())
}

/// Some text.
pub fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected some text".to_owned()) } else { Ok(text.to_owned()) }
}

/// A whole number above 0.
pub fn positive_integer(text: &str) -> Result<usize, String> {
    let value = text.parse().ok().filter(|&value| value > 0);
    value.ok_or_else(|| "expected a whole number above 0".to_owned())
}

/// A count; -1 stands for all that there is room for.
pub fn count_or_all(text: &str) -> Result<usize, String> {
    match text {
        "-1" => Ok(usize::MAX),
        _ => text.parse().map_err(|_| "expected a whole number, or -1".to_owned()),
    }
}

/// A number of bytes, also of K, M, G or T of them: 2^10, 2^20, 2^30, 2^40.
pub fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let power = match text[digits.len()..].to_uppercase().trim_end_matches(['B', 'I']) {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let count: Option<usize> = digits.parse().ok();
    let bytes = count.zip(power).and_then(|(count, power)| count.checked_mul(1 << power));
    bytes.ok_or_else(|| "expected a number of bytes such as 1000000, 512M or 8G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1000"), Ok(1000));
        assert_eq!([size("3k"), size("2M"), size("1GiB")], [Ok(3 << 10), Ok(2 << 20), Ok(1 << 30)]);
        for wrong in ["", "G", "-1", "1.5G", "8X", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}

//! How MIL text is spelled.

use half::{bf16, f16};

use super::ElementType;

/// Version of MIL text, as its first line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextVersion {
    /// 1.0, which spells scalars as tensors of no dimensions: `tensor<fp16, []>`.
    V1_0,
    /// 1.3, which spells them by their element type: `fp16`.
    V1_3,
}

/// Who a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// People: decimals, and one way to write everything.
    Plain,
    /// `model.mil`, as Apple's compiler writes it: hexadecimal floats, its indentation.
    Compiled(TextVersion),
}

impl Form {
    /// The version in the first line; it says nothing about the opset.
    pub fn version(self) -> &'static str {
        match self {
            Form::Compiled(TextVersion::V1_0) => "1.0",
            // The newest version that readers know.
            Form::Plain | Form::Compiled(TextVersion::V1_3) => "1.3",
        }
    }

    /// Whether scalars are tensors of no dimensions.
    pub fn wraps_scalars(self) -> bool {
        self == Form::Compiled(TextVersion::V1_0)
    }

    /// Spaces before a statement in a block that lies in so many others.
    pub fn statement_indent(self, depth: usize) -> usize {
        match self {
            Form::Plain => 8 + 4 * depth,
            Form::Compiled(_) => 12 + 8 * depth,
        }
    }

    /// Spaces before the closing brace of such a block.
    pub fn closing_indent(self, depth: usize) -> usize {
        self.statement_indent(depth) - 4
    }

    /// What stands before a nested block, the first or a further one, of an operation.
    pub fn before_block(self, depth: usize, first: bool) -> String {
        match self {
            Form::Plain if first => " ".into(),
            Form::Plain => ", ".into(),
            Form::Compiled(_) => format!("\n{}", " ".repeat(self.closing_indent(depth))),
        }
    }

    /// An element of a floating-point type.
    pub fn float(self, element: ElementType, value: f64) -> String {
        match (self, value.is_nan()) {
            (_, true) if value.is_sign_negative() => "-nan".into(),
            (_, true) => "nan".into(),
            (Form::Plain, _) => decimal(element, value),
            (Form::Compiled(_), _) => hexadecimal(value),
        }
    }
}

/// The decimal of the fewest digits that is read as the same element.
fn decimal(element: ElementType, value: f64) -> String {
    let same = |decimal: &f64| rounded(element, *decimal).to_bits() == value.to_bits();
    let mut decimals = (0..17).filter_map(|digits| format!("{value:.digits$e}").parse().ok());
    format!("{:?}", decimals.find(same).unwrap_or(value))
}

/// `value` as an element of this type holds it; those of 8 bits have to hold it exactly.
fn rounded(element: ElementType, value: f64) -> f64 {
    match element {
        ElementType::Float16 => f16::from_f64(value).to_f64(),
        ElementType::BFloat16 => bf16::from_f64(value).to_f64(),
        ElementType::Float32 => f64::from(value as f32),
        _ => value,
    }
}

/// A number as C's `%a` prints it, with as few digits as it has: `0x1.388p+13`.
fn hexadecimal(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{sign}inf");
    }
    if value == 0.0 {
        return format!("{sign}0x0p+0");
    }
    let bits = value.to_bits();
    let (mut exponent, mut fraction) = ((bits >> 52 & 0x7FF) as i64 - 1023, bits << 12);
    if exponent == -1023 {
        // Below the normal numbers the first bit that is set becomes the one before the point.
        let zeros = fraction.leading_zeros();
        exponent = -1023 - i64::from(zeros);
        fraction = fraction << zeros << 1;
    }
    let digits = format!("{fraction:016x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{sign}0x1{point}{digits}p{exponent:+}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What C's `printf("%a")` prints on macOS.
    #[test]
    fn floats_are_hexadecimal_as_in_c() {
        for (value, text) in [
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (1.0, "0x1p+0"),
            (-2.0, "-0x1p+1"),
            (10000.0, "0x1.388p+13"),
            (f64::from(0.97f32), "0x1.f0a3d8p-1"),
            (f16::from_bits(1).to_f64(), "0x1p-24"),
            (f64::from(f32::from_bits(1)), "0x1p-149"),
            (f64::from_bits(1), "0x1p-1074"),
            (f64::MIN_POSITIVE / 2.0, "0x1p-1023"),
            (f64::from_bits(0x000F_FFFF_FFFF_FFFF), "0x1.ffffffffffffep-1023"),
            (f64::MAX, "0x1.fffffffffffffp+1023"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(hexadecimal(value), text);
        }
    }
}

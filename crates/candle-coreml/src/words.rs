//! Words for messages.

use candle_core::DType;
use coreml_format::mil::ElementType;
use coreml_format::printable_name;

/// Names that a list shows.
const MOST_LISTED: usize = 30;

/// `a`, `b` and `c` in backticks; of many the first, and how many more there are.
pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    let shown = names.iter().take(MOST_LISTED);
    let mut quoted: Vec<String> =
        shown.map(|name| format!("`{}`", printable_name(name.as_ref()))).collect();
    if names.len() > MOST_LISTED {
        quoted.push(format!("{} more", names.len() - MOST_LISTED));
    }
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// A type of elements by NumPy's name: `float16`, `uint8`.
pub(crate) fn numpy_element(element: ElementType) -> String {
    let name = element.to_string();
    match name.strip_prefix("fp").or(name.strip_prefix("bf")) {
        Some(bits) if name.starts_with('b') => format!("bfloat{bits}"),
        Some(bits) => format!("float{bits}"),
        None => name,
    }
}

/// A tensor's dtype by NumPy's name.
pub(crate) fn numpy_dtype(dtype: DType) -> String {
    let name = format!("{dtype:?}").to_lowercase();
    match name.split_at_checked(1) {
        Some(("f", bits)) if !bits.starts_with(|c: char| !c.is_ascii_digit()) => {
            format!("float{bits}")
        }
        Some(("u", bits)) => format!("uint{bits}"),
        Some(("i", bits)) => format!("int{bits}"),
        Some(("b", "f16")) => "bfloat16".to_owned(),
        _ => name,
    }
}

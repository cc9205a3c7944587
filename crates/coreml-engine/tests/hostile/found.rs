//! Programs that once were a fault.

/// What went wrong, and the text of a function.
pub const FOUND: &[(&str, &str)] = &[(
    "a loop over an axis beside one of size 0",
    "main<ios15>(tensor<int32, [0, 1099511627776]> x) {
        tensor<int32, [...]> y = cumsum(x = x);
    } -> (y)",
)];

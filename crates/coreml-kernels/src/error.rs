//! What can be wrong with a call.

use std::sync::Arc;

use thiserror::Error;

/// A kernel was called with arguments that do not fit together.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice has the wrong number of elements.
    #[error("{kernel}: `{argument}` holds {got} elements, expected {expected}")]
    Length {
        /// The kernel that was called.
        kernel: &'static str,
        /// The slice at fault.
        argument: &'static str,
        /// The number of elements the other arguments call for.
        expected: usize,
        /// The number of elements it has.
        got: usize,
    },
    /// A strided slice ends before the last element that its sizes and strides reach.
    #[error("{kernel}: `{argument}` holds {got} elements, its sizes and strides reach {expected}")]
    TooShort {
        /// The kernel that was called.
        kernel: &'static str,
        /// The slice at fault.
        argument: &'static str,
        /// The least number of elements.
        expected: usize,
        /// The number of elements it has.
        got: usize,
    },
    /// A parameter has a value the kernel does not accept.
    #[error("{kernel}: `{argument}` is {got}, expected {expected}")]
    Value {
        /// The kernel that was called.
        kernel: &'static str,
        /// The parameter at fault.
        argument: &'static str,
        /// What would be accepted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The product of sizes does not fit the address space.
    #[error("{kernel}: the sizes of `{argument}` multiply beyond what memory can address")]
    Overflow {
        /// The kernel that was called.
        kernel: &'static str,
        /// The argument whose sizes were multiplied.
        argument: &'static str,
    },
    /// The allocator has no memory for a buffer that a kernel needs.
    #[error("no memory for {bytes} bytes of scratch")]
    Memory {
        /// The size of the buffer.
        bytes: usize,
    },
    /// The threads of a pool cannot be started.
    #[error("{threads} threads cannot be started: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the pool says.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The system gives no random numbers to start from.
    #[error("the system has no random numbers to start from: {source}")]
    Entropy {
        /// What the system says.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl KernelError {
    /// A [`KernelError::Value`], with both sides formatted.
    pub(crate) fn value(
        kernel: &'static str,
        argument: &'static str,
        expected: impl ToString,
        got: impl std::fmt::Debug,
    ) -> Self {
        Self::Value { kernel, argument, expected: expected.to_string(), got: format!("{got:?}") }
    }
}

/// Fails unless a slice has exactly the `expected` number of elements.
pub(crate) fn check_len(
    kernel: &'static str,
    argument: &'static str,
    expected: usize,
    got: usize,
) -> Result<(), KernelError> {
    if expected == got {
        return Ok(());
    }
    Err(KernelError::Length { kernel, argument, expected, got })
}

/// The product of `sizes`, or an error naming the argument they belong to.
pub(crate) fn product(
    kernel: &'static str,
    argument: &'static str,
    sizes: &[usize],
) -> Result<usize, KernelError> {
    sizes
        .iter()
        .try_fold(1usize, |total, &size| total.checked_mul(size))
        .ok_or(KernelError::Overflow { kernel, argument })
}

/// Fails unless a slice of `got` elements covers every index that `(size, stride)` pairs reach.
pub(crate) fn check_strided(
    kernel: &'static str,
    argument: &'static str,
    dims: &[(usize, usize)],
    got: usize,
) -> Result<(), KernelError> {
    if dims.iter().any(|&(size, _)| size == 0) {
        return Ok(());
    }
    let expected = dims
        .iter()
        .try_fold(0usize, |last, &(size, stride)| last.checked_add((size - 1).checked_mul(stride)?))
        .and_then(|last| last.checked_add(1))
        .ok_or(KernelError::Overflow { kernel, argument })?;
    if expected > got {
        return Err(KernelError::TooShort { kernel, argument, expected, got });
    }
    Ok(())
}

/// Fails if two different index pairs of an output could meet in one element.
pub(crate) fn check_distinct(
    kernel: &'static str,
    argument: &'static str,
    a: (usize, usize),
    b: (usize, usize),
) -> Result<(), KernelError> {
    // A dimension of one element never steps, so its stride does not matter.
    let step = |(size, stride): (usize, usize)| if size <= 1 { None } else { Some((size, stride)) };
    let distinct = match (step(a), step(b)) {
        _ if a.0 == 0 || b.0 == 0 => true,
        (Some(a), Some(b)) => {
            let (inner, outer) = if a.1 <= b.1 { (a, b) } else { (b, a) };
            inner.1 > 0 && outer.1 > (inner.0 - 1).saturating_mul(inner.1)
        }
        (Some(only), None) | (None, Some(only)) => only.1 > 0,
        (None, None) => true,
    };
    if distinct {
        return Ok(());
    }
    Err(KernelError::value(
        kernel,
        argument,
        "strides under which every output has an element of its own",
        (a, b),
    ))
}

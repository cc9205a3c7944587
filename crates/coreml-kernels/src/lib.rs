//! CPU kernels: slices in, slices out. The only home of SIMD code.

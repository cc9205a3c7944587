//! Elementary functions over slices, in place.
//!
//! The polynomials are our own minimax fits. Vectorised functions use neither fused operations
//! nor reassociation, so every instruction set gives the same bits. Errors measured over the
//! whole range, in units of the last place, are with each function. NaN stays NaN.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::thresholds;

/// Replaces each value by `e^x`. Within 2 ulp; results below 2^-126 are rounded more coarsely.
pub fn exp(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, exp_one);
}

/// Replaces each value by `1 / (1 + e^-x)`. Within 3 ulp down to x = -87.
pub fn sigmoid(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, sigmoid_one);
}

/// Replaces each value by its hyperbolic tangent. Within 3 ulp.
pub fn tanh(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, tanh_one);
}

/// Replaces each value by `x * sigmoid(x)`.
pub fn silu(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, silu_one);
}

/// Replaces each value by `x / 2 * (1 + erf(x / sqrt 2))`: `gelu` in mode `EXACT`.
pub fn gelu_exact(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, gelu_exact_one);
}

/// Replaces each value by `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`: `gelu` in mode
/// `TANH_APPROXIMATION`.
pub fn gelu_tanh(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, gelu_tanh_one);
}

/// Replaces each value by `x * sigmoid(1.702 x)`: `gelu` in mode `SIGMOID_APPROXIMATION`.
pub fn gelu_sigmoid(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, gelu_sigmoid_one);
}

/// Replaces each value by the error function of it. Within 3 ulp.
pub fn erf(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, erf_one);
}

/// Replaces each value by its natural logarithm.
pub fn log(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, f32::ln);
}

/// Replaces each value by its square root, correctly rounded.
pub fn sqrt(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, f32::sqrt);
}

/// Replaces each value by `1 / sqrt(x)`, two correctly rounded steps.
pub fn rsqrt(ctx: &Context, values: &mut [f32]) {
    map(ctx, values, rsqrt_one);
}

struct Map<'a, F> {
    values: &'a mut [f32],
    function: F,
}

impl<F: Fn(f32) -> f32> Loop for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for value in self.values {
            *value = (self.function)(*value);
        }
    }
}

/// Applies `function` to every value, on several threads if there are many.
fn map(ctx: &Context, values: &mut [f32], function: impl Fn(f32) -> f32 + Copy + Sync) {
    let part = thresholds::task(thresholds::ELEMENTWISE);
    ctx.workers().for_each_row_mut(values, part, thresholds::ELEMENTWISE, |_, values| {
        compiled::run(ctx.isa(), Map { values, function });
    });
}

/// 1.5 * 2^23: adding it rounds to an integer, which the low mantissa bits then hold.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
pub(crate) fn exp_one(x: f32) -> f32 {
    // Beyond these the result is infinite or zero anyway. The comparisons keep NaN.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, of which the first has enough trailing zeros for an exact product.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.999_193_6e-4 * r + 1.394_719_8e-3;
    let p = p * r + 8.333_263e-3;
    let p = p * r + 4.166_625_4e-2;
    let p = p * r + 0.166_666_67;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // 2^n in two factors, as n reaches beyond the exponents of normal numbers.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned())
}

#[inline(always)]
fn sigmoid_one(x: f32) -> f32 {
    1.0 / (1.0 + exp_one(-x))
}

#[inline(always)]
fn silu_one(x: f32) -> f32 {
    x / (1.0 + exp_one(-x))
}

#[inline(always)]
fn tanh_one(x: f32) -> f32 {
    let a = x.abs();
    let t = x * x;
    let p = 2.122_742_8e-3 * t - 8.156_277e-3;
    let p = p * t + 2.169_260_6e-2;
    let p = p * t - 5.394_537_7e-2;
    let p = p * t + 0.133_331_95;
    let p = p * t - 0.333_333_3;
    // The sign is copied for the sake of -0.
    let small = (x + x * t * p).copysign(x);
    let large = (1.0 - 2.0 / (exp_one(2.0 * a) + 1.0)).copysign(x);
    if a < 0.62 { small } else { large }
}

#[inline(always)]
fn erf_one(x: f32) -> f32 {
    let a = x.abs();
    let t = x * x;
    let p = -9.680_131e-6 * t + 1.127_054_3e-4;
    let p = p * t - 8.484_711e-4;
    let p = p * t + 5.221_075e-3;
    let p = p * t - 2.686_544_5e-2;
    let p = p * t + 0.112_837_83;
    let p = p * t - 0.376_126_38;
    let p = p * t + std::f32::consts::FRAC_2_SQRT_PI;
    let small = x * p;
    // For larger ones, the logarithm of the complement is a smooth function.
    let c = if a > 4.0 { 4.0 } else { a };
    let c = c - 2.0;
    let q = 1.045_847e-6 * c - 1.951_341e-5;
    let q = q * c + 1.375_780_6e-4;
    let q = q * c - 7.332_751e-4;
    let q = q * c + 3.568_541e-3;
    let q = q * c - 1.646_566e-2;
    let q = q * c - 0.923_750_6;
    let q = q * c - 4.418_161;
    let q = q * c - 5.364_941;
    let large = (1.0 - exp_one(q)).copysign(x);
    if a < 1.0 { small } else { large }
}

#[inline(always)]
fn gelu_exact_one(x: f32) -> f32 {
    0.5 * x * (1.0 + erf_one(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh_one(x: f32) -> f32 {
    // (1 + tanh u) / 2 is sigmoid(2 u), without the cancellation at negative u.
    let u = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp_one(-2.0 * u))
}

#[inline(always)]
fn gelu_sigmoid_one(x: f32) -> f32 {
    x / (1.0 + exp_one(-1.702 * x))
}

#[inline(always)]
fn rsqrt_one(x: f32) -> f32 {
    1.0 / x.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    type InPlace = fn(&Context, &mut [f32]);

    fn context() -> Context {
        Context::new(Workers::shared())
    }

    /// Distance in units of the last place of the correctly rounded result.
    fn ulps(got: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        if rounded.is_nan() || rounded.is_infinite() {
            let same = got == rounded || (got.is_nan() && rounded.is_nan());
            return if same { 0.0 } else { f64::INFINITY };
        }
        let unit = f64::from(rounded.abs().max(f32::MIN_POSITIVE).next_up())
            - f64::from(rounded.abs().max(f32::MIN_POSITIVE));
        (f64::from(got) - exact).abs() / unit
    }

    /// Numbers of all magnitudes up to 2^7 and a dense grid.
    fn samples() -> Vec<f32> {
        let all =
            (0..u32::MAX / 8191).map(|i| f32::from_bits(i * 8191)).filter(|x| x.abs() < 128.0);
        all.chain((-120_000..120_000).map(|i| i as f32 * 1e-3)).collect()
    }

    fn worst(function: InPlace, exact: fn(f64) -> f64, keep: fn(f32) -> bool) -> f64 {
        let x: Vec<f32> = samples().into_iter().filter(|&x| keep(x)).collect();
        let mut y = x.clone();
        function(&context(), &mut y);
        x.iter().zip(&y).map(|(&x, &y)| ulps(y, exact(f64::from(x)))).fold(0.0, f64::max)
    }

    #[test]
    fn accurate() {
        let all = |_: f32| true;
        let cases: [(&str, f64, f64); 6] = [
            ("exp", 2.0, worst(exp, f64::exp, |x| x > -87.0)),
            ("sigmoid", 3.0, worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), |x| x > -87.0)),
            ("tanh", 3.0, worst(tanh, f64::tanh, all)),
            ("log", 1.0, worst(log, f64::ln, all)),
            ("sqrt", 0.5, worst(sqrt, f64::sqrt, all)),
            ("rsqrt", 1.5, worst(rsqrt, |x| 1.0 / x.sqrt(), all)),
        ];
        for (name, limit, got) in cases {
            assert!(got <= limit, "{name}: {got} ulp, limit {limit}");
        }
    }

    #[test]
    fn reference_values() {
        // scipy.special.erf and torch.nn.functional.gelu in double precision.
        let x = [-5.0, -2.5, -1.0, -0.3, 0.0, 1e-20, 0.5, 0.999, 1.0, 1.5, 2.0, 3.9];
        let erf_expected = ERF;
        let mut y = x.map(|x: f64| x as f32);
        erf(&context(), &mut y);
        for ((x, y), expected) in x.iter().zip(y).zip(erf_expected) {
            assert!(ulps(y, expected) <= 3.0, "erf({x}) = {y}, expected {expected}");
        }
        let modes: [(InPlace, [f64; 12]); 2] = [(gelu_exact, GELU_EXACT), (gelu_tanh, GELU_TANH)];
        for (function, expected) in modes {
            let mut y = x.map(|x| x as f32);
            function(&context(), &mut y);
            for ((x, y), expected) in x.iter().zip(y).zip(expected) {
                let error = (f64::from(y) - expected).abs();
                assert!(error <= 3e-7 * x.abs().max(1e-30), "{x}: {y}, expected {expected}");
            }
        }
    }

    const ERF: [f64; 12] = [
        -0.9999999999984626,
        -0.999593047982555,
        -0.8427007929497149,
        -0.32862677175271543,
        0.0,
        1.1283791312869893e-20,
        0.5204998778130465,
        0.8422852755615352,
        0.8427007929497149,
        0.9661051464753108,
        0.9953222650189527,
        0.9999999652077781,
    ];
    const GELU_EXACT: [f64; 12] = [
        -1.4332578593401202e-06,
        -0.015524163314440398,
        -0.15865525393145702,
        -0.11462657653421583,
        0.0,
        4.999999841327613e-21,
        0.34573123063700656,
        0.8402615656484601,
        0.841344746068543,
        1.399789198096713,
        1.9544997361036416,
        3.8998125196950624,
    ];
    const GELU_TANH: [f64; 12] = [
        -2.2917961972623857e-07,
        -0.015084266089998577,
        -0.15880800939172324,
        -0.1146290796485276,
        0.0,
        4.999999841327613e-21,
        0.34571400982514394,
        0.8401091616584477,
        0.8411919906082768,
        1.3995715769802328,
        1.954597694087775,
        3.8998878977247293,
    ];

    #[test]
    fn special_values() {
        let mut y = [f32::NEG_INFINITY, f32::INFINITY, 0.0, -200.0, 200.0];
        exp(&context(), &mut y);
        assert_eq!(y, [0.0, f32::INFINITY, 1.0, 0.0, f32::INFINITY]);
        let mut y = [f32::NEG_INFINITY, f32::INFINITY, -0.0];
        tanh(&context(), &mut y);
        assert_eq!(y.map(f32::to_bits), [-1.0f32, 1.0, -0.0].map(f32::to_bits));
        let mut y = [f32::NEG_INFINITY, f32::INFINITY];
        erf(&context(), &mut y);
        assert_eq!(y, [-1.0, 1.0]);
        let functions: [InPlace; 8] =
            [exp, sigmoid, tanh, silu, erf, gelu_exact, gelu_tanh, gelu_sigmoid];
        for function in functions {
            let mut y = [f32::NAN];
            function(&context(), &mut y);
            assert!(y[0].is_nan());
        }
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let functions = [exp_one, sigmoid_one, tanh_one, silu_one, erf_one, gelu_tanh_one];
        for isa in Isa::available() {
            for function in functions {
                let mut expected = samples();
                expected.truncate(100_003);
                let mut got = expected.clone();
                expected.iter_mut().for_each(|x| *x = function(*x));
                map(&Context::with_isa(Workers::shared(), isa), &mut got, function);
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&got) == bits(&expected), "{}", isa.name());
            }
        }
    }
}

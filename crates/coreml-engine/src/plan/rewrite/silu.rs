//! Gated activations.

use super::{Effect, Replacement, Rule, any, op};
use crate::ops::{Binary, Elementwise, ElementwiseBinary, Unary};

/// `x · sigmoid(x)`.
pub(super) const PRODUCT_WITH_SIGMOID: Rule = Rule {
    name: "product with sigmoid",
    effect: Effect::Fusion,
    pattern: || {
        let sigmoid =
            op("sigmoid", |op: &Elementwise| op.function == Unary::Sigmoid).reading(0, any("x"));
        op("product", |op: &ElementwiseBinary| op.function == Binary::Mul)
            .of_both(any("x"), sigmoid)
    },
    replace: |_site, found| {
        let silu = Elementwise { x: 0, function: Unary::Silu };
        Some(Replacement::Run(Box::new(silu), vec![found.operand("x")?]))
    },
};

//! Gated activations.

use super::{Effect, Replacement, Rule, any, op};
use crate::ids::Operand;
use crate::op::Frame;
use crate::ops::{Binary, Elementwise, ElementwiseBinary, Gated, Unary};

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

/// `activation(x) · y`, where nothing else reads the activation.
pub(super) const GATE: Rule = Rule {
    name: "gate",
    effect: Effect::Fusion,
    pattern: || {
        let activation = op("activation", |op: &Elementwise| {
            matches!(op.function, Unary::Gelu(_) | Unary::Sigmoid | Unary::Silu | Unary::Tanh)
        });
        op("product", |op: &ElementwiseBinary| op.function == Binary::Mul)
            .of_both(activation.reading(0, any("x")), any("y"))
    },
    replace: |site, found| {
        let activation = found.run("activation")?;
        let (x, y) = (found.operand("x")?, found.operand("y")?);
        let (shape, element) = (site.graph.shape(x)?, site.graph.kind(x).0);
        let product = *found.run("product")?.outputs.first()?;
        let holds = site.is_read_once(activation)
            && shape == site.graph.shape(y)?
            && element.is_float()
            && element == site.graph.values[product].element
            && matches!(y, Operand::Value(_));
        let activation = found.op::<Elementwise>("activation")?.function.clone();
        let gated = Gated { x: 0, y: 1, activation };
        holds.then(|| Replacement::Run(Box::new(gated), vec![x, y]))
    },
};

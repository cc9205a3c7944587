//! Activations times another tensor.

use super::*;

const RULE: &Rule = &silu::GATE;
const INPUTS: &str = "tensor<fp32, [2, 3]> x, tensor<fp32, [2, 3]> z";
const OPERATIONS: &str =
    "tensor<fp32, [2, 3]> s = silu(x = x); tensor<fp32, [2, 3]> y = mul(x = s, y = z);";

#[test]
fn an_activation_times_a_tensor_is_one_operation() {
    let becomes = |changes: &[(&str, &str)], result: &str, activation: &str| {
        let expected =
            format!("{result} fp32 [2, 3] gated(v0, v1, activation={activation}) # mul y");
        holds(RULE, INPUTS, &with(OPERATIONS, changes), &[&expected]);
    };
    becomes(&[], "v3", "silu");
    becomes(&[("x = s, y = z", "x = z, y = s")], "v3", "silu");
    becomes(&[("silu(", "tanh(")], "v3", "tanh");
    becomes(&[("silu(", "sigmoid(")], "v3", "sigmoid");
    let gelu = ("silu(x", "gelu(mode = string(\"TANH_APPROXIMATION\"), x");
    becomes(&[gelu], "v3", "gelu(tanh_approximation)");
    let product = ("silu(x = x);", "sigmoid(x = x); tensor<fp32, [2, 3]> p = mul(x = x, y = s);");
    becomes(&[product, ("x = s, y = z", "x = p, y = z")], "v4", "silu");
    // More than one task takes.
    let large = |text: &str| text.replace("[2, 3]", "[70, 300]");
    Program::new(&large(INPUTS), &large(OPERATIONS)).check_results(true, Effect::Fusion);
}

#[test]
fn other_products_with_an_activation_stay() {
    let stays = |inputs: &[(&str, &str)], changes: &[(&str, &str)]| {
        does_not_hold(RULE, &with(INPUTS, inputs), &with(OPERATIONS, changes));
    };
    stays(&[], &[("silu(", "relu(")]);
    stays(&[], &[("mul(", "add(")]);
    stays(&[("[2, 3]> z", "[3]> z")], &[]);
    stays(&[("[2, 3]> x", "[3]> x")], &[("[2, 3]> s", "[3]> s")]);
    stays(&[], &[("y = z", "y = tensor<fp32, [2, 3]>([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])")]);
    // The activation is read twice.
    stays(
        &[],
        &[(
            "]> y = mul(x = s, y = z);",
            "]> p = mul(x = s, y = z); tensor<fp32, [2, 3]> y = add(x = p, y = s);",
        )],
    );
    stays(&[], &[("x = s, y = z", "x = s, y = s")]);
    let unknown = |text: &str| text.replace("[2, 3]", "[?, 3]");
    let unknown = Program::new(&unknown(INPUTS), &unknown(OPERATIONS));
    assert_eq!(unknown.rewritten(false, Rewrites::All).0, Counts::default());
}

//! Root-mean-square normalization, step by step.

use super::*;

const RULE: &Rule = &norm::ROOT_MEAN_SQUARE;
const INPUTS: &str = "tensor<fp32, [2, 4]> x, tensor<fp32, [2, 4]> z, tensor<fp32, [4]> g";
const OPERATIONS: &str = "
    tensor<fp32, [2, 4]> q = mul(x = x, y = x);
    tensor<fp32, [2, 1]> m = reduce_mean(axes = tensor<int32, [1]>([-1]), keep_dims = bool(true), x = q);
    tensor<fp32, [2, 1]> e = add(x = m, y = fp32(0.5));
    tensor<fp32, [2, 1]> r = rsqrt(epsilon = fp32(0.25), x = e);
    tensor<fp32, [2, 4]> y = mul(x = x, y = r);";

#[test]
fn a_vector_by_the_root_of_its_mean_square_is_one_operation() {
    let becomes = |changes: &[(&str, &str)], result: &str, epsilon: &str, operator: &str| {
        let expected =
            format!("{result} fp32 [2, 4] rms_norm(v0, epsilon={epsilon}) # {operator} y");
        holds(RULE, INPUTS, &with(OPERATIONS, changes), &[&expected]);
    };
    becomes(&[], "v7", "0.75", "mul");
    becomes(&[("x = x, y = r", "x = r, y = x"), ("([-1])", "([1])")], "v7", "0.75", "mul");
    becomes(&[("mul(x = x, y = x)", "pow(x = x, y = fp32(2.0))")], "v7", "0.75", "mul");
    becomes(&[("mul(x = x, y = x)", "square(x = x)")], "v7", "0.75", "mul");
    becomes(&[("x = m, y = fp32(0.5)", "x = fp32(0.5), y = m")], "v7", "0.75", "mul");
    let bare = [("tensor<fp32, [2, 1]> e = add(x = m, y = fp32(0.5));", ""), ("x = e", "x = m")];
    becomes(&bare, "v6", "0.25", "mul");
    let power = ("rsqrt(epsilon = fp32(0.25), x = e)", "pow(x = e, y = fp32(-0.5))");
    becomes(&[power], "v7", "0.5", "mul");
    let root = ("rsqrt(epsilon = fp32(0.25), x = e)", "sqrt(x = e)");
    becomes(&[root, ("mul(x = x, y = r)", "real_div(x = x, y = r)")], "v7", "0.5", "real_div");
}

#[test]
fn factors_of_elements_join_the_norm() {
    let rule = &norm::SCALED_NORM;
    let product = "tensor<fp32, [2, 4]> y = mul(x = n, y = g);";
    let operations = [&with(OPERATIONS, &[("> y = mul", "> n = mul")]), product].concat();
    let expected = ["v8 fp32 [2, 4] rms_norm(v0, gamma=v2, epsilon=0.75) # mul y"];
    holds(rule, INPUTS, &operations, &expected);
    holds(rule, &with(INPUTS, &[("[4]> g", "[1, 4]> g")]), &operations, &expected);
    holds(rule, INPUTS, &with(&operations, &[("x = n, y = g", "x = g, y = n")]), &expected);
    let stays = |inputs: &[(&str, &str)], changes: &[(&str, &str)]| {
        does_not_hold(rule, &with(INPUTS, inputs), &with(&operations, changes));
    };
    stays(&[("[4]> g", "[2, 4]> g")], &[]);
    stays(&[("[4]> g", "[2, 1]> g")], &[]);
    stays(&[("[4]> g", "[1, 1, 4]> g")], &[("[2, 4]> y", "[1, 2, 4]> y")]);
    stays(&[], &[("mul(x = n, y = g)", "add(x = n, y = g)")]);
    // The norm is read twice.
    stays(
        &[],
        &[(
            "> y = mul(x = n, y = g);",
            "> s = mul(x = n, y = g); tensor<fp32, [2, 4]> y = add(x = s, y = n);",
        )],
    );
}

#[test]
fn other_roots_stay() {
    let stays = |changes: &[(&str, &str)]| does_not_hold(RULE, INPUTS, &with(OPERATIONS, changes));
    stays(&[("mul(x = x, y = x)", "mul(x = x, y = z)")]);
    stays(&[("mul(x = x, y = x)", "pow(x = x, y = fp32(3.0))")]);
    stays(&[("x = x, y = r", "x = z, y = r")]);
    stays(&[("reduce_mean", "reduce_sum")]);
    stays(&[
        ("([-1])", "([0])"),
        ("[2, 1]> m", "[1, 4]> m"),
        ("[2, 1]> e", "[1, 4]> e"),
        ("[2, 1]> r", "[1, 4]> r"),
    ]);
    stays(&[
        ("[1]>([-1])", "[2]>([0, 1])"),
        ("[2, 1]> m", "[1, 1]> m"),
        ("[2, 1]> e", "[1, 1]> e"),
        ("[2, 1]> r", "[1, 1]> r"),
    ]);
    stays(&[("y = fp32(0.5)", "y = tensor<fp32, [2, 1]>([[0.5], [1.0]])")]);
    stays(&[("rsqrt(epsilon = fp32(0.25), x = e)", "pow(x = e, y = fp32(0.5))")]);
    stays(&[("rsqrt(epsilon = fp32(0.25), x = e)", "sqrt(x = e)")]);
    let unknown = |text: &str| text.replace("[2, ", "[?, ");
    let unknown = Program::new(&unknown(INPUTS), &unknown(OPERATIONS));
    assert_eq!(unknown.rewritten(false, Rewrites::All).0, Counts::default());
}

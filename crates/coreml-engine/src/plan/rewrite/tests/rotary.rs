//! Halves that are turned.

use super::*;

const RULE: &Rule = &crate::plan::rewrite::rotary::ROTATED_HALVES;
const INPUTS: &str =
    "tensor<fp32, [1, 2, 3, 8]> x, tensor<fp32, [1, 1, 3, 8]> c, tensor<fp32, [3, 8]> s,
    tensor<fp32, [1, 2, 3, 8]> z";
const OPERATIONS: &str = "
    tensor<fp32, [1, 2, 3, 4]> first = slice_by_index(begin = tensor<int32, [4]>([0, 0, 0, 0]),
        end = tensor<int32, [4]>([1, 2, 3, 4]), x = x);
    tensor<fp32, [1, 2, 3, 4]> second = slice_by_index(begin = tensor<int32, [4]>([0, 0, 0, 4]),
        end = tensor<int32, [4]>([1, 2, 3, 8]), x = x);
    tensor<fp32, [1, 2, 3, 4]> negative = mul(x = second, y = fp32(-1.0));
    tensor<fp32, [1, 2, 3, 8]> turned = concat(axis = int32(-1), interleave = bool(false), values = (negative, first));
    tensor<fp32, [1, 2, 3, 8]> straight = mul(x = x, y = c);
    tensor<fp32, [1, 2, 3, 8]> across = mul(x = turned, y = s);
    tensor<fp32, [1, 2, 3, 8]> y = add(x = straight, y = across);";

#[test]
fn halves_that_are_turned_are_one_operation() {
    let becomes = |changes: &[(&str, &str)]| {
        let expected = "v10 fp32 [1, 2, 3, 8] rotary(v0, cos=v1, sin=v2) # add y";
        holds(RULE, INPUTS, &with(OPERATIONS, changes), &[expected]);
    };
    becomes(&[]);
    becomes(&[("x = straight, y = across", "x = across, y = straight")]);
    becomes(&[("x = x, y = c", "x = c, y = x"), ("x = turned, y = s", "x = s, y = turned")]);
    becomes(&[
        ("x = second, y = fp32(-1.0)", "x = fp32(-1.0), y = second"),
        ("int32(-1)", "int32(3)"),
    ]);
    let half = |text: &str| text.replace("fp32", "fp16");
    let program = Program::new(&half(INPUTS), &half(OPERATIONS));
    assert_eq!(program.rewritten(true, Rewrites::All).0.of(RULE.name), 1);
    program.check_results(true, Effect::Fusion);
}

#[test]
fn what_is_turned_may_lie_strided() {
    let inputs = with(INPUTS, &[("[1, 2, 3, 8]> x", "[1, 3, 2, 8]> w")]);
    let turn =
        "tensor<fp32, [1, 2, 3, 8]> x = transpose(perm = tensor<int32, [4]>([0, 2, 1, 3]), x = w);";
    let program = Program::new(&inputs, &[turn, OPERATIONS].concat());
    assert_eq!(program.rewritten(true, Rewrites::All).0.of(RULE.name), 1);
    program.check_results(true, Effect::Fusion);
}

#[test]
fn other_halves_stay() {
    let stays = |inputs: &[(&str, &str)], changes: &[(&str, &str)]| {
        does_not_hold(RULE, &with(INPUTS, inputs), &with(OPERATIONS, changes));
    };
    stays(&[], &[("(negative, first)", "(first, negative)")]);
    stays(&[], &[("fp32(-1.0)", "fp32(-2.0)")]);
    stays(&[], &[("x = second, y = fp32", "x = first, y = fp32")]);
    stays(&[], &[("(negative, first)", "(negative, second)")]);
    stays(&[], &[("y = add(", "y = sub(")]);
    stays(&[], &[("x = x, y = c", "x = z, y = c")]);
    stays(
        &[],
        &[(
            "end = tensor<int32, [4]>([1, 2, 3, 8]), x = x",
            "end = tensor<int32, [4]>([1, 2, 3, 8]), x = z",
        )],
    );
    stays(&[], &[("interleave = bool(false)", "interleave = bool(true)")]);
    // Every second element for the first half.
    let strided = (
        "tensor<int32, [4]>([1, 2, 3, 4]), x = x",
        "tensor<int32, [4]>([1, 2, 3, 8]), stride = tensor<int32, [4]>([1, 1, 1, 2]), x = x",
    );
    stays(&[], &[strided]);
    // One factor for a row, and factors of more rows than there are.
    stays(&[("[3, 8]> s", "[3, 1]> s")], &[]);
    let more = ["straight", "y"]
        .map(|name| (format!("[1, 2, 3, 8]> {name} ="), format!("[5, 2, 3, 8]> {name} =")));
    let more = more.each_ref().map(|(from, to)| (from.as_str(), to.as_str()));
    stays(&[("[1, 1, 3, 8]> c", "[5, 1, 3, 8]> c")], &more);
    let unknown = |text: &str| text.replace("3, 8]>", "?, 8]>").replace("3, 4]>", "?, 4]>");
    let unknown = Program::new(&unknown(INPUTS), &unknown(OPERATIONS));
    assert_eq!(unknown.rewritten(false, Rewrites::All).0, Counts::default());
}

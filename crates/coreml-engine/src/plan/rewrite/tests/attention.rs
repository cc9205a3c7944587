//! Attention that is written as products.

use super::*;

const INPUTS: &str = "tensor<fp32, [1, 4, 3, 8]> q, tensor<fp32, [1, 4, 5, 8]> k,
    tensor<fp32, [1, 4, 5, 6]> v, tensor<fp32, [1, 1, 3, 5]> m";

const OPERATIONS: &str = "
    tensor<fp32, [1, 4, 3, 5]> s = matmul(transpose_x = bool(false), transpose_y = bool(true), x = q, y = k);
    tensor<fp32, [1, 4, 3, 5]> scaled = mul(x = s, y = fp32(0.25));
    tensor<fp32, [1, 4, 3, 5]> masked = add(x = scaled, y = m);
    tensor<fp32, [1, 4, 3, 5]> w = softmax(axis = int32(-1), x = masked);
    tensor<fp32, [1, 4, 3, 6]> y = matmul(transpose_x = bool(false), transpose_y = bool(false), x = w, y = v);";

const RULE: &Rule = &crate::plan::rewrite::attention::PRODUCTS_AROUND_SOFTMAX;

/// The operation that all are, with what it says besides its main operands.
fn becomes(inputs: &str, operations: &str, result: &str, what: &str) {
    let expected = format!("{result} fp32 [1, 4, 3, 6] attention(query=v0, {what}) # matmul y");
    holds(RULE, inputs, operations, &[&expected]);
}

fn changed(changes: &[(&str, &str)]) -> String {
    with(OPERATIONS, changes)
}

#[test]
fn products_around_a_softmax_are_an_attention() {
    let words = |mask: &str, scale: &str| {
        format!("key=v1, value=v2, {mask}scale={scale}, nan_unseen, key_repeat=1, value_repeat=1")
    };
    let becomes = |operations: &str, result: &str, mask: &str, scale: &str| {
        becomes(INPUTS, operations, result, &words(mask, scale));
    };
    becomes(OPERATIONS, "v8", "mask=v3, ", "0.25");
    let divided = ("mul(x = s, y = fp32(0.25))", "real_div(x = s, y = fp32(4))");
    for change in [
        ("x = s, y = fp32(0.25)", "x = fp32(0.25), y = s"),
        divided,
        ("x = scaled, y = m", "x = m, y = scaled"),
        ("axis = int32(-1)", "axis = int32(3)"),
    ] {
        becomes(&changed(&[change]), "v8", "mask=v3, ", "0.25");
    }
    let unscaled = [
        ("tensor<fp32, [1, 4, 3, 5]> scaled = mul(x = s, y = fp32(0.25));", ""),
        ("x = scaled", "x = s"),
    ];
    becomes(&changed(&unscaled), "v7", "mask=v3, ", "1.0");
    let unmasked = [
        ("tensor<fp32, [1, 4, 3, 5]> masked = add(x = scaled, y = m);", ""),
        ("x = masked", "x = scaled"),
    ];
    becomes(&changed(&unmasked), "v7", "", "0.25");
    let bare = [unscaled[0], unmasked[0], ("x = masked", "x = s")];
    becomes(&changed(&bare), "v6", "", "1.0");
}

#[test]
fn matrices_may_lie_transposed() {
    let inputs = with(INPUTS, &[("[1, 4, 5, 8]> k", "[1, 4, 8, 5]> k"), ("5, 6]> v", "6, 5]> v")]);
    let operations = changed(&[
        ("transpose_y = bool(true), x = q", "transpose_y = bool(false), x = q"),
        ("transpose_y = bool(false), x = w", "transpose_y = bool(true), x = w"),
    ]);
    let turned = "reorder(v1, order=permute([0, 1, 3, 2])) # matmul y";
    let turned_value = "reorder(v2, order=permute([0, 1, 3, 2])) # matmul y";
    let attention = "attention(query=v0, key=v9, value=v10, mask=v3, scale=0.25, nan_unseen, \
        key_repeat=1, value_repeat=1) # matmul y";
    let expected = [
        &format!("v9 fp32 [1, 4, 5, 8] {turned}"),
        &format!("v10 fp32 [1, 4, 5, 6] {turned_value}"),
        &format!("v8 fp32 [1, 4, 3, 6] {attention}"),
    ];
    holds(RULE, &inputs, &operations, &expected.map(String::as_str));
    let inputs = with(INPUTS, &[("[1, 4, 3, 8]> q", "[1, 4, 8, 3]> q")]);
    let turned = [(
        "transpose_x = bool(false), transpose_y = bool(true)",
        "transpose_x = bool(true), transpose_y = bool(true)",
    )];
    let program = Program::new(&inputs, &changed(&turned));
    assert_eq!(program.rewritten(true, Rewrites::All).0.of(RULE.name), 1);
    program.check_results(true, Effect::Fusion);
}

#[test]
fn heads_may_share_keys_and_values() {
    // One head of each for all queries.
    let one = [("[1, 4, 5, 8]> k", "[1, 1, 5, 8]> k"), ("[1, 4, 5, 6]> v", "[1, 1, 5, 6]> v")];
    let words = "key=v1, value=v2, mask=v3, scale=0.25, nan_unseen, key_repeat=4, value_repeat=4";
    becomes(&with(INPUTS, &one), OPERATIONS, "v8", words);
    let words = "key=v1, value=v2, mask=v3, scale=0.25, nan_unseen, key_repeat=4, value_repeat=1";
    becomes(&with(INPUTS, &one[..1]), OPERATIONS, "v8", words);
    // Two heads for two queries each, and for single queries of heads with masks of their own.
    let repeated = |name: &str, width: usize| {
        format!("
        tensor<fp32, [1, 2, 1, 5, {width}]> {name}a = expand_dims(axes = tensor<int32, [1]>([2]), x = {name});
        tensor<fp32, [1, 2, 2, 5, {width}]> {name}b = tile(reps = tensor<int32, [5]>([1, 1, 2, 1, 1]), x = {name}a);
        tensor<fp32, [1, 4, 5, {width}]> {name}s = reshape(shape = tensor<int32, [4]>([1, 4, 5, {width}]), x = {name}b);")
    };
    let operations = changed(&[("y = k)", "y = ks)"), ("y = v)", "y = vs)")]);
    let operations = [repeated("k", 8), repeated("v", 6), operations].concat();
    let two = [("[1, 4, 5, 8]> k", "[1, 2, 5, 8]> k"), ("[1, 4, 5, 6]> v", "[1, 2, 5, 6]> v")];
    let inputs = with(INPUTS, &two);
    let single =
        with(&inputs, &[("4, 3, 8]> q", "4, 1, 8]> q"), ("[1, 1, 3, 5]> m", "[1, 4, 1, 5]> m")]);
    let operations_of_single = operations.replace("4, 3, ", "4, 1, ");
    for (inputs, operations) in [(&inputs, &operations), (&single, &operations_of_single)] {
        let program = Program::new(inputs, operations);
        let (counts, lines) = program.rewritten(true, Rewrites::All);
        assert_eq!(counts.of(RULE.name), 1, "{lines:#?}");
        assert!(lines.last().unwrap().contains("key_repeat=2, value_repeat=2"), "{lines:#?}");
        program.check_results(true, Effect::Fusion);
    }
}

/// The logarithm of what is not positive is minus infinity; in the second row, that is everything.
#[test]
fn masks_may_hide_keys_and_whole_rows() {
    let mask = "
        tensor<fp32, [1, 1, 3, 5]> positive = relu(x = m);
        tensor<fp32, [1, 1, 3, 5]> kept = mul(x = positive, y = tensor<fp32, [1, 1, 3, 1]>([[[[1.0], [0.0], [1.0]]]]));
        tensor<fp32, [1, 1, 3, 5]> hidden = log(epsilon = fp32(0.0), x = kept);";
    let program = Program::new(
        INPUTS,
        &[mask, &changed(&[("x = scaled, y = m", "x = scaled, y = hidden")])].concat(),
    );
    let (counts, lines) = program.rewritten(true, Rewrites::All);
    assert_eq!(counts.of(RULE.name), 1, "{lines:#?}");
    program.check_results(true, Effect::Fusion);
}

#[test]
fn sizes_of_keys_and_queries_may_be_found_by_a_run() {
    let open = |text: &str| {
        text.replace("3, 8]", "?, 8]")
            .replace("5, 8]", "?, 8]")
            .replace("5, 6]", "?, 6]")
            .replace("3, 5]", "?, ?]")
            .replace("3, 6]", "?, 6]")
    };
    let program = Program::new(&open(INPUTS), &open(OPERATIONS));
    let (counts, lines) = program.rewritten(false, Rewrites::All);
    assert_eq!(counts.of(RULE.name), 1, "{lines:#?}");
    program.check_results(false, Effect::Fusion);
}

#[test]
fn other_products_stay() {
    let stays = |changes: &[(&str, &str)]| does_not_hold(RULE, INPUTS, &changed(changes));
    stays(&[("axis = int32(-1)", "axis = int32(2)")]);
    stays(&[("softmax(axis = int32(-1), x = masked)", "sigmoid(x = masked)")]);
    stays(&[("add(x = scaled", "sub(x = scaled")]);
    stays(&[("mul(x = s, y = fp32(0.25))", "real_div(x = fp32(0.25), y = s)")]);
    stays(&[("mul(x = s, y = fp32(0.25))", "mul(x = s, y = m)")]);
    stays(&[("y = fp32(0.25)", "y = tensor<fp32, [5]>([1.0, 2.0, 3.0, 4.0, 5.0])")]);
    let stays = |inputs: &[(&str, &str)], changes: &[(&str, &str)]| {
        does_not_hold(RULE, &with(INPUTS, inputs), &changed(changes));
    };
    // Weights on the other side, or transposed.
    let values = ("[1, 4, 5, 6]> v", "[1, 4, 6, 3]> v");
    stays(&[values], &[("x = w, y = v", "x = v, y = w"), ("[1, 4, 3, 6]> y", "[1, 4, 6, 5]> y")]);
    let values = ("[1, 4, 5, 6]> v", "[1, 4, 3, 6]> v");
    let turned = (
        "transpose_x = bool(false), transpose_y = bool(false)",
        "transpose_x = bool(true), transpose_y = bool(false)",
    );
    stays(&[values], &[turned, ("[1, 4, 3, 6]> y", "[1, 4, 5, 6]> y")]);
    // Keys of several batches for the queries of one.
    let (keys, more) = (("[1, 4, 5, 8]> k", "[2, 4, 5, 8]> k"), ("[1, 4, 3,", "[2, 4, 3,"));
    stays(&[keys], &[more]);
    // A mask of several rows for one query.
    let query = ("[1, 4, 3, 8]> q", "[1, 4, 1, 8]> q");
    let one = ("[1, 4, 3, 5]> s =", "[1, 4, 1, 5]> s =");
    stays(&[query], &[one, ("[1, 4, 3, 5]> scaled", "[1, 4, 1, 5]> scaled")]);
}

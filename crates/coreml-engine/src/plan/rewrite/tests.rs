//! Each rule where it holds and where it must not, and that no rule is idle.

mod attention;
mod gate;
mod root_mean_square;
mod rotary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coreml_format::Package;
use coreml_format::mil::{Dimension, ValueType, from_text};
use coreml_kernels::{Context, Workers};
use smallvec::smallvec;

use super::*;
use crate::fixtures;
use crate::graph::print;
use crate::ops::{Reshape, ReshapeRule};
use crate::plan::bind::bind;
use crate::plan::equivalence::{is_close, run};
use crate::plan::{Options, build};
use crate::value::Shape;
use crate::weights::Weights;

/// A function of an iOS 18 program, ready to be planned.
struct Program {
    weights: Arc<Weights>,
    context: Context,
    /// Shapes of its inputs; a `?` counts as 3.
    inputs: Vec<(Shape, Storage)>,
}

impl Program {
    /// The function of these inputs and operations, with the result `y`.
    fn new(inputs: &str, operations: &str) -> Self {
        let text =
            format!("program(1.3) {{ func main<ios18>({inputs}) {{{operations}}} -> (y); }}");
        let program = from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let inputs = program.functions["main"].inputs.iter().filter_map(|input| match &input.ty {
            ValueType::Tensor(tensor) => Some(example(tensor)),
            _ => None,
        });
        let inputs = inputs.collect();
        let package = Package::from_program(program).unwrap();
        Program {
            weights: Weights::new(package, crate::Limits::new()).unwrap(),
            context: Context::new(Workers::serial()),
            inputs,
        }
    }

    fn shapes(&self, known: bool) -> Vec<Option<Shape>> {
        self.inputs.iter().map(|(shape, _)| known.then(|| shape.clone())).collect()
    }

    /// How often rules are used, and the lines of operations that the rewritten graph has, without
    /// columns.
    fn rewritten(&self, known: bool, rewrites: Rewrites) -> (Counts, Vec<String>) {
        let function = &self.weights.program().functions["main"];
        let shapes = self.shapes(known);
        let (weights, options) = (&self.weights, Options::default());
        let mut graph = bind("main", function, &shapes, weights, &self.context, options).unwrap();
        let mut counts = Counts::default();
        rewrite("main", &mut graph, rewrites, options.precision, &mut counts).unwrap();
        let text = print(&graph, &[], &|_| None);
        let operations = text.lines().filter(|line| line.contains(" # "));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        (counts, operations.map(words).collect())
    }

    /// The results with rewrites are those without: bit for bit, or up to rounding.
    fn check_results(&self, known: bool, effect: Effect) {
        let function = &self.weights.program().functions["main"];
        let results = |rewrites| {
            let (shapes, options) =
                (self.shapes(known), Options { rewrites, ..Options::default() });
            let plan = build("main", function, &shapes, &self.weights, &self.context, options);
            run(&plan.unwrap(), &self.context, &self.inputs).unwrap()
        };
        let (plain, rewritten) = (results(Rewrites::Off), results(Rewrites::All));
        match effect {
            Effect::Exact => assert!(plain == rewritten, "other results"),
            _ => assert!(is_close(&rewritten, &plain), "other results"),
        }
    }
}

/// A shape of this type, and how its elements are held.
fn example(tensor: &TensorType) -> (Shape, Storage) {
    let size = |size: &Dimension| match size {
        Dimension::Fixed(size) => *size,
        _ => 3,
    };
    let shape = tensor.shape.iter().map(size).collect();
    (shape, Storage::natural(tensor.element).unwrap())
}

/// The rule is used once, and these operations remain.
fn holds(rule: &Rule, inputs: &str, operations: &str, expected: &[&str]) {
    let program = Program::new(inputs, operations);
    let (counts, lines) = program.rewritten(true, Rewrites::All);
    assert_eq!(counts.of(rule.name), 1, "{operations}\n{counts}");
    assert_eq!(lines, expected, "{operations}");
    program.check_results(true, rule.effect);
    if rule.effect != Effect::Exact {
        assert_eq!(program.rewritten(true, Rewrites::Exact).0.of(rule.name), 0, "{operations}");
    }
}

/// The rule is not used.
fn does_not_hold(rule: &Rule, inputs: &str, operations: &str) {
    let program = Program::new(inputs, operations);
    let (counts, lines) = program.rewritten(true, Rewrites::All);
    assert_eq!(counts.of(rule.name), 0, "{operations}\n{lines:#?}");
    program.check_results(true, Effect::Fusion);
}

#[test]
fn a_reshape_to_the_same_shape_goes() {
    let rule = &moves::NOTHING_MOVES;
    let x = "tensor<fp32, [2, 3]> x";
    let same = "tensor<fp32, [2, 3]> same = reshape(shape = tensor<int32, [2]>([2, -1]), x = x);";
    let operations = format!("{same} tensor<fp32, [2, 3]> y = exp(x = same);");
    holds(rule, x, &operations, &["v2 fp32 [2, 3] exp(v0) # y"]);
    // Nothing is left where the result is an input, and `identity` is such a reshape, too.
    holds(rule, x, "tensor<fp32, [2, 3]> y = identity(x = x);", &[]);
    let other = "tensor<fp32, [3, 2]> y = reshape(shape = tensor<int32, [2]>([3, 2]), x = x);";
    does_not_hold(rule, x, other);
    does_not_hold(rule, x, "tensor<fp32, [1, 2, 3]> y = expand_dims(axes = int32(0), x = x);");
    let unknown =
        Program::new("tensor<fp32, [?, 3]> x", "tensor<fp32, [?, 3]> y = identity(x = x);");
    assert_eq!(unknown.rewritten(false, Rewrites::All).0, Counts::default());
}

#[test]
fn what_takes_the_place_of_a_value_is_read_in_nested_blocks_too() {
    let operations = "
        tensor<fp32, [2]> same = identity(x = x);
        bool first = cast(dtype = string(\"bool\"), x = p);
        tensor<fp32, [2]> y = cond(pred = first) {
            tensor<fp32, [2]> inner = exp(x = same);
        } -> (inner), {
        } -> (same);";
    let expected = [
        "v3 bool [] cast(v1, to=bool) # first",
        "v5 fp32 [2] if v3 # cond y",
        "v4 fp32 [2] exp(v0) # inner",
    ];
    holds(&moves::NOTHING_MOVES, "tensor<fp32, [2]> x, int32 p", operations, &expected);
}

#[test]
fn two_reshapes_become_one() {
    let rule = &moves::RESHAPE_OF_RESHAPE;
    let x = "tensor<fp32, [2, 6]> x";
    let inner = "tensor<fp32, [3, 4]> inner = reshape(shape = tensor<int32, [2]>([3, 4]), x = x);";
    let outer =
        "tensor<fp32, [1, 3, 4]> y = expand_dims(axes = tensor<int32, [1]>([0]), x = inner);";
    let expected = "v2 fp32 [1, 3, 4] reshape(v0, rule=to([1, 3, 4])) # expand_dims y";
    holds(rule, x, &format!("{inner} {outer}"), &[expected]);
    let apart =
        "tensor<fp32, [4, 3]> moved = transpose(perm = tensor<int32, [2]>([1, 0]), x = inner);
        tensor<fp32, [12]> y = reshape(shape = tensor<int32, [1]>([12]), x = moved);";
    does_not_hold(rule, x, &format!("{inner} {apart}"));
    let unknown = "tensor<fp32, [?]> inner = reshape(shape = tensor<int32, [1]>([-1]), x = x);
        tensor<fp32, [1, ?]> y = expand_dims(axes = tensor<int32, [1]>([0]), x = inner);";
    let unknown = Program::new("tensor<fp32, [2, ?]> x", unknown);
    assert_eq!(unknown.rewritten(false, Rewrites::All).0, Counts::default());
}

#[test]
fn two_transpositions_become_one() {
    let rule = &moves::TRANSPOSE_OF_TRANSPOSE;
    let x = "tensor<fp32, [2, 3, 4]> x";
    let inner =
        "tensor<fp32, [3, 4, 2]> inner = transpose(perm = tensor<int32, [3]>([1, 2, 0]), x = x);";
    for outer in ["1, 2, 0", "1, -1, -3"] {
        let outer = format!(
            "tensor<fp32, [4, 2, 3]> y = transpose(perm = tensor<int32, [3]>([{outer}]), x = inner);"
        );
        let expected = "v2 fp32 [4, 2, 3] reorder(v0, order=permute([2, 0, 1])) # transpose y";
        holds(rule, x, &format!("{inner} {outer}"), &[expected]);
    }
    let apart =
        "tensor<fp32, [3, 4, 2]> turned = reverse(axes = tensor<int32, [1]>([0]), x = inner);
        tensor<fp32, [4, 3, 2]> y = transpose(perm = tensor<int32, [3]>([1, 0, 2]), x = turned);";
    does_not_hold(rule, x, &format!("{inner} {apart}"));
}

const HEADS: &str = "tensor<fp32, [1, 4, 3, 5]> x, tensor<fp32, [1, 2, 6, 5]> k";
const REPEATED: &str = "
    tensor<fp32, [1, 2, 1, 6, 5]> apart = expand_dims(axes = tensor<int32, [1]>([2]), x = k);
    tensor<fp32, [1, 2, 2, 6, 5]> all = tile(reps = tensor<int32, [5]>([1, 1, 2, 1, 1]), x = apart);
    tensor<fp32, [1, 4, 6, 5]> heads = reshape(shape = tensor<int32, [4]>([1, 4, 6, 5]), x = all);
    tensor<fp32, [1, 4, 3, 6]> y = matmul(transpose_x = bool(false), transpose_y = bool(true), x = x,
        y = heads);";

/// A text with some parts replaced by others, each of which is there.
fn with(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no {from} in {text}");
        text.replace(from, to)
    })
}

#[test]
fn a_product_reads_heads_several_times_instead_of_repeating_them() {
    let rule = &repeat::REPEATED_OPERAND;
    let product = "matmul(v0, v1, transpose_y, repeat=2) # y";
    holds(rule, HEADS, REPEATED, &[&format!("v5 fp32 [1, 4, 3, 6] {product}")]);
    // One head for all queries, and one matrix of queries for all heads.
    let inputs = with(HEADS, &[("[1, 2, 6, 5]", "[1, 1, 6, 5]")]);
    let changes = [("[1, 2, 1, 6, 5]", "[1, 1, 1, 6, 5]"), ("[1, 2, 2, 6, 5]", "[1, 1, 4, 6, 5]")];
    let operations = with(&with(REPEATED, &changes), &[("1, 1, 2, 1, 1", "1, 1, 4, 1, 1")]);
    let product = "matmul(v0, v1, transpose_y, repeat=4) # y";
    holds(rule, &inputs, &operations, &[&format!("v5 fp32 [1, 4, 3, 6] {product}")]);
    let inputs = with(HEADS, &[("[1, 4, 3, 5]", "[1, 1, 3, 5]")]);
    let product = "matmul(v0, v1, transpose_y, repeat=2) # y";
    holds(rule, &inputs, REPEATED, &[&format!("v5 fp32 [1, 4, 3, 6] {product}")]);
}

const ATTENTION: &str = "
    tensor<fp32, [1, 2, 1, 6, 5]> apart = expand_dims(axes = tensor<int32, [1]>([2]), x = k);
    tensor<fp32, [1, 2, 2, 6, 5]> all = tile(reps = tensor<int32, [5]>([1, 1, 2, 1, 1]), x = apart);
    tensor<fp32, [1, 4, 6, 5]> keys = reshape(shape = tensor<int32, [4]>([1, 4, 6, 5]), x = all);
    tensor<fp32, [1, 2, 2, 6, 5]> both = tile(reps = tensor<int32, [5]>([1, 1, 2, 1, 1]), x = apart);
    tensor<fp32, [1, 4, 6, 5]> values = reshape(shape = tensor<int32, [4]>([1, 4, 6, 5]), x = both);
    tensor<fp32, [1, 4, 3, 5]> y = scaled_dot_product_attention(attn_mask = m, key = keys, query = x,
        value = values);";

#[test]
fn an_attention_reads_heads_several_times_instead_of_repeating_them() {
    let inputs = format!("{HEADS}, tensor<fp32, [1, 4, 3, 6]> m");
    let program = Program::new(&inputs, ATTENTION);
    let (counts, lines) = program.rewritten(true, Rewrites::Exact);
    assert_eq!(counts.of(repeat::REPEATED_KEYS.name), 1);
    assert_eq!(counts.of(repeat::REPEATED_VALUES.name), 1);
    assert!(lines.iter().all(|line| !line.contains("tile")), "{lines:#?}");
    assert!(lines.last().unwrap().contains("key_repeat=2, value_repeat=2"), "{lines:#?}");
    program.check_results(true, Effect::Exact);
    // Values that are not repeated, and a mask for all heads.
    let inputs = with(&inputs, &[("[1, 4, 3, 6]> m", "[3, 6]> m")]);
    let inputs = format!("{inputs}, tensor<fp32, [1, 4, 6, 5]> v");
    let program = Program::new(&inputs, &with(ATTENTION, &[("value = values", "value = v")]));
    let (counts, _) = program.rewritten(true, Rewrites::Exact);
    assert_eq!(counts.of(repeat::REPEATED_KEYS.name), 1);
    assert_eq!(counts.of(repeat::REPEATED_VALUES.name), 0);
    program.check_results(true, Effect::Exact);
}

#[test]
fn heads_may_have_a_number_of_rows_that_a_run_finds() {
    let open = |text: &str| text.replace("6, 5]>", "?, 5]>").replace("3, 6]> y", "3, ?]> y");
    let inputs = with(HEADS, &[("[1, 2, 6, 5]", "[1, 2, ?, 5]")]);
    let operations = with(&open(REPEATED), &[("[1, 4, 6, 5]", "[1, 4, -1, 5]")]);
    let program = Program::new(&inputs, &operations);
    let (counts, lines) = program.rewritten(false, Rewrites::All);
    assert_eq!(counts.of(repeat::REPEATED_OPERAND.name), 1);
    assert!(lines.iter().all(|line| !line.contains("tile")), "{lines:#?}");
    assert!(lines.last().unwrap().contains("transpose_y, repeat=2)"), "{lines:#?}");
    program.check_results(false, Effect::Order);
}

#[test]
fn other_repetitions_stay() {
    let rule = &repeat::REPEATED_OPERAND;
    let stays = |inputs: &str, changes: &[(&str, &str)]| {
        does_not_hold(rule, inputs, &with(REPEATED, changes));
    };
    // The row of heads as a whole: 0, 1, 0, 1.
    stays(HEADS, &[("1, 1, 2, 1, 1", "1, 2, 1, 1, 1"), ("[1, 2, 2, 6, 5]", "[1, 4, 1, 6, 5]")]);
    // Rows, which a reshape then parts.
    stays(HEADS, &[("1, 1, 2, 1, 1", "1, 1, 1, 2, 1"), ("[1, 2, 2, 6, 5]", "[1, 2, 1, 12, 5]")]);
    // Along two axes.
    let inputs = with(HEADS, &[("[1, 4, 3, 5]", "[1, 8, 3, 5]")]);
    let twice = [("1, 1, 2, 1, 1", "1, 2, 2, 1, 1"), ("[1, 2, 2, 6, 5]", "[1, 4, 2, 6, 5]")];
    let results = [("[1, 4, 6, 5]", "[1, 8, 6, 5]"), ("[1, 4, 3, 6]", "[1, 8, 3, 6]")];
    stays(&inputs, &[&twice[..], &results].concat());
    // Nothing is repeated.
    let inputs = with(HEADS, &[("[1, 4, 3, 5]", "[1, 2, 3, 5]")]);
    let once = [("1, 1, 2, 1, 1", "1, 1, 1, 1, 1"), ("[1, 2, 2, 6, 5]", "[1, 2, 1, 6, 5]")];
    let results = [("[1, 4, 6, 5]", "[1, 2, 6, 5]"), ("[1, 4, 3, 6]", "[1, 2, 3, 6]")];
    stays(&inputs, &[&once[..], &results].concat());
    // Matrices of another shape than those that are repeated.
    let other = ("[1, 4, 6, 5]", "[1, 4, 5, 6]");
    stays(HEADS, &[other, ("transpose_y = bool(true)", "transpose_y = bool(false)")]);
    // Heads along another axis than the last one before the matrices.
    let inputs = with(HEADS, &[("[1, 4, 3, 5]", "[4, 1, 3, 5]")]);
    stays(&inputs, &[("[1, 4, 6, 5]", "[4, 1, 6, 5]"), ("[1, 4, 3, 6]", "[4, 1, 3, 6]")]);
    // The first operand.
    stays(HEADS, &[("x = x,", "x = heads,"), ("y = heads)", "y = x)"), ("3, 6]> y", "6, 3]> y")]);
}

#[test]
fn a_product_with_its_sigmoid_is_a_function_of_its_own() {
    let rule = &silu::PRODUCT_WITH_SIGMOID;
    let inputs = "tensor<fp32, [2, 3]> x, tensor<fp32, [2, 3]> z";
    let text =
        "tensor<fp32, [2, 3]> s = sigmoid(x = x); tensor<fp32, [2, 3]> y = mul(x = x, y = s);";
    let expected = ["v3 fp32 [2, 3] silu(v0) # mul y"];
    holds(rule, inputs, text, &expected);
    holds(rule, inputs, &with(text, &[("x = x, y = s", "x = s, y = x")]), &expected);
    for change in [
        ("sigmoid(x = x)", "sigmoid(x = z)"),
        ("sigmoid(x = x)", "tanh(x = x)"),
        ("sigmoid(x = x)", "sigmoid_hard(alpha = fp32(0.2), beta = fp32(0.5), x = x)"),
        ("mul(x = x, y = s)", "add(x = x, y = s)"),
        ("mul(x = x, y = s)", "real_div(x = x, y = s)"),
        ("mul(x = x, y = s)", "mul(x = s, y = s)"),
        ("mul(x = x, y = s)", "mul(x = z, y = s)"),
    ] {
        does_not_hold(rule, inputs, &with(text, &[change]));
    }
}

const NORM: &str = "
    tensor<fp32, [2, 4]> minus = mul(x = x, y = fp32(-1.0));
    tensor<fp32, [2, 8]> both = concat(axis = int32(-1), interleave = bool(false), values = (x, minus));
    tensor<fp32, [2, 8]> norm = layer_norm(axes = tensor<int32, [1]>([-1]), epsilon = fp32(0.5), x = both);
    tensor<fp32, [2, 4]> y = slice_by_index(begin = tensor<int32, [2]>([0, 0]),
        end = tensor<int32, [2]>([2, 4]), x = norm);";

#[test]
fn the_norm_of_both_signs_is_a_root_mean_square() {
    let rule = &norm::NORM_OF_BOTH_SIGNS;
    let inputs = "tensor<fp32, [2, 4]> x, tensor<fp32, [2, 4]> z";
    let expected = ["v5 fp32 [2, 4] rms_norm(v0, epsilon=0.5) # slice_by_index y"];
    holds(rule, inputs, NORM, &expected);
    let axes = [("int32(-1)", "int32(1)"), ("([-1])", "([1])")];
    holds(rule, inputs, &with(NORM, &axes), &expected);
    holds(
        rule,
        inputs,
        &with(NORM, &[("x = x, y = fp32(-1.0)", "x = fp32(-1.0), y = x")]),
        &expected,
    );
    let gamma = "x = both, gamma = tensor<fp32, [8]>([1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0])";
    let stride = "x = norm, stride = tensor<int32, [2]>([1, 2])";
    let changes: [&[(&str, &str)]; 10] = [
        // The other half, whose signs are turned, in two ways; a part; every second element.
        &[("([0, 0])", "([0, 4])"), ("([2, 4])", "([2, 8])")],
        &[("(x, minus)", "(minus, x)")],
        &[("[2, 4]> y", "[2, 3]> y"), ("([2, 4])", "([2, 3])")],
        &[("([2, 4])", "([2, 8])"), ("x = norm", stride)],
        // Something else beside `x`.
        &[("fp32(-1.0)", "fp32(-2.0)")],
        &[("mul(x = x", "mul(x = z")],
        &[("interleave = bool(false)", "interleave = bool(true)")],
        // Another norm.
        &[("x = both", gamma)],
        &[("([-1])", "([0])")],
        &[("[1]>([-1])", "[2]>([0, 1])")],
    ];
    for changes in changes {
        does_not_hold(rule, inputs, &with(NORM, changes));
    }
    // Signs one below the other, and shapes that are found at run time.
    let below = [("int32(-1)", "int32(0)"), ("[2, 8]>", "[4, 4]>")];
    does_not_hold(rule, inputs, &with(NORM, &below));
    let (counts, _) = Program::new(inputs, NORM).rewritten(false, Rewrites::All);
    assert_eq!(counts, Counts::default());
}

#[test]
fn what_nothing_reads_goes_with_rewrites_alone() {
    let operations = "
        tensor<fp16, [2]> unread = exp(x = x);
        tensor<fp16, [2]> kept = tanh(x = x);
        write_state(data = kept, input = s);
        tensor<fp16, [2]> y = sin(x = x);";
    let program = Program::new("tensor<fp16, [2]> x, state<tensor<fp16, [2]>> s", operations);
    let calls = |rewrites| {
        let (counts, lines) = program.rewritten(true, rewrites);
        assert_eq!(counts, Counts::default());
        lines.into_iter().map(|line| line.split(" # ").next().unwrap_or("").to_owned()).collect()
    };
    let plain: Vec<String> = calls(Rewrites::Off);
    assert_eq!(plain.len(), 4);
    let kept: Vec<String> = calls(Rewrites::Exact);
    assert_eq!(kept, plain[1..]);
    program.check_results(true, Effect::Exact);
}

/// What the driver makes of a rule that gives a reshape of `[2, 3]` to `[6]` another type.
fn error_of(replace: fn(&mut Site, &Match) -> Option<Replacement>) -> String {
    let pattern = || op("reshape", |_: &Reshape| true).reading(0, any("x"));
    let rule = Rule { name: "wrong rule", effect: Effect::Exact, pattern, replace };
    let operations = "tensor<fp32, [6]> y = reshape(shape = tensor<int32, [1]>([6]), x = x);";
    let program = Program::new("tensor<fp32, [2, 3]> x", operations);
    let function = &program.weights.program().functions["main"];
    let shapes = program.shapes(true);
    let (weights, context) = (&program.weights, &program.context);
    let mut graph = bind("main", function, &shapes, weights, context, Options::default()).unwrap();
    let mut body = std::mem::take(&mut graph.body);
    let mut sweep = Sweep {
        function: "main",
        graph: &mut graph,
        rules: &[(&rule, pattern())],
        counts: &mut Counts::default(),
        reads: HashMap::new(),
        renamed: HashMap::new(),
    };
    sweep.block(&mut body).unwrap_err().to_string()
}

#[test]
fn a_rule_that_changes_a_type_is_found_out() {
    let operand = error_of(|_, found| Some(Replacement::Operand(found.operand("x")?)));
    let shape = error_of(|_, found| reshaped(ReshapeRule::To(smallvec![3, 2]), found));
    assert!(operand.contains("`wrong rule`") && operand.contains("`y`"), "{operand}");
    assert!(shape.contains("`wrong rule`") && shape.contains("`y`"), "{shape}");
    let refused = error_of(|_, found| reshaped(ReshapeRule::Remove(smallvec![7]), found));
    assert!(refused.contains("`wrong rule`") && refused.contains("`axes`"), "{refused}");
}

fn reshaped(rule: ReshapeRule, found: &Match) -> Option<Replacement> {
    Some(Replacement::Run(Box::new(Reshape { x: 0, rule }), vec![found.operand("x")?]))
}

/// How often each rule is used in the functions of a package, added up.
fn count(package: Package, used: &mut BTreeMap<&'static str, usize>) {
    let context = Context::new(Workers::serial());
    let weights = Weights::new(package, crate::Limits::new()).unwrap();
    for (name, function) in &weights.program().functions {
        let Some(inputs) = fixtures::defaults(weights.package(), name, function) else { continue };
        let shapes: Vec<Option<Shape>> = inputs.into_iter().map(|(shape, _)| Some(shape)).collect();
        let options = Options::default();
        let mut graph = bind(name, function, &shapes, &weights, &context, options).unwrap();
        let mut counts = Counts::default();
        rewrite(name, &mut graph, Rewrites::All, options.precision, &mut counts).unwrap();
        RULES.iter().for_each(|rule| *used.entry(rule.name).or_default() += counts.of(rule.name));
    }
}

/// `tests/plans/rewrites.txt` says how often in which fixture.
#[test]
fn every_rule_is_used() {
    let mut used = BTreeMap::new();
    for program in fixtures::operations() {
        count(Package::from_program(program).unwrap(), &mut used);
    }
    for model in ["two-chunks-fp16", "apple-llama", "gemma3"] {
        fixtures::language_model(model).into_iter().for_each(|package| count(package, &mut used));
    }
    let idle: BTreeSet<&str> =
        RULES.iter().map(|rule| rule.name).filter(|name| used[name] == 0).collect();
    assert!(idle.is_empty(), "rules that no fixture has an example of: {idle:?}");
    assert_eq!(used.len(), RULES.len(), "two rules have the same name");
}

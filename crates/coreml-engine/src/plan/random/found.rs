//! Programs that were found to give other results by one plan than by another.

use coreml_format::mil::{ValueType, from_text};
use coreml_kernels::{Context, Workers};

use super::check::{Case, Outcome};
use super::{Generated, RUNS};
use crate::plan::equivalence::input;
use crate::value::{Buffer, Shape, Storage};

/// Each with what had gone wrong.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "the first result of a branch was stored where the second still was",
        "func main<ios15>(int32 n, tensor<fp32, [4]> x) {
            bool p = less(x = n, y = int32(3));
            bool a, tensor<fp32, [1]> b = cond(pred = p) {
                tensor<fp32, [1]> sum = reduce_sum(axes = tensor<int32, [1]>([0]), keep_dims = bool(true), x = x);
            } -> (p, sum), {
                tensor<fp32, [1]> most = reduce_max(axes = tensor<int32, [1]>([0]), keep_dims = bool(true), x = x);
            } -> (p, most);
        } -> (a, b);",
    ),
    (
        "a compressed constant was no result",
        "func main<ios16>(tensor<fp32, [2]> x) {
            tensor<fp32, [2]> y = constexpr_affine_dequantize()[axis = int32(0),
                quantized_data = tensor<int8, [2]>([3, -5]), scale = fp32(0.5), zero_point = int8(1)];
        } -> (x, y);",
    ),
    (
        "an empty view started behind the end",
        "func main<ios15>(tensor<fp32, [0, 2]> x) {
            tensor<fp32, [0, 2]> y = reverse(axes = tensor<int32, [1]>([1]), x = x);
        } -> (x, y);",
    ),
    (
        "a view of a buffer that also held bools ended within an element",
        "func main<ios15>(int32 n, tensor<fp32, [5]> x) {
            tensor<int32, [1]> place = expand_dims(axes = tensor<int32, [1]>([0]), x = n);
            tensor<int32, [1]> begin = mod(x = place, y = int32(5));
            tensor<bool, [5]> above = greater(x = x, y = fp32(0.0));
            tensor<fp32, [5]> flags = cast(dtype = string(\"fp32\"), x = above);
            tensor<fp32, [1]> flag = slice_by_size(begin = begin, size = tensor<int32, [1]>([1]), x = flags);
            tensor<fp32, [1]> small = exp(x = flag);
            tensor<fp32, [1, 1]> view = expand_dims(axes = tensor<int32, [1]>([1]), x = small);
            tensor<fp32, [1, 2]> wide = tile(reps = tensor<int32, [2]>([1, 2]), x = view);
        } -> (begin, wide);",
    ),
    (
        "an update in place was lost to a write before its own",
        "func main<ios18>(tensor<fp32, [2]> x, state<tensor<fp32, [2]>> s) {
            tensor<fp32, [2]> old = read_state(input = s);
            tensor<fp32, [2]> new = slice_update(begin = tensor<int32, [1]>([0]),
                end = tensor<int32, [1]>([1]), update = tensor<fp32, [1]>([7.0]), x = old);
            write_state(data = x, input = s);
            write_state(data = new, input = s);
            tensor<fp32, [2]> last = read_state(input = s);
        } -> (last);",
    ),
    (
        "an update in place was one of a copy",
        "func main<ios18>(tensor<fp32, [2]> x, state<tensor<fp32, [2]>> s) {
            tensor<fp32, [2]> first = coreml_update_state(state = s, value = x);
            write_state(data = first, input = s);
            tensor<fp32, [2]> last = exp(x = first);
            tensor<fp32, [2]> stored = coreml_update_state(state = s, value = last);
        } -> (stored);",
    ),
    (
        "a product summed up a view in another order than a copy",
        "func main<ios15>(tensor<fp32, [4, 64]> x, tensor<fp32, [64, 8]> z) {
            tensor<fp32, [8, 64]> y = transpose(perm = tensor<int32, [2]>([1, 0]), x = z);
            tensor<fp32, [4, 8]> product = matmul(transpose_x = bool(false), transpose_y = bool(true), x = x, y = y);
            tensor<fp32, [1, 64]> row = slice_by_size(begin = tensor<int32, [2]>([1, 0]),
                size = tensor<int32, [2]>([1, 64]), x = x);
            tensor<fp32, [1, 8]> few = matmul(transpose_x = bool(false), transpose_y = bool(true), x = row, y = y);
            tensor<fp16, [8, 64]> half = cast(dtype = string(\"fp16\"), x = y);
            tensor<fp16, [4, 64]> left = cast(dtype = string(\"fp16\"), x = x);
            tensor<fp16, [4, 8]> halves = matmul(transpose_x = bool(false), transpose_y = bool(true), x = left, y = half);
        } -> (product, few, halves);",
    ),
];

/// The inputs of a program of fixed shapes.
fn generated(text: &str) -> Generated {
    let program = from_text(&format!("program(1.3) {{ {text} }}")).unwrap();
    let shape = |ty: &ValueType| match ty {
        ValueType::Tensor(tensor) => {
            Some((Shape::from(tensor.fixed_shape()?), Storage::natural(tensor.element)?))
        }
        _ => None,
    };
    let inputs = program.functions["main"].inputs.iter();
    let shapes: Vec<(Shape, Storage)> = inputs.filter_map(|input| shape(&input.ty)).collect();
    let of_run = |run: usize| -> Vec<(Shape, Buffer)> {
        let input = |(i, (shape, storage)): (usize, &(Shape, Storage))| {
            (shape.clone(), input(run * RUNS + i, shape, *storage))
        };
        shapes.iter().enumerate().map(input).collect()
    };
    Generated { inputs: std::array::from_fn(of_run), program }
}

#[test]
fn what_was_found_once_stays_right() {
    let context = Context::new(Workers::serial());
    let wrong = PROGRAMS.iter().filter_map(|(fault, text)| {
        let generated = generated(text);
        let outcome = Case::new(&generated, &context).and_then(|case| case.check());
        (outcome != Ok(Outcome::Ran)).then(|| format!("{fault}: {outcome:?}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

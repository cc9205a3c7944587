//! The table: its order, how versions are found, and rows spelled out by hand from coremltools'
//! sources (`converters/mil/mil/ops/defs`) and documentation.

use coreml_engine::definitions::{
    Argument, Default, Definition, Kind, Outputs, definitions, lookup, versions,
};
use coreml_format::mil::{ElementType, Opset};

#[test]
fn rows_are_in_order_and_each_stands_once() {
    let keys: Vec<_> = definitions().iter().map(|row| (row.name, row.since)).collect();
    assert!(keys.len() > 200, "only {} rows", keys.len());
    for pair in keys.windows(2) {
        assert!(pair[0] < pair[1], "{:?} stands before {:?}", pair[0], pair[1]);
    }
}

#[test]
fn names_of_arguments_stand_once() {
    for row in definitions() {
        for (index, argument) in row.arguments.iter().enumerate() {
            let first = row.arguments.iter().position(|other| other.name == argument.name);
            assert_eq!(first, Some(index), "`{}` of {} {}", argument.name, row.name, row.since);
        }
    }
}

#[test]
fn only_tensors_have_element_types_and_defaults_are_of_them() {
    for row in definitions() {
        for argument in row.arguments {
            let place = format!("`{}` of {} {}", argument.name, row.name, row.since);
            assert_eq!(argument.kind == Kind::Tensor, !argument.types.is_empty(), "{place}");
            let fits = |element: &ElementType| match argument.default {
                Default::Required | Default::Absent | Default::Computed(_) => true,
                Default::Bool(_) => *element == ElementType::Bool,
                Default::Int(_) => element.is_int(),
                Default::Float(_) => element.is_float(),
                Default::String(_) => *element == ElementType::String,
            };
            let open = argument.kind != Kind::Tensor;
            assert!(open || argument.types.iter().any(fits), "{place}: {:?}", argument.default);
        }
    }
}

#[test]
fn type_parameters_are_shared_and_agree() {
    for row in definitions() {
        for argument in row.arguments.iter().filter(|argument| argument.type_parameter.is_some()) {
            let same = |other: &&Argument| other.type_parameter == argument.type_parameter;
            let others: Vec<_> = row.arguments.iter().filter(same).collect();
            let place = format!("`{}` of {} {}", argument.name, row.name, row.since);
            assert!(others.len() > 1, "{place} shares its parameter with none");
            assert!(others.iter().all(|other| other.types == argument.types), "{place}");
        }
    }
}

#[test]
fn the_newest_version_not_above_the_opset_holds() {
    let since = |name, opset| lookup(name, opset).map(|definition| definition.since);
    assert_eq!(since("gather", Opset::Ios15), Some(Opset::Ios15));
    assert_eq!(since("gather", Opset::Ios16), Some(Opset::Ios16));
    assert_eq!(since("gather", Opset::Ios17), Some(Opset::Ios17));
    assert_eq!(since("gather", Opset::Ios18), Some(Opset::Ios17));
    assert_eq!(since("gather", Opset::Ios26), Some(Opset::Ios17));
    assert_eq!(since("conv", Opset::Ios16), Some(Opset::Ios15));
    assert_eq!(since("read_state", Opset::Ios17), None);
    assert_eq!(since("read_state", Opset::Ios26), Some(Opset::Ios18));
    assert_eq!(since("gathe", Opset::Ios18), None);
    assert_eq!(since("", Opset::Ios18), None);
    assert_eq!(since("zzz", Opset::Ios18), None);
}

#[test]
fn versions_come_oldest_first() {
    let since = |name| versions(name).iter().map(|row| row.since).collect::<Vec<_>>();
    assert_eq!(since("topk"), [Opset::Ios15, Opset::Ios16, Opset::Ios17]);
    assert_eq!(since("gru"), [Opset::Ios15, Opset::Ios17, Opset::Ios18]);
    assert_eq!(since("constexpr_lut_to_dense"), [Opset::Ios16, Opset::Ios18]);
    assert_eq!(since("abs"), [Opset::Ios15]);
    assert_eq!(since("write_state"), [Opset::Ios18]);
    assert_eq!(since("nothing"), []);
}

#[test]
fn an_argument_is_found_by_its_name() {
    let conv = &versions("conv")[0];
    assert_eq!(conv.argument("groups").map(|found| found.default), Some(Default::Int(1)));
    assert_eq!(conv.argument("name"), None);
}

/// What never reaches a file: Python's own forms, and dialects that passes lower.
#[test]
fn forms_that_are_never_written_are_left_out() {
    for row in definitions() {
        let dialect =
            ["torch_", "tf_", "complex", "_"].iter().any(|start| row.name.starts_with(start));
        assert!(!dialect, "{}", row.name);
        assert!(
            row.arguments.iter().all(|argument| !argument.name.starts_with('_')),
            "{}",
            row.name
        );
    }
}

/// A row in short: results, then arguments as `const NAME: TYPES (PARAMETER) = DEFAULT`.
fn spell(definition: &Definition) -> String {
    let arguments: Vec<String> = definition.arguments.iter().map(spell_argument).collect();
    let outputs = match definition.outputs {
        Outputs::Fixed(count) => count.to_string(),
        Outputs::UpTo(count) => format!("1..={count}"),
        Outputs::Several => "several".to_string(),
    };
    format!("{outputs} from {}", arguments.join("; "))
}

fn spell_argument(argument: &Argument) -> String {
    let types: Vec<&str> = argument.types.iter().map(|element| element.name()).collect();
    let constant = if argument.constant { "const " } else { "" };
    let kind = match argument.kind {
        Kind::Tensor => types.join(" "),
        kind => format!("{kind:?}"),
    };
    let parameter = argument.type_parameter.map(|name| format!(" ({name})")).unwrap_or_default();
    let default = match argument.default {
        Default::Required => String::new(),
        Default::Absent => "?".to_string(),
        Default::Computed(words) => format!(" = {words}"),
        Default::Bool(value) => format!(" = {value}"),
        Default::Int(value) => format!(" = {value}"),
        Default::Float(value) => format!(" = {value:?}"),
        Default::String(value) => format!(" = {value}"),
    };
    format!("{constant}{}: {kind}{parameter}{default}", argument.name)
}

/// Compares the version of `name` that `since` brought with its outputs and arguments in short.
fn assert_row(name: &str, since: Opset, outputs: &str, arguments: &[&str]) {
    let found = lookup(name, since).filter(|definition| definition.since == since);
    let expected = format!("{outputs} from {}", arguments.join("; "));
    assert_eq!(found.map(spell), Some(expected), "{name} of {since}");
}

#[test]
fn matmul() {
    let number = "fp16 fp32 int32";
    let transposes = ["const transpose_x: bool = false", "const transpose_y: bool = false"];
    let [first, second] = transposes;
    // iOS 17 let x and y differ, where one of them is constant.
    let (x, y) = (format!("x: {number} (T)"), format!("y: {number} (T)"));
    assert_row("matmul", Opset::Ios15, "1", &[&x, &y, first, second]);
    let (x, y) = (format!("x: {number}"), format!("y: {number}"));
    assert_row("matmul", Opset::Ios17, "1", &[&x, &y, first, second]);
}

#[test]
fn gather() {
    let (axis, batch) = ("const axis: int32 = 0", "const batch_dims: int32 = 0");
    let x = "x: fp16 fp32 int32";
    assert_row("gather", Opset::Ios15, "1", &[x, "indices: int32", axis]);
    assert_row("gather", Opset::Ios16, "1", &[x, "indices: int16 int32 uint16", axis, batch]);
    let x = "x: fp16 fp32 int8 int16 int32 uint8 uint16";
    let indices = "indices: int8 int16 int32 uint8 uint16";
    let validate = "const validate_indices: bool = false";
    assert_row("gather", Opset::Ios17, "1", &[x, indices, axis, batch, validate]);
}

#[test]
fn topk() {
    let (x, k) = ("x: fp16 fp32 int32", "const k: int32 = 1");
    let (axis, ascending) = ("const axis: int32 = -1", "const ascending: bool = false");
    let (sort, indices) = ("const sort: bool = true", "const return_indices: bool = true");
    assert_row("topk", Opset::Ios15, "2", &[x, k, axis, ascending]);
    assert_row("topk", Opset::Ios16, "1..=2", &[x, k, axis, ascending, sort, indices]);
    let (x, k) = ("x: fp16 fp32 int8 int16 int32 uint8 uint16", "const k: int8 int16 int32 = 1");
    let dtype = "const output_indices_dtype: string = int32";
    assert_row("topk", Opset::Ios17, "1..=2", &[x, k, axis, ascending, sort, indices, dtype]);
}

#[test]
fn conv() {
    let settings = [
        "const strides: int32 = 1 for each spatial dimension",
        "const pad_type: string = valid",
        "const pad: int32 = 0 before and after each spatial dimension",
        "const dilations: int32 = 1 for each spatial dimension",
        "const groups: int32 = 1",
    ];
    let before = ["x: fp16 fp32 (T)", "weight: fp16 fp32 (T)", "const bias: fp16 fp32 (T)?"];
    assert_row("conv", Opset::Ios15, "1", &[&before[..], &settings].concat());
    let since = ["x: fp16 fp32", "weight: fp16 fp32 (U)", "bias: fp16 fp32 (U)?"];
    assert_row("conv", Opset::Ios17, "1", &[&since[..], &settings].concat());
}

#[test]
fn constexpr_lut_to_dense() {
    let name = "constexpr_lut_to_dense";
    let lut = "const lut: fp16 fp32 int8 uint8";
    let before = ["const indices: uint8", lut, "const shape: uint32"];
    assert_row(name, Opset::Ios16, "1", &before);
    let indices = "const indices: uint1 uint2 uint3 uint4 uint6 uint8";
    assert_row(name, Opset::Ios18, "1", &[indices, lut, "const vector_axis: int32?"]);
}

#[test]
fn slice_by_index() {
    let masks = ["const begin_mask: bool?", "const end_mask: bool?", "const squeeze_mask: bool?"];
    let before = ["x: bool fp16 fp32 int32", "begin: int32", "end: int32", "const stride: int32?"];
    assert_row("slice_by_index", Opset::Ios15, "1", &[&before[..], &masks].concat());
    let since = [
        "x: bool fp16 fp32 int8 int16 int32 uint8 uint16",
        "begin: int8 int16 int32 (U)",
        "end: int8 int16 int32 (U)",
        "const stride: int8 int16 int32 (U)?",
    ];
    assert_row("slice_by_index", Opset::Ios17, "1", &[&since[..], &masks].concat());
}

#[test]
fn cumsum() {
    let settings = ["const axis: int32 = 0", "const exclusive: bool = false"];
    let [axis, exclusive] = settings;
    let reverse = "const reverse: bool = false";
    assert_row("cumsum", Opset::Ios15, "1", &["x: fp16 fp32 int32", axis, exclusive, reverse]);
}

#[test]
fn operators_that_the_registry_lacks_or_that_take_no_tensor() {
    let data = "data: bool fp16 fp32 int8 int16 int32 uint8 uint16";
    assert_row("write_state", Opset::Ios18, "0", &["input: State", data]);
    assert_row("read_state", Opset::Ios18, "1", &["input: State"]);
    assert_row("const", Opset::Ios15, "1", &["const val: Any"]);
    assert_row("while_loop", Opset::Ios15, "several", &["loop_vars: Tensors"]);
    assert_row("cond", Opset::Ios15, "several", &["pred: bool"]);
    assert_row("classify", Opset::Ios15, "2", &["probabilities: fp32", "const classes: List"]);
    let tuples = ["const begins: Tensors", "const ends: Tensors", "const end_masks: Tensors"];
    let like = ["x: bool fp16 fp32 int32", "ref_tensors: Tensors"];
    assert_row("reshape_like", Opset::Ios16, "1", &[&like[..], &tuples].concat());
}

/// Defaults that coremltools rounds to the type of `x` stand as its sources spell them.
#[test]
fn defaults_of_fractions() {
    let epsilon = |name, opset| lookup(name, opset)?.argument("epsilon").map(|found| found.default);
    assert_eq!(epsilon("rsqrt", Opset::Ios15), Some(Default::Float(1e-12)));
    assert_eq!(epsilon("inverse", Opset::Ios17), Some(Default::Float(1e-4)));
    assert_eq!(epsilon("log", Opset::Ios15), Some(Default::Float(1e-45)));
    assert_eq!(epsilon("l2_norm", Opset::Ios17), Some(Default::Float(1e-6)));
    assert_eq!(epsilon("layer_norm", Opset::Ios16), Some(Default::Float(1e-5)));
}

//! Whatever program is printed, the text is read as the same program.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use coreml_format::Package;
use coreml_format::mil::{
    Argument, Binding, BlobFileValue, Block, Dimension, ElementType, Function, NamedValueType,
    Operation, Opset, Program, TensorData, TensorType, TensorValue, Value, ValueType, from_text,
    to_text,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Prints and reads every ML Program in the directory; returns their number.
fn print_all(directory: &Path) -> usize {
    let packages =
        support::models(directory).into_iter().filter_map(|path| Package::open(path).ok());
    packages
        .filter_map(|package| {
            let program = package.program().ok()?;
            let text = to_text(program);
            let place = package.path().display();
            let read = from_text(&text).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(read == **program, "{place} is read as another program");
            Some(())
        })
        .count()
}

#[test]
fn fixtures_are_read_back() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    assert!(print_all(&fixtures) > 20);
    assert!(print_all(&support::fixture("")) > 3);
}

#[test]
fn texts_are_read_back() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ops");
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        let program = from_text(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(from_text(&to_text(&program)).unwrap() == program, "{}", path.display());
    }
}

#[test]
fn real_models_are_read_back() {
    if let Some(models) = support::real_models() {
        assert!(print_all(&models) > 10);
    }
}

#[test]
fn text_has_the_form_of_compiled_models() {
    let text = r#"program(1.3)
[buildInfo = dict<string, string>({{"k", "\"\\\n"}})]
{
    func main<ios16>(tensor<fp16, [1, ?]> x, state<tensor<fp16, [2]>> s) [n = int64(-5)] {
        fp16 c = const()[name = string("c"), val = fp16(0.1)];
        tensor<fp16, [2]> w = constexpr_lut_to_dense()[indices = tensor<uint8, [1]>([9]), lut = tensor<fp16, [4]>([1.0, -inf, 6e-8, nan]), shape = tensor<uint32, [1]>([4])];
        fp16 a, tensor<fp16, [0, 3]> b = f(u = (x, fp32(1e30)), v = c, w = ())[p = tensor<fp16, [0, 3]>([])];
        write_state(data = a, input = s);
        fp16 r = cond(pred = bool(true)) {
            bf16 t = f(v = tensor<uint3, [3]>([1, 7, 2]));
        } -> (t), (fp16 i, int4 j) {
        } -> (i);
    } -> (r, x);
}
"#;
    assert_eq!(to_text(&from_text(text).unwrap()), text);
}

/// Every bit pattern of the narrow types, bar NaNs.
#[test]
fn every_narrow_number_is_read_back() {
    use ElementType::*;
    for element in [
        Float16,
        BFloat16,
        Float8E4M3FN,
        Float8E5M2,
        Int8,
        UInt8,
        Int16,
        UInt16,
        Int4,
        UInt1,
        UInt2,
        UInt3,
        UInt4,
        UInt6,
    ] {
        let is_nan = |code: u16| match element {
            Float16 => code & 0x7FFF > 0x7C00,
            BFloat16 => code & 0x7FFF > 0x7F80,
            Float8E5M2 => code & 0x7F > 0x7C,
            Float8E4M3FN => code & 0x7F == 0x7F,
            _ => false,
        };
        let bytes: Vec<u8> = match element.bits() {
            16 => (0..=u16::MAX).filter(|&code| !is_nan(code)).flat_map(u16::to_le_bytes).collect(),
            8 => (0..=u8::MAX).filter(|&code| !is_nan(code.into())).collect(),
            // Sets of three bytes are whole elements of any width, and have every pattern.
            _ => (0..=u8::MAX).flat_map(|byte| [byte; 3]).collect(),
        };
        let count = bytes.len() * 8 / element.bits();
        let ty = TensorType::fixed(element, &[count]);
        let program =
            with_value(Value::Tensor(TensorValue { ty, data: TensorData::Bytes(bytes.into()) }));
        assert_eq!(from_text(&to_text(&program)).unwrap(), program, "{element}");
    }
}

/// A tensor whose data are fewer than its shape says can only be made by hand: it prints as something.
#[test]
fn incomplete_tensors_are_printed() {
    for ty in [
        TensorType::fixed(ElementType::Int32, &[1 << 40, 1 << 40]),
        TensorType::fixed(ElementType::Int32, &[2]),
        TensorType::fixed(ElementType::String, &[]),
        TensorType { element: ElementType::Int32, shape: vec![Dimension::Unknown] },
    ] {
        let data = TensorData::Bytes([0; 4].into());
        assert!(!to_text(&with_value(Value::Tensor(TensorValue { ty, data }))).is_empty());
    }
}

fn with_value(value: Value) -> Program {
    let attributes = BTreeMap::from([("value".into(), value)]);
    Program { functions: BTreeMap::new(), attributes }
}

fn names() -> impl Strategy<Value = String> {
    "[a-zA-Z_@$é][a-zA-Z0-9_@$.:]{0,8}"
}

fn element_types() -> impl Strategy<Value = ElementType> {
    (1..50i32).prop_filter_map("a code without a type", ElementType::from_code)
}

/// Tensors of up to three dimensions, also without elements.
fn tensors() -> impl Strategy<Value = Value> {
    let sizes = vec(0..4usize, 0..3);
    (element_types(), sizes, vec(any::<u8>(), 128), vec(".{0,6}", 9)).prop_map(
        |(element, sizes, mut bytes, mut strings)| {
            let ty = TensorType::fixed(element, &sizes);
            let count = ty.element_count().unwrap();
            if element == ElementType::String {
                strings.truncate(count);
                return Value::Tensor(TensorValue { ty, data: TensorData::Strings(strings) });
            }
            bytes.truncate(element.storage_bytes(count).unwrap());
            make_canonical(&mut bytes, element, count);
            Value::Tensor(TensorValue { ty, data: TensorData::Bytes(bytes.into()) })
        },
    )
}

/// Unused bits zero, booleans zero or one, no NaNs.
fn make_canonical(bytes: &mut [u8], element: ElementType, count: usize) {
    let unused = bytes.len() * 8 - count * element.bits();
    if let Some(last) = bytes.last_mut().filter(|_| unused > 0) {
        *last &= 0xFF >> unused;
    }
    let width = element.bits().div_ceil(8);
    for part in bytes.chunks_mut(width.max(1)) {
        if element == ElementType::Bool {
            part[0] &= 1;
        } else if element.is_float() {
            // One bit of the exponent less leaves neither NaN nor infinity.
            part[width - 1] &= 0xBF;
        }
    }
}

fn blobs() -> impl Strategy<Value = Value> {
    (names(), any::<u64>(), element_types()).prop_map(|(file, offset, element)| {
        Value::BlobFile(BlobFileValue { ty: TensorType::fixed(element, &[2, 3]), file, offset })
    })
}

fn values() -> impl Strategy<Value = Value> {
    let int = |value: i32| {
        Value::Tensor(TensorValue {
            ty: TensorType::fixed(ElementType::Int32, &[]),
            data: TensorData::Bytes(value.to_le_bytes().into()),
        })
    };
    let ints = move |values: &[i32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Value::Tensor(TensorValue {
            ty: TensorType::fixed(ElementType::Int32, &[values.len()]),
            data: TensorData::Bytes(bytes.into()),
        })
    };
    let entries = vec((".{0,6}", vec(any::<i32>(), 1..4)), 0..4).prop_map(move |entries| {
        let entries = entries.iter().map(|(key, value)| (Value::string(key), ints(value)));
        Value::Dictionary(entries.collect())
    });
    let lists = vec(any::<i32>(), 0..4).prop_map(move |values| {
        let ty = ValueType::Tensor(TensorType::fixed(ElementType::Int32, &[]));
        let length = Dimension::Fixed(values.len());
        Value::List(
            ValueType::List(Box::new(ty), length),
            values.iter().map(|&value| int(value)).collect(),
        )
    });
    let leaf = prop_oneof![4 => tensors(), 1 => blobs(), 1 => lists, 1 => entries];
    leaf.prop_recursive(3, 12, 4, |inner| vec(inner, 0..4).prop_map(Value::Tuple))
}

fn types() -> impl Strategy<Value = ValueType> {
    let dimension = prop_oneof![
        any::<usize>().prop_map(Dimension::Fixed),
        Just(Dimension::Unknown),
        Just(Dimension::Variadic)
    ];
    let tensor = (element_types(), vec(dimension.clone(), 0..3))
        .prop_map(|(element, shape)| ValueType::Tensor(TensorType { element, shape }));
    tensor.prop_recursive(3, 8, 3, move |inner| {
        prop_oneof![
            (inner.clone(), dimension.clone())
                .prop_map(|(ty, length)| ValueType::List(Box::new(ty), length)),
            vec(inner.clone(), 0..3).prop_map(ValueType::Tuple),
            (inner.clone(), inner.clone())
                .prop_map(|(key, value)| ValueType::Dictionary(Box::new(key), Box::new(value))),
            inner.prop_map(|ty| ValueType::State(Box::new(ty))),
        ]
    })
}

fn named_types() -> impl Strategy<Value = Vec<NamedValueType>> {
    vec((names(), types()).prop_map(|(name, ty)| NamedValueType { name, ty }), 0..3)
}

fn attributes() -> impl Strategy<Value = BTreeMap<String, Value>> {
    btree_map(names(), values(), 0..3)
}

fn blocks() -> impl Strategy<Value = Block> {
    let empty = Just(Block::default());
    empty.prop_recursive(3, 12, 2, |inner| {
        let binding =
            prop_oneof![names().prop_map(Binding::Name), values().prop_map(Binding::Value)];
        let arguments = btree_map(names(), vec(binding, 0..3).prop_map(Argument), 0..3);
        let constant = values().prop_map(|value| {
            BTreeMap::from([("val".to_owned(), Argument(vec![Binding::Value(value)]))])
        });
        let call = prop_oneof![
            3 => (names(), arguments, attributes()),
            1 => (Just("const".to_owned()), constant, Just(BTreeMap::new())),
        ];
        let operation = (call, named_types(), vec(inner, 0..2)).prop_map(
            |((operator, inputs, attributes), outputs, blocks)| Operation {
                operator,
                inputs,
                outputs,
                blocks,
                attributes,
            },
        );
        (named_types(), vec(names(), 0..3), vec(operation, 0..3))
            .prop_map(|(inputs, outputs, operations)| Block { inputs, outputs, operations })
    })
}

fn programs() -> impl Strategy<Value = Program> {
    let opset = (0..Opset::ALL.len()).prop_map(|index| Opset::ALL[index]);
    // A function's parameters are its own, not its block's.
    let block = blocks().prop_map(|block| Block { inputs: Vec::new(), ..block });
    let function = (named_types(), opset, block, attributes()).prop_map(
        |(inputs, opset, block, attributes)| Function { inputs, opset, block, attributes },
    );
    (btree_map(names(), function, 0..3), attributes())
        .prop_map(|(functions, attributes)| Program { functions, attributes })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_program_is_read_back(program in programs()) {
        let text = to_text(&program);
        let read = from_text(&text);
        prop_assert!(read.is_ok(), "{}\n{text}", read.unwrap_err());
        prop_assert_eq!(read.unwrap(), program, "{}", text);
    }
}

//! Cases of operations: functions of MIL text whose attributes hold what to feed and what to expect
//! (see `tools/fixtures`).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use candle_coreml::Precision;
use coreml_format::mil::{
    ElementType, Function, Program, TensorData, TensorValue, Value, from_text,
};
use half::f16;

/// A case: a program with one function, and predictions in a row on one state.
pub struct Case {
    /// Name of the case and of the function.
    pub name: String,
    /// The function.
    pub function: Function,
    /// The operator under test.
    pub operator: String,
    /// How precise results of half precision are.
    pub precision: Precision,
    /// Absolute and relative tolerance.
    pub tolerance: [f64; 2],
    /// The file among `fixtures/packages` that has the same program, and the function in it.
    pub package: Option<(String, String)>,
    /// Inputs and expected outputs by name.
    pub steps: Vec<(Tensors, Tensors)>,
}

/// Tensors by name.
pub type Tensors = Vec<(String, Tensor)>;

impl Case {
    /// The case alone, as a program.
    pub fn program(&self) -> Program {
        let functions = BTreeMap::from([(self.name.clone(), self.function.clone())]);
        Program { functions, attributes: BTreeMap::new() }
    }
}

/// Every case, in order of the families' file names and of the cases' own.
pub fn all() -> Vec<Case> {
    let files = super::files(&super::fixtures().join("ops"), "mil");
    let cases = files.iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).expect("MIL text");
        let program = from_text(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        program.functions.into_iter().map(|(name, function)| case(name, function))
    });
    cases.collect()
}

/// The case of this name.
pub fn named(name: &str) -> Case {
    all().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

fn case(name: String, mut function: Function) -> Case {
    let attributes = std::mem::take(&mut function.attributes);
    let text = |key: &str| attributes.get(key).and_then(Value::as_str).map(str::to_owned);
    let tolerance = attributes.get("tolerance").map(|value| super::floats(&tensor(value)));
    let steps = (0..).map(|step| {
        let of = |direction: &str| with_prefix(&attributes, &format!("{direction}{step}_"));
        (of("in"), of("out"))
    });
    Case {
        operator: text("operator").expect("an operator"),
        precision: match text("precision").as_deref() {
            None => Precision::Single,
            Some("as_declared") => Precision::AsDeclared,
            Some(other) => panic!("no precision: {other}"),
        },
        tolerance: tolerance.and_then(|both| both.try_into().ok()).expect("two tolerances"),
        package: text("package").zip(text("function")),
        steps: steps.take_while(|(_, expected)| !expected.is_empty()).collect(),
        name,
        function,
    }
}

fn with_prefix(attributes: &BTreeMap<String, Value>, prefix: &str) -> Tensors {
    let named =
        attributes.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
    named.map(|(name, value)| (name.to_owned(), tensor(value))).collect()
}

/// A tensor of MIL text in the dtype of Candle that holds all its values.
fn tensor(value: &Value) -> Tensor {
    let Value::Tensor(TensorValue { ty, data: TensorData::Bytes(bytes) }) = value else {
        panic!("no numbers: {value:?}")
    };
    let shape = ty.fixed_shape().expect("sizes");
    let size = ty.element.bits() / 8;
    let values = bytes.chunks_exact(size).map(|bytes| number(ty.element, bytes)).collect();
    let dtype = match ty.element {
        ElementType::Float32 => DType::F32,
        ElementType::Float16 => DType::F16,
        ElementType::Bool => DType::U8,
        _ => DType::I64,
    };
    let wide = Tensor::from_vec::<_, f64>(values, shape, &Device::Cpu);
    wide.and_then(|wide| wide.to_dtype(dtype)).expect("a tensor")
}

fn number(element: ElementType, bytes: &[u8]) -> f64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    match element {
        ElementType::Float16 => f16::from_bits(bits as u16).to_f64(),
        ElementType::Float32 => f64::from(f32::from_bits(bits as u32)),
        ElementType::Int8 => f64::from(bits as i8),
        ElementType::Int16 => f64::from(bits as i16),
        ElementType::Int32 => f64::from(bits as i32),
        ElementType::Bool | ElementType::UInt8 | ElementType::UInt16 => bits as f64,
        other => panic!("no case has values of type {other}"),
    }
}

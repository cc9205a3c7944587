//! A language model without weights, behind the interfaces of ANEMLL's packages. It checks every
//! input it gets, keeps a cache as a real chunk does, and its next token depends on every token
//! before: a wrong mask, position, window or cache gives another text or an error. [`reference`]
//! says what is right, from the ids alone.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use coreml_engine::CallOptions;
use coreml_format::description::{
    ArrayElementType, FeatureDescription, FeatureType, FunctionDescription, ModelDescription,
    MultiArrayType, ShapeFlexibility,
};
use coreml_format::mil::ElementType;

use crate::backend::{BackendCall, Executable, ReadOutput, WriteElements};
use crate::error::{Error, Result, ValueError};
use crate::state::{BackendState, CoreMLState};
use crate::values::{Array, FeatureValue, OutputValue};

/// Length of the fake's hidden states; only the first number of each means something.
pub(super) const HIDDEN: usize = 2;
/// Values are residues of this prime, which float16 holds exactly.
const MODULUS: u64 = 251;
/// Name of the key-value state.
const CACHE: &str = "model_model_kv_cache_0";

/// The value that chunk `chunk` gives at a position, from the values it got there and before.
fn mix(chunk: usize, seen: impl Iterator<Item = (usize, u64)>) -> u64 {
    let sum = seen.fold(17 * (chunk as u64 + 1), |sum, (position, value)| {
        (sum * 31 + (value + 1) * (position as u64 + 3)) % MODULUS
    });
    sum % MODULUS
}

/// The token that follows `ids` in a model of so many chunks.
pub(super) fn reference(ids: &[u32], chunks: usize, vocabulary: usize) -> u32 {
    let mut values: Vec<u64> = ids.iter().map(|&id| u64::from(id)).collect();
    for chunk in 0..chunks {
        values = (0..values.len())
            .map(|last| mix(chunk, values.iter().copied().enumerate().take(last + 1)))
            .collect();
    }
    (values.last().unwrap() % vocabulary as u64) as u32
}

/// What a fake model is like.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) context: usize,
    pub(super) window: usize,
    pub(super) chunks: usize,
    pub(super) parts: usize,
    pub(super) vocabulary: usize,
    /// Rows of the cache beyond the context.
    pub(super) spare_rows: usize,
    /// Each chunk has only its own layer, so that it needs a state of its own.
    pub(super) state_per_chunk: bool,
    pub(super) update_mask: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Layout {
            context: 64,
            window: 8,
            chunks: 2,
            parts: 16,
            vocabulary: 128,
            spare_rows: 0,
            state_per_chunk: false,
            update_mask: false,
        }
    }
}

impl Layout {
    fn rows(&self) -> usize {
        self.context + self.spare_rows
    }

    /// Layers in a chunk's state.
    fn layers(&self) -> usize {
        if self.state_per_chunk { 1 } else { self.chunks }
    }
}

/// The calls of the chunks: function, first position, tokens that the function takes.
pub(super) type Calls = Arc<Mutex<Vec<(String, usize, usize)>>>;

/// Which component a fake is.
#[derive(Clone, Copy)]
pub(super) enum Component {
    Embeddings,
    Chunk(usize),
    LmHead,
}

#[derive(Clone)]
pub(super) struct Fake {
    layout: Layout,
    component: Component,
    description: ModelDescription,
    calls: Calls,
    /// Fail at the chunk call with this number.
    pub(super) fail_at: Option<usize>,
}

impl Fake {
    pub(super) fn new(layout: Layout, component: Component, calls: Calls) -> Self {
        let description = match component {
            Component::Embeddings => embeddings_description(&layout),
            Component::Chunk(_) => chunk_description(&layout),
            Component::LmHead => head_description(&layout),
        };
        Fake { layout, component, description, calls, fail_at: None }
    }

    /// The name of its package.
    pub(super) fn stem(&self) -> String {
        match self.component {
            Component::Embeddings => "q_embeddings".to_owned(),
            Component::Chunk(chunk) => {
                format!("q_FFN_PF_chunk_{:02}of{:02}", chunk + 1, self.layout.chunks)
            }
            Component::LmHead => "q_lm_head".to_owned(),
        }
    }

    fn embed(&self, inputs: &Inputs) -> HashMap<String, Tensor> {
        let ids = inputs.integers("input_ids");
        let values: Vec<u64> = ids.iter().map(|&id| u64::try_from(id).unwrap()).collect();
        HashMap::from([("hidden_states".to_owned(), hidden_states(&values))])
    }

    fn run_chunk(
        &self,
        chunk: usize,
        function: &str,
        inputs: &Inputs,
        state: &mut FakeState,
    ) -> Result<HashMap<String, Tensor>> {
        let rows = if function == "prefill" { self.layout.window } else { 1 };
        let start = usize::try_from(inputs.integers("current_pos")[0]).unwrap();
        let positions: Vec<i32> =
            (start..start + rows).map(|p| i32::try_from(p).unwrap()).collect();
        assert_eq!(inputs.integers("position_ids"), positions);
        assert!(start + rows <= self.layout.context, "{rows} rows at {start}");
        let call = {
            let mut calls = self.calls.lock().unwrap();
            calls.push((function.to_owned(), start, rows));
            calls.len()
        };
        if self.fail_at == Some(call) {
            return Err(Error::other("planted"));
        }
        if self.layout.update_mask {
            let marks = inputs.floats("update_mask");
            assert_eq!(marks[start * rows], 1.0);
            assert!(marks.iter().sum::<f32>() <= rows as f32);
        }
        let hidden = inputs.floats("hidden_states");
        let layer = if self.layout.state_per_chunk { 0 } else { chunk };
        let cache = &mut state.values[layer * self.layout.rows()..][..self.layout.rows()];
        for (row, value) in hidden.chunks(HIDDEN).enumerate() {
            cache[start + row] = value[0] as u64;
        }
        let mask = inputs.floats("causal_mask");
        let values: Vec<u64> = mask
            .chunks(self.layout.context)
            .map(|columns| {
                assert!(columns.iter().all(|&m| m == 0.0 || m == f32::NEG_INFINITY));
                let visible = cache.iter().copied().enumerate().zip(columns);
                mix(chunk, visible.filter(|(_, m)| **m == 0.0).map(|(seen, _)| seen))
            })
            .collect();
        Ok(HashMap::from([("output_hidden_states".to_owned(), hidden_states(&values))]))
    }

    /// Logits with their maximum at the token that the hidden state names, and lower ones around.
    fn head(&self, inputs: &Inputs) -> HashMap<String, Tensor> {
        let token = inputs.floats("hidden_states")[0] as usize % self.layout.vocabulary;
        let logits: Vec<f32> = (0..self.layout.vocabulary)
            .map(|id| -(id.abs_diff(token) as f32).min(30.0) / 2.0)
            .collect();
        let size = self.layout.vocabulary / self.layout.parts;
        let parts = logits.chunks(size).enumerate();
        parts
            .map(|(index, part)| {
                let part = Tensor::from_slice(part, (1, 1, size), &Device::Cpu).unwrap();
                (part_name(&self.layout, index), part.to_dtype(DType::F16).unwrap())
            })
            .collect()
    }
}

impl Executable for Fake {
    fn description(&self) -> &ModelDescription {
        &self.description
    }

    fn make_state(&self, _function: &str) -> Result<CoreMLState> {
        let values = vec![0; self.layout.layers() * self.layout.rows()];
        Ok(CoreMLState::new(Box::new(FakeState { values })))
    }

    fn bind(&self, function: &str) -> Result<Box<dyn BackendCall>> {
        let description = self.description.function(function).unwrap();
        let names = |features: &[FeatureDescription]| -> Vec<String> {
            features.iter().map(|feature| feature.name.clone()).collect()
        };
        Ok(Box::new(FakeCall {
            fake: self.clone(),
            function: function.to_owned(),
            given: description.inputs.iter().map(|_| None).collect(),
            inputs: names(&description.inputs),
            outputs: names(&description.outputs),
        }))
    }
}

/// A call of a fake's function.
struct FakeCall {
    fake: Fake,
    function: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    given: Vec<Option<Tensor>>,
}

impl BackendCall for FakeCall {
    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn set(&mut self, _index: usize, value: &FeatureValue) -> Result<(), ValueError> {
        panic!("the pipeline writes values, it does not set {value:?}")
    }

    fn write_floats(
        &mut self,
        index: usize,
        shape: &[usize],
        write: WriteElements<f32>,
    ) -> Result<(), ValueError> {
        let before = self.given[index].take().filter(|before| before.dims() == shape);
        let mut values = match before {
            Some(before) => before.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?,
            None => vec![f32::NAN; shape.iter().product()],
        };
        write(&mut values)?;
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::F16)?;
        self.given[index] = Some(tensor);
        Ok(())
    }

    fn write_ints(
        &mut self,
        index: usize,
        shape: &[usize],
        write: WriteElements<i32>,
    ) -> Result<(), ValueError> {
        let mut values = vec![i32::MIN; shape.iter().product()];
        write(&mut values)?;
        self.given[index] = Some(Tensor::from_vec(values, shape, &Device::Cpu)?);
        Ok(())
    }

    fn clear(&mut self) {
        self.given.fill(None);
    }

    fn run(
        &mut self,
        state: Option<&mut CoreMLState>,
        _options: CallOptions,
        read: ReadOutput,
    ) -> Result<()> {
        let given = self.inputs.iter().zip(&self.given);
        let inputs: Vec<(&str, &Tensor)> =
            given.map(|(name, tensor)| (name.as_str(), tensor.as_ref().unwrap())).collect();
        let outputs = self.fake.predict(&self.function, &inputs, state)?;
        for (index, name) in self.outputs.iter().enumerate() {
            let tensor = &outputs[name];
            let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let array = Array::from_floats(ElementType::Float16, tensor.dims(), &values).unwrap();
            read(index, &OutputValue::Array(array))?;
        }
        Ok(())
    }
}

impl Fake {
    fn predict(
        &self,
        function: &str,
        inputs: &[(&str, &Tensor)],
        state: Option<&mut CoreMLState>,
    ) -> Result<HashMap<String, Tensor>> {
        let description = self.description.function(function).unwrap();
        let inputs = Inputs(inputs);
        inputs.check(&description);
        match (self.component, state) {
            (Component::Embeddings, None) => Ok(self.embed(&inputs)),
            (Component::LmHead, None) => Ok(self.head(&inputs)),
            (Component::Chunk(chunk), Some(state)) => {
                let state = state.downcast_mut::<FakeState>().unwrap();
                self.run_chunk(chunk, function, &inputs, state)
            }
            _ => panic!("a state where there is none, or none where there is one"),
        }
    }
}

struct Inputs<'a>(&'a [(&'a str, &'a Tensor)]);

impl Inputs<'_> {
    /// Names, shapes and types must be the description's.
    fn check(&self, function: &FunctionDescription) {
        assert_eq!(self.0.len(), function.inputs.len());
        for feature in &function.inputs {
            let tensor = self.tensor(&feature.name);
            let array = feature.ty.as_multi_array().unwrap();
            assert!(array.allows(tensor.dims()), "{}: {:?}", feature.name, tensor.dims());
            let dtype = match array.element {
                ArrayElementType::Int32 => DType::I32,
                _ => DType::F16,
            };
            assert_eq!(tensor.dtype(), dtype, "{}", feature.name);
        }
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.0.iter().find(|input| input.0 == name).unwrap().1
    }

    fn integers(&self, name: &str) -> Vec<i32> {
        self.tensor(name).flatten_all().unwrap().to_vec1().unwrap()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensor(name).flatten_all().unwrap();
        tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
    }
}

struct FakeState {
    values: Vec<u64>,
}

impl BackendState for FakeState {
    fn names(&self) -> Vec<String> {
        vec![CACHE.to_owned()]
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        panic!("the pipeline has no business in state `{name}`")
    }

    fn write(&mut self, name: &str, _value: &Tensor) -> Result<()> {
        panic!("the pipeline has no business in state `{name}`")
    }

    fn reset(&mut self) {
        self.values.fill(0);
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn hidden_states(values: &[u64]) -> Tensor {
    let numbers: Vec<f32> = values.iter().flat_map(|&value| [value as f32, 0.5]).collect();
    let shape = (1, values.len(), HIDDEN);
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap()
}

fn part_name(layout: &Layout, index: usize) -> String {
    if layout.parts == 1 { "logits".to_owned() } else { format!("logits{}", index + 1) }
}

fn feature(name: &str, element: ArrayElementType, shape: &[usize]) -> FeatureDescription {
    FeatureDescription::new(name, FeatureType::MultiArray(MultiArrayType::new(element, shape)))
}

pub(super) fn half(name: &str, shape: &[usize]) -> FeatureDescription {
    feature(name, ArrayElementType::Float16, shape)
}

pub(super) fn integer(name: &str, shape: &[usize]) -> FeatureDescription {
    feature(name, ArrayElementType::Int32, shape)
}

fn embeddings_description(layout: &Layout) -> ModelDescription {
    let mut ids = integer("input_ids", &[1, 1]);
    if let FeatureType::MultiArray(array) = &mut ids.ty {
        array.flexibility = ShapeFlexibility::Enumerated(vec![vec![1, 1], vec![1, layout.window]]);
    }
    ModelDescription {
        inputs: vec![ids],
        outputs: vec![half("hidden_states", &[])],
        default_function: "main".to_owned(),
        ..ModelDescription::default()
    }
}

fn chunk_description(layout: &Layout) -> ModelDescription {
    let mut functions = vec![chunk_function(layout, "infer", 1)];
    if layout.window > 1 {
        functions.push(chunk_function(layout, "prefill", layout.window));
    }
    ModelDescription {
        functions,
        default_function: "infer".to_owned(),
        ..ModelDescription::default()
    }
}

fn chunk_function(layout: &Layout, name: &str, rows: usize) -> FunctionDescription {
    let mut inputs = vec![
        half("hidden_states", &[1, rows, HIDDEN]),
        integer("position_ids", &[rows]),
        half("causal_mask", &[1, 1, rows, layout.context]),
        integer("current_pos", &[1]),
    ];
    if layout.update_mask {
        inputs.push(half("update_mask", &[1, 1, layout.context, rows]));
    }
    let mut state = half(CACHE, &[2 * layout.layers(), 1, layout.rows(), 1]);
    if let FeatureType::MultiArray(array) = state.ty {
        state.ty = FeatureType::State(array);
    }
    let mut function = FunctionDescription::new(name);
    function.inputs = inputs;
    function.outputs = vec![half("output_hidden_states", &[1, rows, HIDDEN])];
    function.states = vec![state];
    function
}

fn head_description(layout: &Layout) -> ModelDescription {
    let shape = [1, 1, layout.vocabulary / layout.parts];
    // Backwards, so that the order of the file is not the order of the parts.
    let outputs = (0..layout.parts).rev().map(|index| half(&part_name(layout, index), &shape));
    ModelDescription {
        inputs: vec![half("hidden_states", &[1, 1, HIDDEN])],
        outputs: outputs.collect(),
        default_function: "main".to_owned(),
        ..ModelDescription::default()
    }
}

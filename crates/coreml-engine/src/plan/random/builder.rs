//! A program in the making. Each operation is tried before it is added: bound and inferred for the
//! shapes of every run, so that what is added is valid, and the types of its results are known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coreml_format::mil::{
    self, Argument, Binding, Dimension, ElementType, NamedValueType, Operation, TensorType,
    ValueType,
};
use coreml_kernels::Context;

use super::RUNS;
use super::alphabet::Operator;
use super::constants::Subject;
use super::recipe::{Choices, mixed};
use crate::graph::{Graph, Origin, Value};
use crate::ids::{Operand, ValueId};
use crate::op::{Binder, Bound, BoundOperation, Inputs, ResultType};
use crate::plan::Precision;
use crate::plan::fold::{Folder, loses_integers};
use crate::value::{Buffer, Bytes, Constant, Shape, Storage, element_count};
use crate::weights::Weights;

/// Results are small.
const MOST_ELEMENTS: usize = 2048;
const MOST_AXES: usize = 5;
/// What results of so few integers will be is kept, where that hangs on shapes and inputs alone: they
/// may say what shape another result has.
const MOST_TOLD: usize = 16;

/// A value that operations may read.
#[derive(Clone)]
pub(super) struct Pooled {
    pub(super) name: String,
    pub(super) ty: TensorType,
    pub(super) operand: Operand,
    /// What it is known by in choices.
    pub(super) mark: u64,
    pub(super) is_read: bool,
    /// Its shape is not what trials take it for: it can be a result only.
    pub(super) loose: bool,
}

/// What an argument is bound to.
#[derive(Clone)]
pub(super) enum Slot {
    /// A value of the pool.
    Pooled(usize),
    Constant(mil::Value),
}

/// Arguments by name.
pub(super) type Arguments = Vec<(&'static str, Vec<Slot>)>;

/// A function in the making.
pub(super) struct Builder<'a> {
    pub(super) operators: Vec<&'a Operator>,
    pub(super) pool: Vec<Pooled>,
    /// Operations of the block that is being made.
    pub(super) operations: Vec<Operation>,
    pub(super) states: Vec<NamedValueType>,
    /// What is known in each run: ids are the same in all.
    pub(super) graphs: [Graph; RUNS],
    /// Constants with the contents of values that the runs tell beforehand.
    known: HashMap<ValueId, Operand>,
    /// Constants for trying operations on values whose contents nobody knows: zeros and ones.
    guesses: HashMap<ValueId, [Operand; 2]>,
    weights: Arc<Weights>,
    context: &'a Context,
    names: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        operators: Vec<&'a Operator>,
        weights: Arc<Weights>,
        context: &'a Context,
    ) -> Self {
        Builder {
            operators,
            pool: Vec::new(),
            operations: Vec::new(),
            states: Vec::new(),
            graphs: Default::default(),
            known: HashMap::new(),
            guesses: HashMap::new(),
            weights,
            context,
            names: 0,
        }
    }

    /// A name that nothing has yet.
    pub(super) fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Adds a value to the pool that has these shapes, and these contents if they are known.
    pub(super) fn add_value(
        &mut self,
        prefix: &str,
        element: ElementType,
        shapes: &[Shape; RUNS],
        contents: Option<[Constant; RUNS]>,
        mark: u64,
    ) -> usize {
        let name = self.name(prefix);
        let ids = self.graphs.iter_mut().zip(shapes).map(|(graph, shape)| {
            graph.values.add(Value {
                name: name.clone(),
                element,
                storage: Storage::natural(element).unwrap(),
                shape: Some(shape.clone()),
                declared: None,
                origin: Origin::Own,
            })
        });
        let id = ids.last().unwrap();
        match contents {
            Some(contents) => {
                let constant = self.add_constants(contents);
                self.known.insert(id, constant);
            }
            None => {
                let all = |byte| shapes.each_ref().map(|shape| filled(element, shape, byte));
                let guesses = [all(0), all(1)].map(|constants| self.add_constants(constants));
                self.guesses.insert(id, guesses);
            }
        }
        self.enter(name, element, shapes, Operand::Value(id), mark)
    }

    fn enter(
        &mut self,
        name: String,
        element: ElementType,
        shapes: &[Shape; RUNS],
        operand: Operand,
        mark: u64,
    ) -> usize {
        let ty = TensorType { element, shape: declared(shapes) };
        self.pool.push(Pooled { name, ty, operand, mark, is_read: false, loose: false });
        self.pool.len() - 1
    }

    fn add_constants(&mut self, constants: [Constant; RUNS]) -> Operand {
        let operands = self
            .graphs
            .iter_mut()
            .zip(constants)
            .map(|(graph, constant)| graph.add_constant(constant));
        operands.last().unwrap()
    }

    /// Adds a constant to the block and the pool.
    pub(super) fn constant(&mut self, value: mil::Value, mark: u64) -> usize {
        let ty = value.tensor_type().unwrap().clone();
        let operand = self.operand(&Slot::Constant(value.clone())).unwrap();
        let shape = Shape::from(ty.fixed_shape().unwrap());
        let (name, shapes) = (self.name("k"), std::array::from_fn(|_| shape.clone()));
        let index = self.enter(name, ty.element, &shapes, operand, mark);
        let inputs = BTreeMap::from([("val".to_owned(), Argument(vec![Binding::Value(value)]))]);
        let output = self.named(index);
        self.push("const", inputs, vec![output], Vec::new());
        index
    }

    /// A value of the pool that fits; often one of the last.
    pub(super) fn pick(
        &self,
        choices: &mut Choices,
        fits: impl Fn(&Pooled) -> bool,
    ) -> Option<usize> {
        let fits = |&index: &usize| !self.pool[index].loose && fits(&self.pool[index]);
        let all: Vec<usize> = (0..self.pool.len()).filter(fits).collect();
        let skipped = if choices.one_in(2) { all.len().saturating_sub(3) } else { 0 };
        choices.marked(&all[skipped..], |index| self.pool[index].mark)
    }

    /// The shapes of a value in each run.
    pub(super) fn shapes(&self, index: usize) -> [Shape; RUNS] {
        use crate::op::Frame;
        let operand = self.pool[index].operand;
        self.graphs.each_ref().map(|graph| Shape::from(graph.shape(operand).unwrap()))
    }

    pub(super) fn subject(&self, index: usize, outputs: usize) -> Subject {
        let shapes = self.shapes(index);
        let axes = 0..shapes[0].len();
        Subject {
            shape: axes.map(|axis| shapes.each_ref().map(|shape| shape[axis])).collect(),
            outputs,
        }
    }

    /// The contents of a value in each run, if they are known.
    pub(super) fn contents(&self, index: usize) -> Option<[&Constant; RUNS]> {
        use crate::op::Frame;
        let operand = match self.pool[index].operand {
            Operand::Value(value) => *self.known.get(&value)?,
            constant => constant,
        };
        let contents = self.graphs.each_ref().map(|graph| graph.constant(operand));
        contents.iter().all(Option::is_some).then(|| contents.map(Option::unwrap))
    }

    /// Adds an operation of an operator by its name; gives its first result.
    pub(super) fn call(
        &mut self,
        operator: &str,
        arguments: Arguments,
        mark: u64,
    ) -> Option<usize> {
        let named = |candidate: &&&Operator| candidate.def.name == operator;
        let operator = self.operators.iter().copied().find(|operator| named(&operator))?;
        self.add(operator, arguments, 1, mark)?.first().copied()
    }

    /// Adds an operation if it is valid; gives its results.
    pub(super) fn add(
        &mut self,
        operator: &Operator,
        arguments: Arguments,
        outputs: usize,
        mark: u64,
    ) -> Option<Vec<usize>> {
        let before = (self.graphs[0].values.len(), self.graphs[0].constants.len());
        let results = self.trials(operator, &arguments, outputs);
        let Some(results) = results else {
            for graph in &mut self.graphs {
                graph.values.truncate(before.0);
                graph.constants.truncate(before.1);
            }
            return None;
        };
        let inputs: BTreeMap<String, Argument> = arguments
            .iter()
            .map(|(name, slots)| ((*name).to_owned(), self.argument(slots)))
            .collect();
        let added: Vec<usize> = (0u64..)
            .zip(results)
            .map(|(number, result)| self.add_result(result, mixed(mark ^ number)))
            .collect();
        let results: Vec<NamedValueType> = added.iter().map(|&index| self.named(index)).collect();
        self.push(operator.def.name, inputs, results, Vec::new());
        Some(added)
    }

    /// Adds an operation to the block that is being made.
    pub(super) fn push(
        &mut self,
        operator: &str,
        inputs: BTreeMap<String, Argument>,
        outputs: Vec<NamedValueType>,
        blocks: Vec<mil::Block>,
    ) {
        let (operator, attributes) = (operator.to_owned(), BTreeMap::new());
        self.operations.push(Operation { operator, inputs, outputs, blocks, attributes });
    }

    pub(super) fn named(&self, index: usize) -> NamedValueType {
        let Pooled { name, ty, .. } = &self.pool[index];
        NamedValueType { name: name.clone(), ty: ValueType::Tensor(ty.clone()) }
    }

    /// An argument of the program; its values count as read.
    pub(super) fn argument(&mut self, slots: &[Slot]) -> Argument {
        let mut binding = |slot: &Slot| match slot {
            Slot::Pooled(index) => {
                self.pool[*index].is_read = true;
                Binding::Name(self.pool[*index].name.clone())
            }
            Slot::Constant(value) => Binding::Value(value.clone()),
        };
        Argument(slots.iter().map(&mut binding).collect())
    }

    /// What an operation gives in all runs; `None` when it is not valid in one.
    fn trials(
        &mut self,
        operator: &Operator,
        arguments: &Arguments,
        outputs: usize,
    ) -> Option<Vec<[TrialResult; RUNS]>> {
        let mut bound: Vec<(&str, Bound)> = Vec::with_capacity(arguments.len());
        for (name, slots) in arguments {
            let operands: Option<Bound> = slots.iter().map(|slot| self.operand(slot)).collect();
            bound.push((name, operands?));
        }
        let mut results: [std::vec::IntoIter<TrialResult>; RUNS] = Default::default();
        for (run, results) in results.iter_mut().enumerate() {
            *results = self.trial(&self.graphs[run], operator, &bound, outputs)?.into_iter();
        }
        let kinds = results.each_ref().map(|results| -> Vec<(ElementType, usize)> {
            results.as_slice().iter().map(|one| (one.element(), one.shape().len())).collect()
        });
        let next = |_| results.each_mut().map(|results| results.next().unwrap());
        kinds.iter().all(|kind| *kind == kinds[0]).then(|| (0..kinds[0].len()).map(next).collect())
    }

    fn operand(&mut self, slot: &Slot) -> Option<Operand> {
        match slot {
            Slot::Pooled(index) => Some(self.pool[*index].operand),
            Slot::Constant(value) => {
                let constant = self.weights.constant(value).ok()?;
                Some(self.add_constants([constant.clone(), constant.clone(), constant]))
            }
        }
    }

    /// What an operation gives in one run.
    fn trial(
        &self,
        graph: &Graph,
        operator: &Operator,
        bound: &[(&str, Bound)],
        outputs: usize,
    ) -> Option<Vec<TrialResult>> {
        let placeholder = TensorType::fixed(ElementType::Float32, &[]);
        let declared = vec![ValueType::Tensor(placeholder); outputs];
        let binder = Binder::new(operator.definition, bound, graph, &declared).ok()?;
        let (op, inputs) = match binder.bind(operator.def).ok()? {
            BoundOperation::Constants(folded) => {
                return Some(folded.into_iter().map(TrialResult::Constant).collect());
            }
            BoundOperation::Op(op, inputs) => (op, inputs),
        };
        let known = |operand: Operand| match operand {
            Operand::Value(value) => self.known.get(&value).copied().unwrap_or(operand),
            Operand::Constant(_) => operand,
        };
        let told: Vec<Operand> = inputs.iter().copied().map(known).collect();
        let types = op.infer(&Inputs::new(&told, graph)).ok()?;
        if !types.iter().all(is_small) {
            return None;
        }
        let (op, weights) = (op.as_ref(), &self.weights);
        let fold = |inputs: &[Operand]| {
            let mut folder = Folder::new(weights, self.context, Precision::Single, true);
            folder.fold(op, inputs, &types, graph)
        };
        // What becomes of values that are cut off is seen later.
        if loses_integers(op, &told, graph) {
            return Some(types.into_iter().map(|ty| TrialResult::Value(ty, None)).collect());
        }
        if let Some(folded) = fold(&told).ok()? {
            let constant = inputs.iter().all(|input| matches!(input, Operand::Constant(_)));
            return Some(
                folded
                    .into_iter()
                    .zip(types)
                    .map(|(value, ty)| match constant {
                        true => TrialResult::Constant(value),
                        false => TrialResult::Value(ty, is_told(&value).then_some(value)),
                    })
                    .collect(),
            );
        }
        let runs = |guess: usize| {
            let guessed = |operand: &Operand| match operand {
                Operand::Value(value) => self.guesses.get(value).map_or(*operand, |it| it[guess]),
                Operand::Constant(_) => *operand,
            };
            fold(&told.iter().map(guessed).collect::<Vec<_>>()).is_ok()
        };
        let values = types.iter().map(|ty| TrialResult::Value(ty.clone(), None)).collect();
        (runs(0) || runs(1)).then_some(values)
    }

    fn add_result(&mut self, results: [TrialResult; RUNS], mark: u64) -> usize {
        let shapes = results.each_ref().map(|result| result.shape().clone());
        let element = results[0].element();
        let mut contents = Vec::new();
        for result in results {
            match result {
                TrialResult::Value(_, found) => contents.extend(found),
                TrialResult::Constant(constant) => {
                    let constants = [constant.clone(), constant.clone(), constant];
                    let (name, operand) = (self.name("v"), self.add_constants(constants));
                    return self.enter(name, element, &shapes, operand, mark);
                }
            }
        }
        self.add_value("v", element, &shapes, contents.try_into().ok(), mark)
    }
}

/// A result of a trial.
enum TrialResult {
    Value(ResultType, Option<Constant>),
    Constant(Constant),
}

impl TrialResult {
    fn shape(&self) -> &Shape {
        match self {
            TrialResult::Value(ty, _) => &ty.shape,
            TrialResult::Constant(constant) => &constant.shape,
        }
    }

    fn element(&self) -> ElementType {
        match self {
            TrialResult::Value(ty, _) => ty.element,
            TrialResult::Constant(constant) => constant.element,
        }
    }
}

/// The dimensions that a program can state of these shapes, which have the same rank.
fn declared(shapes: &[Shape; RUNS]) -> Vec<Dimension> {
    let dimension = |axis: usize| {
        let size = shapes[0][axis];
        match shapes.iter().all(|shape| shape[axis] == size) {
            true => Dimension::Fixed(size),
            false => Dimension::Unknown,
        }
    };
    (0..shapes[0].len()).map(dimension).collect()
}

/// A constant all of whose elements are 0 or 1.
fn filled(element: ElementType, shape: &[usize], number: u8) -> Constant {
    let storage = Storage::natural(element).unwrap();
    let mut buffer = Buffer::zeroed(storage.byte_len(shape).unwrap()).unwrap();
    for bytes in buffer.bytes_mut().chunks_exact_mut(storage.size()) {
        match storage {
            Storage::F32 => bytes.copy_from_slice(&f32::from(number).to_ne_bytes()),
            _ => bytes[0] = number,
        }
    }
    Constant::dense(element, storage, shape.into(), Bytes::from_buffer(buffer))
}

/// Whether a program may be told a result: a few integers or bools, such as shapes and conditions.
fn is_told(result: &Constant) -> bool {
    let small = element_count(&result.shape).is_some_and(|count| count <= MOST_TOLD);
    small && matches!(result.element, ElementType::Int32 | ElementType::Bool)
}

/// Whether a result has a size and a type that random programs are made of.
fn is_small(ty: &ResultType) -> bool {
    ty.shape.len() <= MOST_AXES
        && element_count(&ty.shape).is_some_and(|count| count <= MOST_ELEMENTS)
        && Storage::natural(ty.element).is_some()
}

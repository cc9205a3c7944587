//! Recurrent layers: `gru`, `lstm` and `rnn`.

mod cell;
mod pass;

use coreml_format::mil::Opset;
use coreml_kernels::Context;
use smallvec::SmallVec;

use self::cell::{Activation, Cell, Gru, Lstm};
use self::pass::{Pass, States};
use super::elementwise_unary::Unary;
use super::linear::is_weight_matrix;
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, Output, Outputs, ResultType, ResultTypes, bound, def,
    flops_of, kernel,
};
use crate::value::{Constant, Shape, count, same_count};
use crate::weights::Weights;

/// The inputs that hold the weights of one direction. Matrices and vectors have a part of as many rows as
/// the hidden state for each gate of the [`Cell`].
#[derive(Clone, Debug)]
pub(crate) struct Direction {
    /// What the names of its arguments end with.
    pub(crate) suffix: &'static str,
    /// From the last step to the first.
    pub(crate) backwards: bool,
    /// `[gates · hidden, inputs]`.
    pub(crate) weight_ih: usize,
    /// `[gates · hidden, hidden]`.
    pub(crate) weight_hh: usize,
    /// `[gates · hidden]`, added to the products with `x`.
    pub(crate) input_bias: Option<usize>,
    /// `[gates · hidden]`, added to the products with the hidden state.
    pub(crate) hidden_bias: Option<usize>,
    /// `[3 · hidden]`: input, forget, output.
    pub(crate) peephole: Option<usize>,
}

/// A cell that goes through the steps of a sequence, in one direction or both.
#[derive(Clone, Debug)]
pub(crate) struct Recurrent {
    pub(crate) x: usize,
    /// The initial hidden states.
    pub(crate) initial_h: usize,
    /// Those of an LSTM's cells.
    pub(crate) initial_c: Option<usize>,
    pub(crate) directions: SmallVec<[Direction; 2]>,
    /// Whether the first result has the hidden states of all steps, and not of the last one alone.
    pub(crate) output_sequence: bool,
    pub(crate) cell: Cell,
}

/// Sizes of a run.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
    /// Hidden states of all directions.
    width: usize,
    /// Values of all gates of one direction.
    gates: usize,
}

impl Direction {
    /// Number of inputs and hidden size.
    fn sizes(&self, inputs: &Inputs, gates: usize) -> Result<(usize, usize), OpError> {
        let (input_rows, cols) = self.matrix(inputs, self.weight_ih, "weight_ih")?;
        let (rows, hidden) = self.matrix(inputs, self.weight_hh, "weight_hh")?;
        if hidden.checked_mul(gates) != Some(rows) || input_rows != rows {
            let expected = format!(
                "{gates} · hidden rows in `weight_ih` and `weight_hh`, hidden columns in the latter"
            );
            let got = format!("{input_rows} and {rows} rows, {hidden} columns");
            return Err(OpError::argument(&self.name("weight_hh"), expected, got));
        }
        self.vector(inputs, self.input_bias, "bias", rows)?;
        self.vector(inputs, self.hidden_bias, "bias", rows)?;
        self.vector(inputs, self.peephole, "peephole", rows - hidden)?;
        Ok((cols, hidden))
    }

    /// An argument's name.
    fn name(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    /// Rows and columns of a matrix of weights.
    fn matrix(&self, inputs: &Inputs, input: usize, name: &str) -> Result<(usize, usize), OpError> {
        match *inputs.shape(input)? {
            [rows, cols] => Ok((rows, cols)),
            ref shape => {
                Err(OpError::argument(&self.name(name), "a matrix", format!("shape {shape:?}")))
            }
        }
    }

    /// Fails unless a vector of weights has `size` elements, if it is there.
    fn vector(
        &self,
        inputs: &Inputs,
        input: Option<usize>,
        name: &str,
        size: usize,
    ) -> Result<(), OpError> {
        let Some(input) = input else { return Ok(()) };
        match count(inputs.shape(input)?) {
            got if got == size => Ok(()),
            got => {
                let expected = format!("{size} numbers");
                Err(OpError::argument(&self.name(name), expected, got.to_string()))
            }
        }
    }
}

impl Recurrent {
    /// Names and inputs of the initial states.
    fn initial(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let of_cells = self.initial_c.map(|input| ("initial_c", input));
        std::iter::once(("initial_h", self.initial_h)).chain(of_cells)
    }

    /// The sizes, which fit each other.
    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, OpError> {
        let shape = inputs.shape(self.x)?;
        let &[steps, batch, size] = shape else {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a tensor [steps, batch, inputs]", got));
        };
        let mut hidden = 0;
        for (number, direction) in self.directions.iter().enumerate() {
            let (columns, own) = direction.sizes(inputs, self.cell.gates())?;
            if columns != size {
                let expected = format!("{columns} inputs, the columns of `weight_ih`");
                return Err(OpError::argument("x", expected, size.to_string()));
            }
            if number > 0 && own != hidden {
                let expected = "the shape of the forward direction's weights";
                return Err(OpError::argument("weight_hh_back", expected, "another one"));
            }
            hidden = own;
        }
        let width = hidden.checked_mul(self.directions.len()).ok_or_else(OpError::too_large)?;
        for (name, state) in self.initial() {
            let got = inputs.shape(state)?;
            let fits = got.last() == Some(&width)
                && matches!(rows(got), rows if rows == batch || rows == 1);
            if !fits {
                let expected = format!("shape [{batch}, {width}]");
                return Err(OpError::argument(name, expected, format!("shape {got:?}")));
            }
        }
        let gates = hidden * self.cell.gates();
        Ok(Sizes { steps, batch, inputs: size, hidden, width, gates })
    }

    /// Whether an input is a matrix of weights.
    fn is_matrix(&self, input: usize) -> bool {
        self.directions.iter().any(|d| [d.weight_ih, d.weight_hh].contains(&input))
    }

    /// Shape of the first result: the hidden states of all steps or of the last one.
    fn sequence(&self, sizes: &Sizes) -> [usize; 3] {
        let steps = if self.output_sequence { sizes.steps } else { 1 };
        [steps, sizes.batch, sizes.width]
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        context: &Context,
        sizes: Sizes,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?.f32s()?;
        let (sequence, h, c) = match &mut *outputs.0 {
            [Output::Tensor(sequence), Output::Tensor(h)] => {
                (sequence.f32s()?, h.f32s()?, Default::default())
            }
            [Output::Tensor(sequence), Output::Tensor(h), Output::Tensor(c)] => {
                (sequence.f32s()?, h.f32s()?, c.f32s()?)
            }
            _ => return Err(OpError::invalid("a recurrent layer has two results, `lstm` three")),
        };
        same_count(count(&self.sequence(&sizes)), sequence.len())?;
        let mut states = States { h, c };
        for ((_, input), state) in self.initial().zip([&mut states.h, &mut states.c]) {
            same_count(sizes.batch * sizes.width, state.len())?;
            fill(state, inputs.tensor(input)?.f32s()?)?;
        }
        if sizes.batch > 0 && sizes.hidden > 0 {
            for (i, direction) in self.directions.iter().enumerate() {
                let pass = Pass::new(self, direction, inputs, sizes, i * sizes.hidden)?;
                pass.run(x, sequence, &mut states, context)?;
            }
        }
        if !self.output_sequence {
            sequence.copy_from_slice(states.h);
        }
        Ok(())
    }
}

/// How many vectors of its last axis a shape has.
fn rows(shape: &[usize]) -> usize {
    shape.split_last().map_or(1, |(_, outer)| count(outer))
}

/// Fills a state with its initial values, which may be the same for the whole batch.
fn fill(state: &mut [f32], initial: &[f32]) -> Result<(), OpError> {
    if state.is_empty() {
        return Ok(());
    }
    if initial.is_empty() || !state.len().is_multiple_of(initial.len()) {
        return same_count(state.len(), initial.len());
    }
    state.chunks_exact_mut(initial.len()).for_each(|row| row.copy_from_slice(initial));
    Ok(())
}

impl Op for Recurrent {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let sizes = self.sizes(inputs)?;
        let element = inputs.element(self.x)?;
        let state = ResultType::new(element, Shape::from_slice(&[sizes.batch, sizes.width]));
        let mut types = ResultTypes::new();
        types.push(ResultType::new(element, Shape::from_slice(&self.sequence(&sizes))));
        types.resize(1 + self.initial().count(), state);
        Ok(types)
    }

    fn flops(&self, inputs: &Inputs) -> Result<u64, OpError> {
        let Sizes { steps, batch, inputs: size, hidden, gates, .. } = self.sizes(inputs)?;
        let sums = count(&[steps, batch, gates, self.directions.len()]);
        Ok(flops_of(sums, size.saturating_add(hidden)))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (layer, sizes) = (self.clone(), self.sizes(inputs)?);
        kernel(move |inputs, outputs, context| layer.run(inputs, outputs, context, sizes))
    }

    fn reads_half(&self, input: usize) -> bool {
        self.is_matrix(input)
    }

    fn reads_compressed(&self, input: usize, constant: &Constant) -> bool {
        self.is_matrix(input) && is_weight_matrix(constant)
    }
}

/// What the names of a backward direction's arguments end with, where there is a forward one too.
const BACK: &str = "_back";

/// The directions that `direction` may name: the ends of their arguments' names, and whether they
/// go backwards. Only `lstm` knows the last one.
const DIRECTIONS: [(&str, &[(&str, bool)]); 3] = [
    ("forward", &[("", false)]),
    ("reverse", &[("", true)]),
    ("bidirectional", &[("", false), (BACK, true)]),
];

/// A function by its name, which converters write in any case. Core ML's parameters are its own: with
/// them `scaled_tanh` is `tanh`, as the tests of coremltools have it.
fn activation(binder: &Binder, name: &str) -> Result<Activation, OpError> {
    match binder.string(name)?.to_ascii_lowercase().as_str() {
        "hard_sigmoid" | "sigmoid_hard" => Ok(Some(Unary::SigmoidHard { alpha: 0.2, beta: 0.5 })),
        "linear" => Ok(None),
        "relu" => Ok(Some(Unary::Relu)),
        "sigmoid" => Ok(Some(Unary::Sigmoid)),
        "scaled_tanh" | "tanh" => Ok(Some(Unary::Tanh)),
        other => {
            let expected = "`hard_sigmoid`, `linear`, `relu`, `scaled_tanh`, `sigmoid` or `tanh`";
            Err(OpError::argument(name, expected, format!("`{other}`")))
        }
    }
}

/// Binds the matrices of a direction.
fn direction(
    binder: &mut Binder,
    (suffix, backwards): (&'static str, bool),
) -> Result<Direction, OpError> {
    Ok(Direction {
        suffix,
        backwards,
        weight_ih: binder.input(&format!("weight_ih{suffix}"))?,
        weight_hh: binder.input(&format!("weight_hh{suffix}"))?,
        input_bias: None,
        hidden_bias: None,
        peephole: None,
    })
}

fn gru(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, initial_h) = (binder.input("x")?, binder.input("initial_h")?);
    let way = binder.one_of("direction", &DIRECTIONS[..2])?[0];
    let mut direction = direction(binder, way)?;
    direction.input_bias = binder.optional_input("input_bias")?;
    direction.hidden_bias = binder.optional_input("bias")?;
    bound(Recurrent {
        x,
        initial_h,
        initial_c: None,
        directions: SmallVec::from_iter([direction]),
        output_sequence: binder.bool("output_sequence")?,
        cell: Cell::Gru(Gru {
            recurrent: activation(binder, "recurrent_activation")?,
            output: activation(binder, "activation")?,
            reset_after: binder.optional_int("reset_after")?.is_some_and(|value| value != 0),
        }),
    })
}

fn lstm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, initial_h) = (binder.input("x")?, binder.input("initial_h")?);
    let initial_c = Some(binder.input("initial_c")?);
    let ways = binder.one_of("direction", &DIRECTIONS)?;
    let mut directions = SmallVec::new();
    for &way in ways {
        let mut direction = direction(binder, way)?;
        direction.input_bias = binder.optional_input(&direction.name("bias"))?;
        direction.peephole = binder.optional_input(&direction.name("peephole"))?;
        directions.push(direction);
    }
    if ways.len() == 1 {
        // They may be there, and mean nothing.
        for name in ["weight_ih", "weight_hh", "bias", "peephole"] {
            binder.constant(&format!("{name}{BACK}"))?;
        }
    }
    bound(Recurrent {
        x,
        initial_h,
        initial_c,
        directions,
        output_sequence: binder.bool("output_sequence")?,
        cell: Cell::Lstm(Lstm {
            recurrent: activation(binder, "recurrent_activation")?,
            cell: activation(binder, "cell_activation")?,
            output: activation(binder, "activation")?,
            clip: binder.optional_float("clip")?,
        }),
    })
}

fn rnn(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, initial_h) = (binder.input("x")?, binder.input("initial_h")?);
    let way = binder.one_of("direction", &DIRECTIONS[..2])?[0];
    let mut direction = direction(binder, way)?;
    direction.input_bias = binder.optional_input("bias")?;
    bound(Recurrent {
        x,
        initial_h,
        initial_c: None,
        directions: SmallVec::from_iter([direction]),
        output_sequence: binder.bool("output_sequence")?,
        cell: Cell::Rnn(activation(binder, "activation")?),
    })
}

pub(super) const OPS: &[OpDef] = &[
    def("gru", Opset::Ios15, gru),
    def("gru", Opset::Ios17, gru),
    def("gru", Opset::Ios18, gru),
    def("lstm", Opset::Ios15, lstm),
    def("lstm", Opset::Ios17, lstm),
    def("rnn", Opset::Ios15, rnn),
    def("rnn", Opset::Ios17, rnn),
];

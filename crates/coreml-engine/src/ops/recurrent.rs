//! Recurrent layers.

use coreml_format::mil::Opset;
use coreml_kernels::{ColumnLayout, Context, OutputLayout, project};
use smallvec::SmallVec;

use super::elementwise_unary::Unary;
use super::linear::{is_weight_matrix, weight_matrix};
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, Output, Outputs, ResultType, ResultTypes, bound, def, kernel,
};
use crate::value::{Constant, Shape, count, same_count};
use crate::weights::Weights;

/// Gates of a cell. In all weights they are in the order input, forget, output, cell.
const GATES: usize = 4;

/// The inputs that hold the weights of one direction.
#[derive(Clone, Debug)]
pub(crate) struct Direction {
    /// What the names of its arguments end with.
    pub(crate) suffix: &'static str,
    /// From the last step to the first.
    pub(crate) backwards: bool,
    /// `[4 · hidden, inputs]`.
    pub(crate) weight_ih: usize,
    /// `[4 · hidden, hidden]`.
    pub(crate) weight_hh: usize,
    /// `[4 · hidden]`.
    pub(crate) bias: Option<usize>,
    /// `[3 · hidden]`: input, forget, output.
    pub(crate) peephole: Option<usize>,
}

/// Long short-term memory.
#[derive(Clone, Debug)]
pub(crate) struct Lstm {
    pub(crate) x: usize,
    pub(crate) initial_h: usize,
    pub(crate) initial_c: usize,
    pub(crate) directions: SmallVec<[Direction; 2]>,
    pub(crate) output_sequence: bool,
    pub(crate) activations: Activations,
    /// The largest magnitude of a cell's state.
    pub(crate) clip: Option<f32>,
}

/// The functions of a cell; `None` where values stay as they are.
#[derive(Clone, Debug)]
pub(crate) struct Activations {
    /// Of the input, forget and output gates.
    pub(crate) recurrent: Option<Unary>,
    /// Of the cell gate.
    pub(crate) cell: Option<Unary>,
    /// Of the cell's state on its way out.
    pub(crate) output: Option<Unary>,
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
}

impl Direction {
    /// Number of inputs and hidden size.
    fn sizes(&self, inputs: &Inputs) -> Result<(usize, usize), OpError> {
        let (input_rows, cols) = self.matrix(inputs, self.weight_ih, "weight_ih")?;
        let (rows, hidden) = self.matrix(inputs, self.weight_hh, "weight_hh")?;
        if hidden.checked_mul(GATES) != Some(rows) || input_rows != rows {
            let expected =
                "4 · hidden rows in `weight_ih` and `weight_hh`, hidden columns in the latter";
            let got = format!("{input_rows} and {rows} rows, {hidden} columns");
            return Err(OpError::argument(&self.name("weight_hh"), expected, got));
        }
        self.vector(inputs, self.bias, "bias", rows)?;
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

impl Lstm {
    /// The sizes, which fit each other.
    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, OpError> {
        let shape = inputs.shape(self.x)?;
        let &[steps, batch, size] = shape else {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a tensor [steps, batch, inputs]", got));
        };
        let mut hidden = 0;
        for (number, direction) in self.directions.iter().enumerate() {
            let (columns, own) = direction.sizes(inputs)?;
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
        for (name, state) in [("initial_h", self.initial_h), ("initial_c", self.initial_c)] {
            let got = inputs.shape(state)?;
            if got != [batch, width] {
                let expected = format!("shape [{batch}, {width}]");
                return Err(OpError::argument(name, expected, format!("shape {got:?}")));
            }
        }
        Ok(Sizes { steps, batch, inputs: size, hidden, width })
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
        let (initial_h, initial_c) =
            (inputs.tensor(self.initial_h)?.f32s()?, inputs.tensor(self.initial_c)?.f32s()?);
        let [Output::Tensor(sequence), Output::Tensor(h), Output::Tensor(c)] = &mut *outputs.0
        else {
            return Err(OpError::invalid("`lstm` has three results"));
        };
        let (sequence, h, c) = (sequence.f32s()?, h.f32s()?, c.f32s()?);
        same_count(count(&self.sequence(&sizes)), sequence.len())?;
        same_count(initial_h.len(), h.len())?;
        same_count(initial_c.len(), c.len())?;
        h.copy_from_slice(initial_h);
        c.copy_from_slice(initial_c);
        if sizes.batch > 0 && sizes.hidden > 0 {
            for (i, direction) in self.directions.iter().enumerate() {
                let pass = Pass::new(self, direction, inputs, sizes, i * sizes.hidden)?;
                pass.run(x, (&mut *sequence, &mut *h, &mut *c), context)?;
            }
        }
        if !self.output_sequence {
            sequence.copy_from_slice(h);
        }
        Ok(())
    }
}

/// One direction over all steps.
struct Pass<'a> {
    lstm: &'a Lstm,
    sizes: Sizes,
    backwards: bool,
    /// Where its states lie in a row of all directions.
    offset: usize,
    weight_ih: coreml_kernels::Weights<'a>,
    weight_hh: coreml_kernels::Weights<'a>,
    bias: Option<&'a [f32]>,
    peephole: Option<&'a [f32]>,
}

impl<'a> Pass<'a> {
    fn new(
        lstm: &'a Lstm,
        direction: &Direction,
        inputs: &Inputs<'a>,
        sizes: Sizes,
        offset: usize,
    ) -> Result<Self, OpError> {
        let vector =
            |input: Option<usize>| input.map(|input| inputs.tensor(input)?.f32s()).transpose();
        let rows = sizes.hidden * GATES;
        Ok(Pass {
            lstm,
            sizes,
            backwards: direction.backwards,
            offset,
            weight_ih: weight_matrix(inputs, direction.weight_ih, rows, sizes.inputs)?,
            weight_hh: weight_matrix(inputs, direction.weight_hh, rows, sizes.hidden)?,
            bias: vector(direction.bias)?,
            peephole: vector(direction.peephole)?,
        })
    }

    /// `h` and `c` hold the states, `sequence` what the layer gives out.
    fn run(
        &self,
        x: &[f32],
        (sequence, h, c): (&mut [f32], &mut [f32], &mut [f32]),
        context: &Context,
    ) -> Result<(), OpError> {
        let Sizes { steps, batch, inputs, hidden, width } = self.sizes;
        let gates = hidden * GATES;
        let rows = steps.checked_mul(batch).ok_or_else(OpError::too_large)?;
        let all = rows.checked_mul(gates).ok_or_else(OpError::too_large)?;
        let mut from_x = context.scratch().take::<f32>(all)?;
        let mut from_h = context.scratch().take::<f32>(batch * gates)?;
        let to = OutputLayout { stride_n: 1, stride_s: gates };
        let columns = ColumnLayout { stride_k: 1, stride_s: inputs };
        project(context, &self.weight_ih, x, columns, rows, self.bias, &mut from_x, to)?;
        let columns = ColumnLayout { stride_k: 1, stride_s: width };
        for number in 0..steps {
            let step = if self.backwards { steps - 1 - number } else { number };
            let states = &h[self.offset..];
            project(context, &self.weight_hh, states, columns, batch, None, &mut from_h, to)?;
            let from_x = &from_x[step * batch * gates..(step + 1) * batch * gates];
            let rows = from_h.chunks_exact_mut(gates).zip(from_x.chunks_exact(gates));
            for (i, (gate, add)) in rows.enumerate() {
                gate.iter_mut().zip(add).for_each(|(gate, add)| *gate += add);
                let at = i * width + self.offset..i * width + self.offset + hidden;
                self.cell(gate, &mut c[at.clone()], &mut h[at.clone()], context);
                if self.lstm.output_sequence {
                    let sequence = &mut sequence[step * batch * width..];
                    sequence[at.clone()].copy_from_slice(&h[at]);
                }
            }
        }
        Ok(())
    }

    /// One step of one element of the batch.
    fn cell(&self, gates: &mut [f32], c: &mut [f32], h: &mut [f32], context: &Context) {
        let size = self.sizes.hidden;
        let apply = |function: &Option<Unary>, values: &mut [f32]| {
            if let Some(function) = function {
                function.apply(context, values);
            }
        };
        let activations = &self.lstm.activations;
        let (input_forget, rest) = gates.split_at_mut(2 * size);
        let (output, cell) = rest.split_at_mut(size);
        if let Some(peephole) = self.peephole {
            for (half, weights) in input_forget.chunks_mut(size).zip(peephole.chunks(size)) {
                add_product(half, weights, c);
            }
        }
        apply(&activations.recurrent, input_forget);
        apply(&activations.cell, cell);
        let (input, forget) = input_forget.split_at(size);
        for (((c, input), forget), cell) in c.iter_mut().zip(input).zip(forget).zip(&*cell) {
            let value = forget * *c + input * cell;
            *c = self.lstm.clip.map_or(value, |clip| value.min(clip).max(-clip));
        }
        if let Some(peephole) = self.peephole {
            add_product(output, &peephole[2 * size..], c);
        }
        apply(&activations.recurrent, output);
        h.copy_from_slice(c);
        apply(&activations.output, h);
        h.iter_mut().zip(output).for_each(|(h, output)| *h *= *output);
    }
}

/// `values += weights · states`.
fn add_product(values: &mut [f32], weights: &[f32], states: &[f32]) {
    for ((value, weight), state) in values.iter_mut().zip(weights).zip(states) {
        *value += weight * state;
    }
}

impl Op for Lstm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let sizes = self.sizes(inputs)?;
        let element = inputs.element(self.x)?;
        let state = ResultType::new(element, Shape::from_slice(&[sizes.batch, sizes.width]));
        let sequence = ResultType::new(element, Shape::from_slice(&self.sequence(&sizes)));
        Ok(ResultTypes::from_iter([sequence, state.clone(), state]))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (lstm, sizes) = (self.clone(), self.sizes(inputs)?);
        kernel(move |inputs, outputs, context| lstm.run(inputs, outputs, context, sizes))
    }

    fn reads_half(&self, input: usize) -> bool {
        self.is_matrix(input)
    }

    fn reads_compressed(&self, input: usize, constant: &Constant) -> bool {
        self.is_matrix(input) && is_weight_matrix(constant)
    }
}

/// The directions that `direction` may name: the ends of their arguments' names, and whether they
/// go backwards.
const DIRECTIONS: [(&str, &[(&str, bool)]); 3] = [
    ("forward", &[("", false)]),
    ("reverse", &[("", true)]),
    ("bidirectional", &[("", false), ("_back", true)]),
];

fn direction(
    binder: &mut Binder,
    suffix: &'static str,
    backwards: bool,
) -> Result<Direction, OpError> {
    let name = |name: &str| format!("{name}{suffix}");
    Ok(Direction {
        suffix,
        backwards,
        weight_ih: binder.input(&name("weight_ih"))?,
        weight_hh: binder.input(&name("weight_hh"))?,
        bias: binder.optional_input(&name("bias"))?,
        peephole: binder.optional_input(&name("peephole"))?,
    })
}

/// A function by its name, which converters write in any case; `None` for the identity.
fn activation(binder: &Binder, name: &str) -> Result<Option<Unary>, OpError> {
    match binder.string(name)?.to_ascii_lowercase().as_str() {
        "hard_sigmoid" => Ok(Some(Unary::SigmoidHard { alpha: 0.2, beta: 0.5 })),
        "linear" => Ok(None),
        "relu" => Ok(Some(Unary::Relu)),
        "sigmoid" => Ok(Some(Unary::Sigmoid)),
        "tanh" => Ok(Some(Unary::Tanh)),
        other => Err(OpError::unsupported(format!("`lstm` with {name} `{other}`"))),
    }
}

fn lstm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, initial_h, initial_c) =
        (binder.input("x")?, binder.input("initial_h")?, binder.input("initial_c")?);
    let named = binder.one_of("direction", &DIRECTIONS)?;
    let directions = named.iter().map(|&(suffix, backwards)| direction(binder, suffix, backwards));
    bound(Lstm {
        x,
        initial_h,
        initial_c,
        directions: directions.collect::<Result<_, _>>()?,
        output_sequence: binder.bool("output_sequence")?,
        activations: Activations {
            recurrent: activation(binder, "recurrent_activation")?,
            cell: activation(binder, "cell_activation")?,
            output: activation(binder, "activation")?,
        },
        clip: binder.optional_float("clip")?,
    })
}

pub(super) const OPS: &[OpDef] =
    &[def("lstm", Opset::Ios15, lstm), def("lstm", Opset::Ios17, lstm)];

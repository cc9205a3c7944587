//! Recurrent layers.

use coreml_format::mil::Opset;
use coreml_kernels::{ColumnLayout, Encoding, OutputLayout, Weights, project, vecmath};
use half::f16;

use super::compression::expand;
use super::elementwise_unary::{SliceFunction, each};
use super::strided::same_count;
use super::{
    Binder, Inputs, Op, OpDef, OpError, Output, Outputs, ResultType, ResultTypes, Scratch, def,
};
use crate::value::{Shape, Storage};

/// The weights of one direction; gates are in the order input, forget, output, cell.
struct Direction {
    /// `[4 · hidden, input]`.
    input: Vec<f32>,
    /// `[4 · hidden, hidden]`.
    hidden: Vec<f32>,
    /// `[4 · hidden]`.
    bias: Option<Vec<f32>>,
    /// `[3 · hidden]`: input, forget, output.
    peephole: Option<Vec<f32>>,
    /// From the last step to the first.
    backwards: bool,
}

/// Long short-term memory.
struct Lstm {
    x: usize,
    initial_h: usize,
    initial_c: usize,
    directions: Vec<Direction>,
    inputs: usize,
    hidden: usize,
    output_sequence: bool,
    recurrent_activation: SliceFunction,
    cell_activation: SliceFunction,
    activation: SliceFunction,
    clip: Option<f32>,
}

/// The elements of a constant, widened, with its shape.
fn floats(binder: &Binder, name: &str) -> Result<Option<(Vec<f32>, Shape)>, OpError> {
    let Some(constant) = binder.constant(name)? else { return Ok(None) };
    let constant = expand(constant)?;
    let fail = || OpError::argument(name, "floats", constant.describe());
    let tensor = constant.tensor().ok_or_else(fail)?;
    let values = match tensor.storage {
        Storage::F16 => tensor.slice::<f16>()?.iter().map(|value| value.to_f32()).collect(),
        Storage::F32 => tensor.f32s()?.to_vec(),
        _ => return Err(fail()),
    };
    Ok(Some((values, constant.shape.clone())))
}

/// A matrix of weights with its number of columns.
fn matrix(binder: &Binder, name: &str) -> Result<(Vec<f32>, usize, usize), OpError> {
    let (values, shape) = floats(binder, name)?.ok_or_else(|| OpError::Missing(name.to_owned()))?;
    match *shape {
        [rows, cols] => Ok((values, rows, cols)),
        _ => Err(OpError::argument(name, "a matrix", format!("shape {:?}", shape.as_slice()))),
    }
}

/// A vector of weights that may be absent.
fn vector(binder: &Binder, name: &str, size: usize) -> Result<Option<Vec<f32>>, OpError> {
    match floats(binder, name)? {
        Some((values, _)) if values.len() != size => {
            Err(OpError::argument(name, format!("{size} numbers"), values.len().to_string()))
        }
        other => Ok(other.map(|(values, _)| values)),
    }
}

/// A direction with its number of inputs and its hidden size.
fn direction(
    binder: &Binder,
    suffix: &str,
    backwards: bool,
) -> Result<(Direction, usize, usize), OpError> {
    let name = |name: &str| format!("{name}{suffix}");
    let (input, input_rows, inputs) = matrix(binder, &name("weight_ih"))?;
    let (hidden, rows, size) = matrix(binder, &name("weight_hh"))?;
    if size.checked_mul(4) != Some(rows) || input_rows != rows {
        let expected =
            "4 · hidden rows in `weight_ih` and `weight_hh`, hidden columns in the latter";
        let got = format!("{input_rows} and {rows} rows, {size} columns");
        return Err(OpError::argument(&name("weight_hh"), expected, got));
    }
    let bias = vector(binder, &name("bias"), rows)?;
    let peephole = vector(binder, &name("peephole"), size * 3)?;
    Ok((Direction { input, hidden, bias, peephole, backwards }, inputs, size))
}

fn activation(binder: &Binder, name: &str, default: &str) -> Result<SliceFunction, OpError> {
    match binder.string(name)?.unwrap_or(default).to_ascii_lowercase().as_str() {
        "sigmoid" => Ok(Box::new(vecmath::sigmoid)),
        "tanh" => Ok(Box::new(vecmath::tanh)),
        "relu" => Ok(Box::new(each(|x| if x < 0.0 { 0.0 } else { x }))),
        "linear" => Ok(Box::new(|_: &mut [f32]| {})),
        "hard_sigmoid" => Ok(Box::new(each(|x| (0.2 * x + 0.5).clamp(0.0, 1.0)))),
        other => Err(OpError::unsupported(format!("`lstm` with {name} `{other}`"))),
    }
}

fn lstm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, initial_h, initial_c) =
        (binder.input("x")?, binder.input("initial_h")?, binder.input("initial_c")?);
    let kind = binder.string("direction")?.unwrap_or("forward");
    let (first, inputs, hidden) = direction(binder, "", kind == "reverse")?;
    let mut directions = vec![first];
    match kind {
        "forward" | "reverse" => {}
        "bidirectional" => {
            let (back, back_inputs, back_hidden) = direction(binder, "_back", true)?;
            if (back_inputs, back_hidden) != (inputs, hidden) {
                let expected = "the shape of the forward direction's weights";
                return Err(OpError::argument("weight_ih_back", expected, "another one"));
            }
            directions.push(back);
        }
        other => {
            let expected = "`forward`, `reverse` or `bidirectional`";
            return Err(OpError::argument("direction", expected, format!("`{other}`")));
        }
    }
    Ok(Box::new(Lstm {
        x,
        initial_h,
        initial_c,
        directions,
        inputs,
        hidden,
        output_sequence: binder.bool("output_sequence", false)?,
        recurrent_activation: activation(binder, "recurrent_activation", "sigmoid")?,
        cell_activation: activation(binder, "cell_activation", "tanh")?,
        activation: activation(binder, "activation", "tanh")?,
        clip: binder.float("clip")?,
    }))
}

/// Sizes of a run and where one direction's states lie in a row of all directions.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    width: usize,
    offset: usize,
}

impl Lstm {
    fn width(&self) -> usize {
        self.hidden * self.directions.len()
    }

    /// Steps and batch size.
    fn sizes(&self, inputs: &Inputs) -> Result<(usize, usize), OpError> {
        let shape = inputs.shape(self.x)?;
        let &[steps, batch, size] = shape else {
            let got = format!("shape {shape:?}");
            return Err(OpError::argument("x", "a tensor [steps, batch, inputs]", got));
        };
        if size != self.inputs {
            let expected = format!("{} inputs, the columns of `weight_ih`", self.inputs);
            return Err(OpError::argument("x", expected, size.to_string()));
        }
        for (name, state) in [("initial_h", self.initial_h), ("initial_c", self.initial_c)] {
            let got = inputs.shape(state)?;
            if got != [batch, self.width()] {
                let expected = format!("shape [{batch}, {}]", self.width());
                return Err(OpError::argument(name, expected, format!("shape {got:?}")));
            }
        }
        Ok((steps, batch))
    }

    /// One direction over all steps; `h` and `c` hold its states, `sequence` what it gives out.
    fn walk(
        &self,
        direction: &Direction,
        sizes: Sizes,
        x: &[f32],
        (sequence, h, c): (&mut [f32], &mut [f32], &mut [f32]),
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let Sizes { steps, batch, width, offset } = sizes;
        let gates = self.hidden * 4;
        let all = steps * batch * gates;
        scratch.floats.clear();
        scratch.floats.resize(all + batch * gates, 0.0);
        let (from_x, from_h) = scratch.floats.split_at_mut(all);
        let to = OutputLayout { stride_n: 1, stride_s: gates };
        let input = matrix_of(&direction.input, gates, self.inputs);
        let columns = ColumnLayout { stride_k: 1, stride_s: self.inputs };
        let (bias, rows) = (direction.bias.as_deref(), steps * batch);
        project(&input, x, columns, rows, bias, from_x, to, &mut scratch.kernel[0])?;
        let hidden = matrix_of(&direction.hidden, gates, self.hidden);
        let columns = ColumnLayout { stride_k: 1, stride_s: width };
        for number in 0..steps {
            let step = if direction.backwards { steps - 1 - number } else { number };
            let states = &h[offset..];
            project(&hidden, states, columns, batch, None, from_h, to, &mut scratch.kernel[0])?;
            let from_x = &from_x[step * batch * gates..(step + 1) * batch * gates];
            for (i, gate) in from_h.chunks_exact_mut(gates).enumerate() {
                let add = &from_x[i * gates..(i + 1) * gates];
                gate.iter_mut().zip(add).for_each(|(gate, add)| *gate += add);
                let at = i * width + offset..i * width + offset + self.hidden;
                self.cell(direction, gate, &mut c[at.clone()], &mut h[at]);
            }
            if self.output_sequence {
                for i in 0..batch {
                    let at = i * width + offset..i * width + offset + self.hidden;
                    let start = step * batch * width;
                    sequence[start + at.start..start + at.end].copy_from_slice(&h[at]);
                }
            }
        }
        Ok(())
    }

    /// One step of one element of the batch.
    fn cell(&self, direction: &Direction, gates: &mut [f32], c: &mut [f32], h: &mut [f32]) {
        let size = self.hidden;
        let (input_forget, rest) = gates.split_at_mut(2 * size);
        let (output, cell) = rest.split_at_mut(size);
        if let Some(peephole) = &direction.peephole {
            for (half, weights) in input_forget.chunks_mut(size).zip(peephole.chunks(size)) {
                add_product(half, weights, c);
            }
        }
        (self.recurrent_activation)(input_forget);
        (self.cell_activation)(cell);
        let (input, forget) = input_forget.split_at(size);
        for (((c, input), forget), cell) in c.iter_mut().zip(input).zip(forget).zip(&*cell) {
            let value = forget * *c + input * cell;
            *c = self.clip.map_or(value, |clip| value.min(clip).max(-clip));
        }
        if let Some(peephole) = &direction.peephole {
            add_product(output, &peephole[2 * size..], c);
        }
        (self.recurrent_activation)(output);
        h.copy_from_slice(c);
        (self.activation)(h);
        h.iter_mut().zip(output).for_each(|(h, output)| *h *= *output);
    }
}

/// `values += weights · states`.
fn add_product(values: &mut [f32], weights: &[f32], states: &[f32]) {
    for ((value, weight), state) in values.iter_mut().zip(weights).zip(states) {
        *value += weight * state;
    }
}

fn matrix_of(values: &[f32], rows: usize, cols: usize) -> Weights<'_> {
    Weights { rows, cols, encoding: Encoding::F32(values) }
}

impl Op for Lstm {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (steps, batch) = self.sizes(inputs)?;
        let element = inputs.element(self.x)?;
        let given = if self.output_sequence { steps } else { 1 };
        let state = ResultType::new(element, Shape::from_slice(&[batch, self.width()]));
        let sequence = Shape::from_slice(&[given, batch, self.width()]);
        Ok(ResultTypes::from_iter([ResultType::new(element, sequence), state.clone(), state]))
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let (steps, batch) = self.sizes(inputs)?;
        let x = inputs.tensor(self.x)?.f32s()?;
        let (initial_h, initial_c) =
            (inputs.tensor(self.initial_h)?.f32s()?, inputs.tensor(self.initial_c)?.f32s()?);
        let [Output::Tensor(sequence), Output::Tensor(h), Output::Tensor(c)] = &mut *outputs.0
        else {
            return Err(OpError::invalid("`lstm` has three results"));
        };
        let (sequence, h, c) = (sequence.f32s()?, h.f32s()?, c.f32s()?);
        let width = self.width();
        let given = if self.output_sequence { steps } else { 1 };
        same_count(given * batch * width, sequence.len())?;
        same_count(initial_h.len(), h.len())?;
        same_count(initial_c.len(), c.len())?;
        h.copy_from_slice(initial_h);
        c.copy_from_slice(initial_c);
        for (i, direction) in self.directions.iter().enumerate() {
            let sizes = Sizes { steps, batch, width, offset: i * self.hidden };
            if batch > 0 && self.hidden > 0 {
                self.walk(direction, sizes, x, (sequence, h, c), scratch)?;
            }
        }
        if !self.output_sequence {
            sequence.copy_from_slice(h);
        }
        Ok(())
    }
}

pub(super) const OPS: &[OpDef] = &[def("lstm", Opset::Ios15, lstm)];

//! What a recurrent layer computes at each step.

use coreml_kernels::Context;

use super::pass::{Pass, States};
use crate::error::OpError;
use crate::ops::elementwise_unary::Unary;

/// A function of a cell; `None` where values stay as they are.
pub(crate) type Activation = Option<Unary>;

/// A cell with its functions.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Gru(Gru),
    Lstm(Lstm),
    /// One function of the sum of both products.
    Rnn(Activation),
}

/// A gated recurrent unit. Its gates are reset, output, update, in this order in all weights.
#[derive(Clone, Debug)]
pub(crate) struct Gru {
    /// Of the reset and update gates.
    pub(crate) recurrent: Activation,
    /// Of the output gate.
    pub(crate) output: Activation,
    /// Whether the reset gate scales the product with the hidden state, and not the state before it.
    pub(crate) reset_after: bool,
}

/// Long short-term memory. Its gates are input, forget, output, cell, in this order in all weights.
#[derive(Clone, Debug)]
pub(crate) struct Lstm {
    /// Of the input, forget and output gates.
    pub(crate) recurrent: Activation,
    /// Of the cell gate.
    pub(crate) cell: Activation,
    /// Of the cell's state on its way out.
    pub(crate) output: Activation,
    /// The largest magnitude of a cell's state.
    pub(crate) clip: Option<f32>,
}

impl Cell {
    /// How many parts of the size of the hidden state the weights have.
    pub(super) fn gates(&self) -> usize {
        match self {
            Cell::Gru(_) => 3,
            Cell::Lstm(_) => 4,
            Cell::Rnn(_) => 1,
        }
    }

    /// Changes the states by one step. `from_x` has the products with `x`, a row of all gates for each
    /// element of the batch; `values` is room for as many.
    pub(super) fn step(
        &self,
        pass: &Pass,
        from_x: &[f32],
        values: &mut [f32],
        states: &mut States,
        context: &Context,
    ) -> Result<(), OpError> {
        if let Cell::Gru(gru) = self {
            return gru.step(pass, from_x, values, states, context);
        }
        pass.of_states(0..pass.sizes.gates, states, values, context)?;
        add(values, from_x);
        for (i, gates) in values.chunks_exact_mut(pass.sizes.gates).enumerate() {
            let h = &mut states.h[pass.states(i)];
            match self {
                Cell::Lstm(lstm) => {
                    lstm.step(gates, pass.peephole, &mut states.c[pass.states(i)], h, context);
                }
                Cell::Rnn(output) => {
                    h.copy_from_slice(gates);
                    apply(output, h, context);
                }
                Cell::Gru(_) => {}
            }
        }
        Ok(())
    }
}

impl Gru {
    fn step(
        &self,
        pass: &Pass,
        from_x: &[f32],
        values: &mut [f32],
        states: &mut States,
        context: &Context,
    ) -> Result<(), OpError> {
        let size = pass.sizes.hidden;
        let rows = pass.sizes.gates;
        let (reset, output, update) = (0..size, size..2 * size, 2 * size..rows);
        if self.reset_after {
            pass.of_states(0..rows, states, values, context)?;
        } else {
            pass.of_states(reset, states, values, context)?;
            pass.of_states(update, states, values, context)?;
        }
        let scaled = if self.reset_after { 0 } else { pass.sizes.batch * size };
        let mut scaled = context.scratch().take::<f32>(scaled)?;
        for (i, (gates, from_x)) in
            values.chunks_exact_mut(rows).zip(from_x.chunks_exact(rows)).enumerate()
        {
            let (reset, rest) = gates.split_at_mut(size);
            let (product, update) = rest.split_at_mut(size);
            add(reset, from_x);
            apply(&self.recurrent, reset, context);
            add(update, &from_x[2 * size..]);
            apply(&self.recurrent, update, context);
            if self.reset_after {
                multiply(product, reset);
            } else {
                let scaled = &mut scaled[i * size..][..size];
                scaled.copy_from_slice(&states.h[pass.states(i)]);
                multiply(scaled, reset);
            }
        }
        if !self.reset_after {
            pass.product(output, &scaled, size, values, context)?;
        }
        for (i, (gates, from_x)) in
            values.chunks_exact_mut(rows).zip(from_x.chunks_exact(rows)).enumerate()
        {
            let (output, update) = gates[size..].split_at_mut(size);
            add(output, &from_x[size..]);
            apply(&self.output, output, context);
            let h = &mut states.h[pass.states(i)];
            for ((h, output), update) in h.iter_mut().zip(output).zip(update) {
                *h = (1.0 - *update) * *output + *update * *h;
            }
        }
        Ok(())
    }
}

impl Lstm {
    /// One step of one element of the batch. The output gate's peephole sees the cell's new state.
    fn step(
        &self,
        gates: &mut [f32],
        peephole: Option<&[f32]>,
        c: &mut [f32],
        h: &mut [f32],
        context: &Context,
    ) {
        let size = h.len();
        let (input_forget, rest) = gates.split_at_mut(2 * size);
        let (output, cell) = rest.split_at_mut(size);
        if let Some(peephole) = peephole {
            for (half, weights) in input_forget.chunks_mut(size).zip(peephole.chunks(size)) {
                add_product(half, weights, c);
            }
        }
        apply(&self.recurrent, input_forget, context);
        apply(&self.cell, cell, context);
        let (input, forget) = input_forget.split_at(size);
        for (((c, input), forget), cell) in c.iter_mut().zip(input).zip(forget).zip(&*cell) {
            let value = forget * *c + input * cell;
            *c = self.clip.map_or(value, |clip| value.min(clip).max(-clip));
        }
        if let Some(peephole) = peephole {
            add_product(output, &peephole[2 * size..], c);
        }
        apply(&self.recurrent, output, context);
        h.copy_from_slice(c);
        apply(&self.output, h, context);
        multiply(h, output);
    }
}

fn apply(function: &Activation, values: &mut [f32], context: &Context) {
    if let Some(function) = function {
        function.apply(context, values);
    }
}

fn add(values: &mut [f32], others: &[f32]) {
    values.iter_mut().zip(others).for_each(|(value, other)| *value += other);
}

fn multiply(values: &mut [f32], others: &[f32]) {
    values.iter_mut().zip(others).for_each(|(value, other)| *value *= other);
}

/// `values += weights · states`.
fn add_product(values: &mut [f32], weights: &[f32], states: &[f32]) {
    for ((value, weight), state) in values.iter_mut().zip(weights).zip(states) {
        *value += weight * state;
    }
}

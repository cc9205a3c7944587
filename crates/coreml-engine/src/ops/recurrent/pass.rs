//! One direction of a recurrent layer over all steps. The products of all steps with `x` are one; those
//! with the hidden state are one a step.

use std::ops::Range;

use coreml_kernels::{
    ColumnLayout, Context, Numerics, OutputLayout, Weights as MatrixWeights, project, project_rows,
};

use super::{Direction, Recurrent, Sizes};
use crate::error::OpError;
use crate::op::{Inputs, weight_matrix};

/// The states of all directions, a row for each element of the batch.
pub(super) struct States<'a> {
    pub(super) h: &'a mut [f32],
    /// Those of an LSTM's cells; empty for others.
    pub(super) c: &'a mut [f32],
}

/// One direction.
pub(super) struct Pass<'a> {
    layer: &'a Recurrent,
    pub(super) sizes: Sizes,
    backwards: bool,
    /// Where its states lie in a row of all directions.
    offset: usize,
    weight_ih: MatrixWeights<'a>,
    weight_hh: MatrixWeights<'a>,
    input_bias: Option<&'a [f32]>,
    hidden_bias: Option<&'a [f32]>,
    pub(super) peephole: Option<&'a [f32]>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        layer: &'a Recurrent,
        direction: &Direction,
        inputs: &Inputs<'a>,
        sizes: Sizes,
        offset: usize,
    ) -> Result<Self, OpError> {
        let vector =
            |input: Option<usize>| input.map(|input| inputs.tensor(input)?.f32s()).transpose();
        Ok(Pass {
            layer,
            sizes,
            backwards: direction.backwards,
            offset,
            weight_ih: weight_matrix(inputs, direction.weight_ih, sizes.gates, sizes.inputs)?,
            weight_hh: weight_matrix(inputs, direction.weight_hh, sizes.gates, sizes.hidden)?,
            input_bias: vector(direction.input_bias)?,
            hidden_bias: vector(direction.hidden_bias)?,
            peephole: vector(direction.peephole)?,
        })
    }

    /// Changes the states step by step, and writes the hidden ones of each to `sequence` if the layer gives
    /// them out: in the order of time where there are two directions, else in the order in which they are
    /// computed. (So it is in the tests of coremltools, which Apple's framework passes.)
    pub(super) fn run(
        &self,
        x: &[f32],
        sequence: &mut [f32],
        states: &mut States,
        context: &Context,
    ) -> Result<(), OpError> {
        let Sizes { steps, batch, inputs, width, gates, .. } = self.sizes;
        let rows = steps.checked_mul(batch).ok_or_else(OpError::too_large)?;
        let all = rows.checked_mul(gates).ok_or_else(OpError::too_large)?;
        let mut from_x = context.scratch().take::<f32>(all)?;
        let columns = ColumnLayout { stride_k: 1, stride_s: inputs };
        let to = OutputLayout { stride_n: 1, stride_s: gates };
        project(
            context,
            Numerics::Strict,
            &self.weight_ih,
            x,
            columns,
            rows,
            self.input_bias,
            &mut from_x,
            to,
        )?;
        let mut values = context.scratch().take::<f32>(batch * gates)?;
        let both = self.layer.directions.len() > 1;
        for number in 0..steps {
            let step = if self.backwards { steps - 1 - number } else { number };
            let from_x = &from_x[step * batch * gates..][..batch * gates];
            self.layer.cell.step(self, from_x, &mut values, states, context)?;
            if self.layer.output_sequence {
                let place = if both { step } else { number };
                let sequence = &mut sequence[place * batch * width..][..batch * width];
                for i in 0..batch {
                    sequence[self.states(i)].copy_from_slice(&states.h[self.states(i)]);
                }
            }
        }
        Ok(())
    }

    /// Where the states of an element of the batch lie.
    pub(super) fn states(&self, i: usize) -> Range<usize> {
        let start = i * self.sizes.width + self.offset;
        start..start + self.sizes.hidden
    }

    /// Products of the rows `gates` of the recurrent weights with the hidden states.
    pub(super) fn of_states(
        &self,
        gates: Range<usize>,
        states: &States,
        values: &mut [f32],
        context: &Context,
    ) -> Result<(), OpError> {
        self.product(gates, &states.h[self.offset..], self.sizes.width, values, context)
    }

    /// Products of the rows `gates` of the recurrent weights with vectors that lie `stride` apart.
    pub(super) fn product(
        &self,
        gates: Range<usize>,
        vectors: &[f32],
        stride: usize,
        values: &mut [f32],
        context: &Context,
    ) -> Result<(), OpError> {
        let bias = self.hidden_bias.map(|bias| &bias[gates.clone()]);
        let from = ColumnLayout { stride_k: 1, stride_s: stride };
        let to = OutputLayout { stride_n: 1, stride_s: self.sizes.gates };
        let values = &mut values[gates.start..];
        let (weights, batch) = (&self.weight_hh, self.sizes.batch);
        Ok(project_rows(
            context,
            Numerics::Strict,
            weights,
            gates,
            vectors,
            from,
            batch,
            bias,
            values,
            to,
        )?)
    }
}

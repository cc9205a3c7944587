//! `reverse_sequence`, of the `tensor_transformation` family.

use coreml_format::mil::Opset;
use smallvec::{SmallVec, smallvec};

use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Moves, Op, OpDef, ResultTypes, axis, bound, def, kernel, one,
};
use crate::value::{Ints, count, same_count};
use crate::weights::Weights;

/// A tensor whose slices along one axis have their first elements along another one in reverse, for each
/// slice as many as a length says.
#[derive(Clone, Debug)]
struct ReverseSequence {
    x: usize,
    lengths: usize,
    sequence: i64,
    batch: i64,
}

/// The tensor as axes `[outer, first, between, second, …]`, the rest of which are blocks of `block` bytes;
/// one of the first and second is the sequence, the other one the batch.
struct Blocks {
    outer: usize,
    first: usize,
    between: usize,
    second: usize,
    rest: usize,
    sequence_first: bool,
}

impl ReverseSequence {
    fn blocks(&self, inputs: &Inputs) -> Result<Blocks, OpError> {
        let (shape, lengths) = (inputs.shape(self.x)?, inputs.shape(self.lengths)?);
        let sequence = axis(self.sequence, shape.len(), "seq_axis")?;
        let batch = axis(self.batch, shape.len(), "batch_axis")?;
        if sequence == batch {
            let expected = "another axis than `batch_axis`";
            return Err(OpError::argument("seq_axis", expected, format!("axis {batch} for both")));
        }
        if lengths != [shape[batch]] {
            let expected = format!("shape [{}], a length for each slice of `x`", shape[batch]);
            return Err(OpError::argument("lengths", expected, format!("shape {lengths:?}")));
        }
        let (first, second) = (sequence.min(batch), sequence.max(batch));
        Ok(Blocks {
            outer: count(&shape[..first]),
            first: shape[first],
            between: count(&shape[first + 1..second]),
            second: shape[second],
            rest: count(&shape[second + 1..]),
            sequence_first: sequence < batch,
        })
    }
}

impl Blocks {
    /// Fails unless all lengths are of a part of the sequence.
    fn check(&self, lengths: Ints) -> Result<(), OpError> {
        let (size, batch) = match self.sequence_first {
            true => (self.first, self.second),
            false => (self.second, self.first),
        };
        let within = |length: &i64| usize::try_from(*length).is_ok_and(|length| length <= size);
        match (0..batch).filter_map(|slice| lengths.get(slice)).find(|length| !within(length)) {
            None => Ok(()),
            Some(length) => {
                let expected = format!("lengths from 0 to {size}, the size of `seq_axis`");
                Err(OpError::argument("lengths", expected, length.to_string()))
            }
        }
    }

    /// Copies blocks of `rest` elements of `size` bytes.
    fn copy(&self, x: &[u8], lengths: Ints, out: &mut [u8], size: usize) -> Result<(), OpError> {
        let block = self.rest.saturating_mul(size);
        let blocks = [self.outer, self.first, self.between, self.second];
        same_count(count(&blocks).saturating_mul(block), x.len())?;
        same_count(x.len(), out.len())?;
        if x.is_empty() {
            return Ok(());
        }
        let mirrored = |place: usize, slice: usize| {
            let length = lengths.get(slice).unwrap_or(0) as usize;
            if place < length { length - 1 - place } else { place }
        };
        for (number, out) in out.chunks_exact_mut(block).enumerate() {
            let (rest, second) = (number / self.second, number % self.second);
            let (rest, between) = (rest / self.between, rest % self.between);
            let (outer, first) = (rest / self.first, rest % self.first);
            let (first, second) = match self.sequence_first {
                true => (mirrored(first, second), second),
                false => (first, mirrored(second, first)),
            };
            let from =
                ((outer * self.first + first) * self.between + between) * self.second + second;
            out.copy_from_slice(&x[from * block..][..block]);
        }
        Ok(())
    }
}

impl Op for ReverseSequence {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        self.blocks(inputs)?;
        one(inputs.element(self.x)?, inputs.shape(self.x)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (op, blocks) = (self.clone(), self.blocks(inputs)?);
        kernel(move |inputs, outputs, _context| {
            let (x, lengths) = (inputs.tensor(op.x)?, inputs.tensor(op.lengths)?.int_elements()?);
            blocks.check(lengths)?;
            blocks.copy(x.dense_bytes()?, lengths, outputs.tensor(0)?.bytes, x.storage.size())
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.x
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x)
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(self, [self.x])
    }

    fn places(&self) -> SmallVec<[usize; 2]> {
        smallvec![self.lengths]
    }
}

fn reverse_sequence(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, lengths) = (binder.input("x")?, binder.input("lengths")?);
    let (sequence, batch) = (binder.int("seq_axis")?, binder.int("batch_axis")?);
    bound(ReverseSequence { x, lengths, sequence, batch })
}

pub(super) const OPS: &[OpDef] = &[
    def("reverse_sequence", Opset::Ios15, reverse_sequence),
    def("reverse_sequence", Opset::Ios17, reverse_sequence),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, arange, indices, position};

    proptest! {
        #[test]
        fn slices_are_reversed_as_far_as_their_lengths(
            shape in prop::collection::vec(0usize..5, 2..5),
            axes in any::<[prop::sample::Index; 2]>(),
            seed in prop::collection::vec(0usize..9, 5),
        ) {
            let rank = shape.len();
            let batch = axes[0].index(rank);
            let sequence = (batch + 1 + axes[1].index(rank - 1)) % rank;
            let lengths: Vec<usize> =
                (0..shape[batch]).map(|i| seed[i] % (shape[sequence] + 1)).collect();
            let expected: Vec<i32> = indices(&shape)
                .into_iter()
                .map(|mut index| {
                    let length = lengths[index[batch]];
                    if index[sequence] < length {
                        index[sequence] = length - 1 - index[sequence];
                    }
                    position(&shape, &index) as i32
                })
                .collect();
            let lengths: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
            let case = Case::new().ints("x", &shape, &arange(&shape));
            let case = case.ints("lengths", &[lengths.len()], &lengths);
            let case = case.int("seq_axis", sequence as i32 - rank as i32).int("batch_axis", batch as i32);
            prop_assert_eq!(case.run_ints("reverse_sequence", Opset::Ios15), (shape, expected));
        }
    }

    #[test]
    fn lengths_and_axes_that_do_not_fit() {
        let message = |lengths: &[i32], sequence: i32| {
            let case = Case::new().ints("x", &[2, 3], &arange(&[2, 3]));
            let case = case.ints("lengths", &[lengths.len()], lengths).int("seq_axis", sequence);
            case.run("reverse_sequence", Opset::Ios17).err().unwrap().to_string()
        };
        assert!(message(&[4, 0], 1).contains("0 to 3"));
        assert!(message(&[-1, 0], 1).contains("0 to 3"));
        assert!(message(&[1], 1).contains("lengths"));
        assert!(message(&[1, 1], 0).contains("batch_axis"));
        assert!(message(&[1, 1], 2).contains("seq_axis"));
    }
}

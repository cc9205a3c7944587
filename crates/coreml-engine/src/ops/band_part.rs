//! `band_part`, of the `tensor_operation` family.

use coreml_format::mil::Opset;

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Layout, count};
use crate::weights::Weights;

/// Matrices with zeros everywhere but in a band along the diagonal.
#[derive(Clone, Debug)]
struct BandPart {
    x: usize,
    /// How many elements below the diagonal stay in each column; all if negative.
    lower: i64,
    /// How many beside the diagonal stay in each row; all if negative.
    upper: i64,
}

impl BandPart {
    /// The columns of a row of `columns` that stay.
    fn kept(&self, row: usize, columns: usize) -> (usize, usize) {
        let reach = |size: i64| usize::try_from(size).unwrap_or(usize::MAX);
        let end = row.saturating_add(reach(self.upper)).saturating_add(1).min(columns);
        (row.saturating_sub(reach(self.lower)).min(end), end)
    }
}

fn matrices(shape: &[usize]) -> Result<[usize; 2], OpError> {
    match shape {
        &[.., rows, columns] => Ok([rows, columns]),
        _ => Err(OpError::argument("x", "matrices: rank 2 or more", format!("shape {shape:?}"))),
    }
}

impl Op for BandPart {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        matrices(shape)?;
        one(inputs.element(self.x)?, shape)
    }

    /// What lies outside of the band becomes zero even where it is no number.
    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (op, shape) = (self.clone(), inputs.shape(self.x)?);
        let [rows, columns] = matrices(shape)?;
        let empty = count(shape) == 0;
        kernel(move |inputs, outputs, _context| {
            let out = outputs.tensor(0)?;
            if !inputs.is_in_place(op.x) {
                let x = inputs.tensor(op.x)?;
                Layout::of(&x).read(x.bytes, out.bytes, x.storage)?;
            }
            if empty {
                return Ok(());
            }
            let size = out.storage.size();
            for (number, row) in out.bytes.chunks_exact_mut(columns * size).enumerate() {
                let (start, end) = op.kept(number % rows, columns);
                row[..start * size].fill(0);
                row[end * size..].fill(0);
            }
            Ok(())
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn band_part(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(BandPart { x, lower: binder.int("lower")?, upper: binder.int("upper")? })
}

pub(super) const OPS: &[OpDef] = &[def("band_part", Opset::Ios15, band_part)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, arange, indices};

    proptest! {
        #[test]
        fn the_band_is_that_of_the_definition(
            shape in prop::collection::vec(0usize..5, 2..5),
            lower in -1i32..5,
            upper in -1i32..5,
        ) {
            let x: Vec<i32> = arange(&shape).iter().map(|x| x + 1).collect();
            let rank = shape.len();
            let in_band = |index: &Vec<usize>| {
                let (m, n) = (index[rank - 2] as i32, index[rank - 1] as i32);
                (lower < 0 || m - n <= lower) && (upper < 0 || n - m <= upper)
            };
            let expected: Vec<i32> = indices(&shape)
                .iter()
                .zip(&x)
                .map(|(index, &x)| if in_band(index) { x } else { 0 })
                .collect();
            let case = Case::new().ints("x", &shape, &x).int("lower", lower).int("upper", upper);
            prop_assert_eq!(case.run_ints("band_part", Opset::Ios15), (shape, expected));
        }
    }

    #[test]
    fn what_is_no_number_goes_and_vectors_have_no_band() {
        let case = Case::new().floats("x", &[1, 2], &[1.0, f32::NAN]).int("upper", 0);
        assert_eq!(case.run_floats("band_part", Opset::Ios15).1, [1.0, 0.0]);
        let error = Case::new().floats("x", &[2], &[1.0, 2.0]).run("band_part", Opset::Ios15);
        assert!(error.err().unwrap().to_string().contains("rank 2"));
    }
}

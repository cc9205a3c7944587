//! Operations that read and write by index.

mod gather;
mod places;
mod scatter;

use std::ops::Range;

use coreml_format::mil::Opset;

use self::gather::{gather, gather_along_axis, gather_nd};
use self::scatter::{scatter, scatter_along_axis, scatter_nd};
use crate::error::OpError;
use crate::op::{OpDef, def};

/// Part `number` of a slice in parts of `size`.
fn part<T>(values: &[T], number: usize, size: usize) -> Result<&[T], OpError> {
    range(number, size).and_then(|range| values.get(range)).ok_or_else(|| missing(values.len()))
}

/// Part `number` of a slice in parts of `size`, to write.
fn part_mut<T>(values: &mut [T], number: usize, size: usize) -> Result<&mut [T], OpError> {
    let got = values.len();
    range(number, size).and_then(|range| values.get_mut(range)).ok_or_else(|| missing(got))
}

fn range(number: usize, size: usize) -> Option<Range<usize>> {
    let start = number.checked_mul(size)?;
    Some(start..start.checked_add(size)?)
}

fn missing(got: usize) -> OpError {
    OpError::invalid(format!("there are no more than {got} elements"))
}

pub(super) const OPS: &[OpDef] = &[
    def("gather", Opset::Ios15, gather),
    def("gather", Opset::Ios16, gather),
    def("gather", Opset::Ios17, gather),
    def("gather_along_axis", Opset::Ios15, gather_along_axis),
    def("gather_along_axis", Opset::Ios16, gather_along_axis),
    def("gather_along_axis", Opset::Ios17, gather_along_axis),
    def("gather_nd", Opset::Ios15, gather_nd),
    def("gather_nd", Opset::Ios16, gather_nd),
    def("gather_nd", Opset::Ios17, gather_nd),
    def("scatter", Opset::Ios15, scatter),
    def("scatter", Opset::Ios17, scatter),
    def("scatter_along_axis", Opset::Ios15, scatter_along_axis),
    def("scatter_along_axis", Opset::Ios17, scatter_along_axis),
    def("scatter_nd", Opset::Ios15, scatter_nd),
    def("scatter_nd", Opset::Ios17, scatter_nd),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, Value, arange, indices, position};
    use crate::value::{Buffer, Bytes, Constant, ConstantData, PalettizedData, Shape, Storage};

    fn bytes(bytes: &[u8]) -> Bytes {
        Bytes::from_buffer(Buffer::copy_of(bytes).unwrap())
    }

    #[test]
    fn rows_of_palettized_weights_are_looked_up() {
        // The first example of coreml's iOS 18 `constexpr_lut_to_dense`: 6 rows of 2, the first 3
        // of which have the first table.
        let data = PalettizedData {
            bits: 2,
            indices: bytes(&[0b00_11_11_10, 0b00_11_00_01, 0b11_00_01_10]),
            lut: bytes(bytemuck::cast_slice(&[1f32, 5.0, 9.0, 13.0, 2.0, 10.0, 18.0, 26.0])),
            lut_storage: Storage::F32,
            groups: Shape::from_slice(&[2, 1]),
        };
        let data = ConstantData::Palettized(data);
        let x = Constant { element: ElementType::Float32, shape: Shape::from_slice(&[6, 2]), data };
        let case = Case::new().constant("x", x).ints("indices", &[2], &[5, -5]);
        let expected = (vec![2, 2], vec![2.0, 26.0, 13.0, 1.0]);
        assert_eq!(case.run_floats("gather", Opset::Ios18), expected);
    }

    #[test]
    fn indices_count_from_both_ends_and_stay_inside() {
        let x = |case: Case| case.halves("x", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let picked =
            x(Case::new()).value("indices", Value::tensor(ElementType::Int16, &[2], &[-1i16, 0]));
        let expected = (vec![2, 2], vec![5.0, 6.0, 1.0, 2.0]);
        assert_eq!(picked.run_floats("gather", Opset::Ios16), expected);
        let error = x(Case::new()).ints("indices", &[1], &[3]).run("gather", Opset::Ios16);
        let message = error.err().unwrap().to_string();
        assert!(message.contains("axis 0") && message.contains("got 3"), "{message}");
        let checked = x(Case::new()).ints("indices", &[1], &[-1]).bools("validate_indices", &[1]);
        let message = checked.run("gather", Opset::Ios17).err().unwrap().to_string();
        assert!(message.contains("axis 0") && message.contains("got -1"), "{message}");
    }

    #[test]
    fn batches_pick_from_their_own() {
        // tf.gather(arange(8).reshape(2, 2, 2), [[1], [0]], axis=1, batch_dims=1)
        let x: Vec<i32> = (0..8).collect();
        let case = Case::new().ints("x", &[2, 2, 2], &x).ints("indices", &[2, 1], &[1, 0]);
        let case = case.int("axis", 1).int("batch_dims", 1);
        assert_eq!(case.run_ints("gather", Opset::Ios17), (vec![2, 1, 2], vec![2, 3, 4, 5]));
    }

    #[test]
    fn nothing_is_picked_from_nothing() {
        let case = Case::new().ints("x", &[2, 0], &[]).ints("indices", &[0], &[]);
        assert_eq!(case.int("axis", 1).run_ints("gather", Opset::Ios15), (vec![2, 0], vec![]));
        let error = Case::new().ints("x", &[2, 0], &[]).ints("indices", &[1], &[0]).int("axis", 1);
        assert!(error.run("gather", Opset::Ios15).is_err());
    }

    proptest! {
        #[test]
        fn slices_are_those_that_indexing_gives(
            shape in prop::collection::vec(1usize..4, 1..4),
            place in 0usize..3,
            picks in prop::collection::vec(-9i32..9, 0..5),
        ) {
            let axis = place % shape.len();
            let size = shape[axis] as i32;
            let picks: Vec<i32> = picks.iter().map(|pick| pick.rem_euclid(2 * size) - size).collect();
            let mut result = shape.clone();
            result[axis] = picks.len();
            let expected: Vec<i32> = indices(&result)
                .into_iter()
                .map(|mut index| {
                    index[axis] = picks[index[axis]].rem_euclid(size) as usize;
                    position(&shape, &index) as i32
                })
                .collect();
            let case = Case::new().ints("x", &shape, &arange(&shape));
            let case = case.ints("indices", &[picks.len()], &picks).int("axis", axis as i32);
            prop_assert_eq!(case.run_ints("gather", Opset::Ios15), (result, expected));
        }

        #[test]
        fn elements_along_an_axis_are_those_that_indexing_gives(
            shape in prop::collection::vec(1usize..4, 1..4),
            place in 0usize..3,
            taken in 0usize..5,
            seed in any::<u32>(),
        ) {
            let axis = place % shape.len();
            let size = shape[axis] as i32;
            let mut result = shape.clone();
            result[axis] = taken;
            let pick = |number: usize| {
                let mixed = (number as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8;
                mixed as i32 % (2 * size) - size
            };
            let picks: Vec<i32> = (0..result.iter().product()).map(pick).collect();
            let expected: Vec<i32> = indices(&result)
                .into_iter()
                .zip(&picks)
                .map(|(mut index, pick)| {
                    index[axis] = pick.rem_euclid(size) as usize;
                    position(&shape, &index) as i32
                })
                .collect();
            let case = Case::new().ints("x", &shape, &arange(&shape));
            let case = case.ints("indices", &result, &picks).int("axis", axis as i32);
            prop_assert_eq!(case.run_ints("gather_along_axis", Opset::Ios16), (result, expected));
        }
    }
}

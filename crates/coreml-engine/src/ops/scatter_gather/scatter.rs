//! Operations that write slices by index.

use coreml_format::mil::ElementType;
use coreml_kernels::Context;
use coreml_kernels::convert::{f16_to_f32, f32_to_f16};
use half::f16;
use smallvec::{SmallVec, smallvec};

use super::places::{By, Places, Rule};
use super::{part, part_mut};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, ResultTypes, bound, kernel, one};
use crate::ops::elementwise_binary::{common_element, float_maximum, float_minimum, int_div};
use crate::value::{
    Element, Layout, Storage, TensorMut, TensorRef, Visitor, elements, elements_mut,
};
use crate::weights::Weights;

/// What becomes of an element of `data` and one of `updates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Add,
    Div,
    Max,
    Min,
    Mul,
    Sub,
    /// The latter, whatever the former is.
    Update,
}

const MODES: [(&str, Mode); 7] = [
    ("add", Mode::Add),
    ("div", Mode::Div),
    ("max", Mode::Max),
    ("min", Mode::Min),
    ("mul", Mode::Mul),
    ("sub", Mode::Sub),
    ("update", Mode::Update),
];

/// `data`, with `updates` to its slices by index: one after the other, where several name the same.
#[derive(Clone, Debug)]
pub(crate) struct Scatter {
    pub(crate) data: usize,
    pub(crate) indices: usize,
    pub(crate) updates: usize,
    pub(crate) by: By,
    pub(crate) mode: Mode,
    pub(crate) rule: Rule,
    /// The common element type of `data` and `updates`.
    pub(crate) element: ElementType,
}

impl Scatter {
    fn places(&self, inputs: &Inputs) -> Result<Places, OpError> {
        let places = Places::of(self.by, self.rule, inputs, ("data", self.data), self.indices)?;
        let updates = inputs.shape(self.updates)?;
        if places.picked.as_slice() != updates {
            let expected = format!("a tensor of shape {:?}", places.picked.as_slice());
            return Err(OpError::argument("updates", expected, format!("shape {updates:?}")));
        }
        Ok(places)
    }
}

impl Op for Scatter {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        self.places(inputs)?;
        one(self.element, inputs.shape(self.data)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Scatter { data, indices, updates, mode, .. } = *self;
        let places = self.places(inputs)?;
        kernel(move |inputs, outputs, context| {
            let out = outputs.tensor(0)?;
            if !inputs.is_in_place(data) {
                let data = inputs.tensor(data)?;
                Layout::of(&data).read(data.bytes, out.bytes, data.storage)?;
            }
            let write = Write {
                places: &places,
                indices: &inputs.tensor(indices)?,
                updates: &inputs.tensor(updates)?,
                out,
            };
            match (mode, write.out.storage) {
                (Mode::Update, _) => write.update(context),
                (_, Storage::I32) => write.ints(mode),
                _ => write.floats(mode),
            }
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        self.mode == Mode::Update && (input == self.data || input == self.updates)
    }

    fn reads_strided(&self, input: usize) -> bool {
        input == self.data
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        (self.mode == Mode::Update).then_some(self.data)
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.data)
    }

    fn places(&self) -> SmallVec<[usize; 2]> {
        smallvec![self.indices]
    }
}

/// What a run writes, and where.
struct Write<'r, 'a> {
    places: &'r Places,
    indices: &'r TensorRef<'r>,
    updates: &'r TensorRef<'r>,
    out: &'r mut TensorMut<'a>,
}

impl Write<'_, '_> {
    fn update(self, context: &Context) -> Result<(), OpError> {
        match (self.updates.storage, self.out.storage) {
            (from, to) if from == to => to.visit_bits(self),
            (Storage::F32, Storage::F16) => {
                let write = |from: &[f32], to: &mut [f16]| Ok(f32_to_f16(context, from, to)?);
                let out = elements_mut(self.out.bytes)?;
                each(self.places, self.indices, self.updates.f32s()?, out, write)
            }
            (Storage::F16, Storage::F32) => {
                let write = |from: &[f16], to: &mut [f32]| Ok(f16_to_f32(context, from, to)?);
                let out = self.out.f32s()?;
                each(self.places, self.indices, self.updates.slice()?, out, write)
            }
            _ => Err(other_type(self.updates, self.out)),
        }
    }

    fn floats(self, mode: Mode) -> Result<(), OpError> {
        match mode {
            Mode::Add => self.combine(|x: f32, y| x + y),
            Mode::Div => self.combine(|x: f32, y| x / y),
            Mode::Max => self.combine(float_maximum),
            Mode::Min => self.combine(float_minimum),
            Mode::Mul => self.combine(|x: f32, y| x * y),
            Mode::Sub => self.combine(|x: f32, y| x - y),
            Mode::Update => Ok(()),
        }
    }

    fn ints(self, mode: Mode) -> Result<(), OpError> {
        match mode {
            Mode::Add => self.combine(i32::wrapping_add),
            Mode::Div => self.combine(int_div),
            Mode::Max => self.combine::<i32>(Ord::max),
            Mode::Min => self.combine::<i32>(Ord::min),
            Mode::Mul => self.combine(i32::wrapping_mul),
            Mode::Sub => self.combine(i32::wrapping_sub),
            Mode::Update => Ok(()),
        }
    }

    fn combine<T: Element>(self, function: impl Fn(T, T) -> T) -> Result<(), OpError> {
        let (updates, out) = (self.updates.slice::<T>()?, self.out.slice::<T>()?);
        each(self.places, self.indices, updates, out, |updates, out| {
            out.iter_mut().zip(updates).for_each(|(x, &y)| *x = function(*x, y));
            Ok(())
        })
    }
}

/// Elements are moved as they are held.
impl Visitor for Write<'_, '_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let updates = elements::<T>(self.updates.dense_bytes()?)?;
        let out = elements_mut::<T>(self.out.bytes)?;
        each(self.places, self.indices, updates, out, |updates, out| {
            out.copy_from_slice(updates);
            Ok(())
        })
    }
}

/// Calls `write` with each update and the slice that it is for.
fn each<A, B>(
    places: &Places,
    indices: &TensorRef,
    updates: &[A],
    out: &mut [B],
    write: impl Fn(&[A], &mut [B]) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let inner = places.inner;
    places
        .for_each(indices, |from, to| write(part(updates, from, inner)?, part_mut(out, to, inner)?))
}

fn other_type(updates: &TensorRef, out: &TensorMut) -> OpError {
    let expected = format!("elements of type `{}`", out.element);
    OpError::argument("updates", expected, format!("`{}`", updates.element))
}

fn write_by(
    binder: &mut Binder,
    by: impl Fn(&Binder) -> Result<By, OpError>,
) -> Result<Box<dyn Op>, OpError> {
    let (data, indices) = (binder.input("data")?, binder.input("indices")?);
    let updates = binder.input("updates")?;
    let element = common_element(binder, [("data", data), ("updates", updates)])?;
    let (by, mode) = (by(binder)?, binder.one_of("mode", &MODES)?);
    bound(Scatter { data, indices, updates, by, mode, rule: Rule::of_writes(binder)?, element })
}

pub(super) fn scatter(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    write_by(binder, |binder| Ok(By::Slice { axis: binder.int("axis")?, batch_dims: 0 }))
}

pub(super) fn scatter_along_axis(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    write_by(binder, |binder| Ok(By::Element { axis: binder.int("axis")? }))
}

pub(super) fn scatter_nd(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    write_by(binder, |_| Ok(By::Tuple { batch_dims: 0 }))
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::Opset;
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, Value, arange, indices, position};

    fn case(data: &[usize], (shape, picks): (&[usize], &[i32]), updates: &[usize]) -> Case {
        let case = Case::new().ints("data", data, &arange(data)).ints("indices", shape, picks);
        case.ints("updates", updates, &arange(updates))
    }

    proptest! {
        /// Each update lies, in the result, where plain indexing puts it, behind those before.
        #[test]
        fn updates_lie_where_indexing_puts_them(
            data in prop::collection::vec(1usize..4, 1..4),
            place in 0usize..3,
            picks in prop::collection::vec(-9i32..9, 0..5),
            adds in any::<bool>(),
        ) {
            let axis = place % data.len();
            let size = data[axis] as i32;
            let picks: Vec<i32> = picks.iter().map(|pick| pick.rem_euclid(2 * size) - size).collect();
            let mut updates = data.clone();
            updates[axis] = picks.len();
            let mut expected = arange(&data);
            // The picks are walked outermost to innermost: the last one of a place is the largest.
            for (number, mut index) in indices(&updates).into_iter().enumerate() {
                index[axis] = picks[index[axis]].rem_euclid(size) as usize;
                let at = position(&data, &index);
                expected[at] = if adds { expected[at] + number as i32 } else { number as i32 };
            }
            let mode = if adds { "add" } else { "update" };
            let with = |case: Case| case.string("mode", mode).int("axis", axis as i32);
            let slices = with(case(&data, (&[picks.len()], &picks), &updates));
            prop_assert_eq!(slices.run_ints("scatter", Opset::Ios15), (data.clone(), expected.clone()));
            let along: Vec<i32> = indices(&updates).iter().map(|index| picks[index[axis]]).collect();
            let elements = with(case(&data, (&updates, &along), &updates));
            let got = elements.run_ints("scatter_along_axis", Opset::Ios15);
            prop_assert_eq!(got, (data.clone(), expected.clone()));
            let mut tuples = updates.clone();
            tuples.push(data.len());
            let each = indices(&updates).into_iter().flat_map(|mut index| {
                index[axis] = picks[index[axis]].rem_euclid(size) as usize;
                index.into_iter().map(|i| i as i32)
            });
            let each: Vec<i32> = each.collect();
            let tuples = case(&data, (&tuples, &each), &updates).string("mode", mode);
            prop_assert_eq!(tuples.run_ints("scatter_nd", Opset::Ios15), (data, expected));
        }
    }

    #[test]
    fn updates_are_held_as_the_data_is() {
        let with = |case: Case| case.ints("indices", &[2], &[2, 0]).string("mode", "update");
        let data = [1f32, 2.0, 3.0];
        let expected =
            [half::f16::from_f32(5.5), half::f16::from_f32(2.0), half::f16::from_f32(4.5)];
        let floats = Value::tensor(ElementType::Float16, &[2], &[4.5f32, 5.5]);
        let case = with(Case::new().halves("data", &[3], &data)).value("updates", floats);
        let results = case.run("scatter", Opset::Ios18).unwrap();
        assert_eq!(results[0].values::<half::f16>(), expected);
        let wide = Value::tensor(ElementType::Float16, &[3], &data);
        let case = with(Case::new().value("data", wide)).halves("updates", &[2], &[4.5, 5.5]);
        let results = case.run("scatter", Opset::Ios18).unwrap();
        assert_eq!(results[0].values::<f32>(), [5.5, 2.0, 4.5]);
    }

    #[test]
    fn indices_outside_are_passed_over_only_where_they_are_undefined() {
        let run = |index: i32, opset, validated: bool| {
            let case = case(&[3], (&[2], &[1, index]), &[2]);
            let case = if validated { case.bools("validate_indices", &[1]) } else { case };
            case.run("scatter", opset).map(|results| results[0].values::<i32>())
        };
        assert_eq!(run(-1, Opset::Ios15, false).unwrap(), [0, 1, 3]);
        assert!(run(3, Opset::Ios15, false).is_err());
        assert_eq!(run(-1, Opset::Ios17, false).unwrap(), [0, 1, 2]);
        assert_eq!(run(i32::MAX, Opset::Ios17, false).unwrap(), [0, 1, 2]);
        let message = run(-1, Opset::Ios17, true).unwrap_err().to_string();
        assert!(message.contains("axis 0") && message.contains("got -1"), "{message}");
    }

    #[test]
    fn updates_of_another_shape_are_an_error() {
        let message = case(&[3, 2], (&[2], &[0, 1]), &[2]).run("scatter", Opset::Ios15);
        let message = message.err().unwrap().to_string();
        assert!(message.contains("`updates`") && message.contains("[2, 2]"), "{message}");
        let tuples = case(&[3, 2], (&[1, 3], &[0, 0, 0]), &[1]).run("scatter_nd", Opset::Ios15);
        assert!(tuples.err().unwrap().to_string().contains("at most 2 indices"));
        let scalar = case(&[3, 2], (&[], &[0]), &[]).run("scatter_nd", Opset::Ios15);
        assert!(scalar.err().unwrap().to_string().contains("`indices`"));
    }
}

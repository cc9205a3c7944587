//! `non_maximum_suppression`, of the `tensor_operation` family.

use std::cmp::Ordering;

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::Context;
use coreml_kernels::boxes::{Corners, Suppression, suppress};

use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, Outputs, ResultType, ResultTypes, bound, def, kernel,
};
use crate::value::{Shape, same_count};
use crate::weights::Weights;

/// The best boxes, without those that overlap a better one too much.
///
/// A box counts as its best class says. If no box is good enough, the best one is taken nevertheless, as
/// the reference in coremltools' tests has it.
#[derive(Clone, Debug)]
struct NonMaximumSuppression {
    boxes: usize,
    scores: usize,
    /// The largest part of two boxes' union that they may share.
    overlap: f32,
    /// The least score, before iOS 17.
    score: Option<f32>,
    /// How many boxes there are in a result.
    most: usize,
    /// Only boxes of one class suppress each other.
    by_class: bool,
    /// Numbers of a box lie side by side (before iOS 17), not those of all boxes.
    boxes_first: bool,
}

/// The sizes of the inputs.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    boxes: usize,
    classes: usize,
}

/// A tensor `[boxes, numbers]`, or the other way round.
#[derive(Clone, Copy)]
struct Table {
    boxes: usize,
    numbers: usize,
    boxes_first: bool,
}

impl Table {
    fn at(&self, number_of: usize, number: usize) -> usize {
        match self.boxes_first {
            true => number_of * self.numbers + number,
            false => number * self.boxes + number_of,
        }
    }

    fn len(&self) -> usize {
        self.boxes.saturating_mul(self.numbers)
    }
}

impl NonMaximumSuppression {
    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, OpError> {
        let read = |input: usize, name: &str| match *inputs.shape(input)? {
            [batch, boxes, numbers] if self.boxes_first => Ok([batch, boxes, numbers]),
            [batch, numbers, boxes] => Ok([batch, boxes, numbers]),
            ref got => Err(OpError::argument(name, "a tensor of rank 3", format!("shape {got:?}"))),
        };
        let ([batch, boxes, four], scores) =
            (read(self.boxes, "boxes")?, read(self.scores, "scores")?);
        if four != 4 {
            let expected = "4 numbers for each box: its middle, width and height";
            return Err(OpError::argument("boxes", expected, format!("{four} numbers")));
        }
        let classes = scores[2];
        if scores[..2] != [batch, boxes] || classes == 0 {
            let expected = format!("scores for {batch} times {boxes} boxes, of one class or more");
            let got = format!("for {} times {} boxes, of {classes} classes", scores[0], scores[1]);
            return Err(OpError::argument("scores", expected, got));
        }
        if u32::try_from(boxes).is_err() {
            return Err(OpError::too_large());
        }
        Ok(Sizes { batch, boxes, classes })
    }

    fn table(&self, boxes: usize, numbers: usize) -> Table {
        Table { boxes, numbers, boxes_first: self.boxes_first }
    }

    /// Finds the boxes to take of `numbers` and `scores`, the best first; gives how many they are.
    fn choose(
        &self,
        context: &Context,
        sizes: Sizes,
        numbers: &[f32],
        scores: &[f32],
        chosen: &mut [u32],
    ) -> Result<usize, OpError> {
        let scratch = context.scratch();
        let count = sizes.boxes;
        let (mut corners, mut order) =
            (scratch.take::<Corners>(count)?, scratch.take::<u32>(count)?);
        let (mut best, mut classes) = (scratch.take::<f32>(count)?, scratch.take::<u32>(count)?);
        let (of_boxes, of_scores) = (self.table(count, 4), self.table(count, sizes.classes));
        for index in 0..count {
            let number = |number: usize| numbers[of_boxes.at(index, number)];
            corners[index] = Corners::around(number(0), number(1), number(2), number(3));
            let score = |class: usize| scores[of_scores.at(index, class)];
            (best[index], classes[index]) = (score(0), 0);
            for class in 1..sizes.classes {
                if score(class) > best[index] || best[index].is_nan() {
                    (best[index], classes[index]) = (score(class), class as u32);
                }
            }
            order[index] = index as u32;
        }
        order.sort_unstable_by(|&a, &b| better(best[a as usize], best[b as usize]).then(a.cmp(&b)));
        let good = |&index: &u32| self.score.is_none_or(|least| best[index as usize] >= least);
        let good = order.partition_point(|index| good(index) && !best[*index as usize].is_nan());
        let how =
            Suppression { overlap: self.overlap, classes: self.by_class.then_some(&classes[..]) };
        // Where none is good enough, the best of all.
        let candidates = &order[..good.max(1).min(count)];
        Ok(suppress(&how, &corners, candidates, chosen)?)
    }

    /// The results for one of a batch.
    fn take(
        &self,
        context: &Context,
        sizes: Sizes,
        batch: usize,
        inputs: &Inputs,
        outputs: &mut Outputs,
    ) -> Result<(), OpError> {
        let tables = [self.table(sizes.boxes, 4), self.table(sizes.boxes, sizes.classes)];
        let results = tables.map(|table| Table { boxes: self.most, ..table });
        let read = |input: usize, table: Table| -> Result<&[f32], OpError> {
            let values = inputs.tensor(input)?.f32s()?;
            same_count(sizes.batch.saturating_mul(table.len()), values.len())?;
            Ok(&values[batch * table.len()..][..table.len()])
        };
        let values = [read(self.boxes, tables[0])?, read(self.scores, tables[1])?];
        let mut chosen = context.scratch().take::<u32>(self.most.min(sizes.boxes))?;
        let count = self.choose(context, sizes, values[0], values[1], &mut chosen)?;
        let chosen = &chosen[..count];
        for (output, values) in values.into_iter().enumerate() {
            let (table, result) = (tables[output], results[output]);
            let out = outputs.tensor(output)?.f32s()?;
            same_count(sizes.batch.saturating_mul(result.len()), out.len())?;
            let out = &mut out[batch * result.len()..][..result.len()];
            out.fill(0.0);
            for (place, &index) in chosen.iter().enumerate() {
                for number in 0..table.numbers {
                    out[result.at(place, number)] = values[table.at(index as usize, number)];
                }
            }
        }
        let indices = outputs.tensor(2)?.slice::<i32>()?;
        same_count(sizes.batch.saturating_mul(self.most), indices.len())?;
        let indices = &mut indices[batch * self.most..][..self.most];
        indices.fill(-1);
        indices.iter_mut().zip(chosen).for_each(|(out, &index)| *out = index as i32);
        if self.boxes_first {
            let counts = outputs.tensor(3)?.slice::<i32>()?;
            same_count(sizes.batch, counts.len())?;
            counts[batch] = count as i32;
        }
        Ok(())
    }
}

/// Whether a score comes before another one: the larger first, what is no number last.
fn better(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Op for NonMaximumSuppression {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let Sizes { batch, classes, .. } = self.sizes(inputs)?;
        let shape = |numbers: usize| match self.boxes_first {
            true => Shape::from_slice(&[batch, self.most, numbers]),
            false => Shape::from_slice(&[batch, numbers, self.most]),
        };
        let mut types = ResultTypes::new();
        types.push(ResultType::new(inputs.element(self.boxes)?, shape(4)));
        types.push(ResultType::new(inputs.element(self.scores)?, shape(classes)));
        let indices = Shape::from_slice(&[batch, self.most]);
        types.push(ResultType::new(ElementType::Int32, indices));
        if self.boxes_first {
            types.push(ResultType::new(ElementType::Int32, Shape::from_slice(&[batch])));
        }
        Ok(types)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (op, sizes) = (self.clone(), self.sizes(inputs)?);
        kernel(move |inputs, outputs, context| {
            (0..sizes.batch).try_for_each(|batch| op.take(context, sizes, batch, inputs, outputs))
        })
    }
}

fn bind(binder: &mut Binder, boxes_first: bool) -> Result<Box<dyn Op>, OpError> {
    let most = binder.int("max_boxes")?;
    let most = usize::try_from(most).map_err(|_| {
        OpError::argument("max_boxes", "a number of boxes, 0 or more", most.to_string())
    })?;
    bound(NonMaximumSuppression {
        boxes: binder.input("boxes")?,
        scores: binder.input("scores")?,
        overlap: binder.float("iou_threshold")?,
        score: binder.optional_float("score_threshold")?,
        most,
        by_class: binder.bool("per_class_suppression")?,
        boxes_first,
    })
}

fn non_maximum_suppression(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bind(binder, true)
}

fn non_maximum_suppression_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bind(binder, false)
}

pub(super) const OPS: &[OpDef] = &[
    def("non_maximum_suppression", Opset::Ios15, non_maximum_suppression),
    def("non_maximum_suppression", Opset::Ios17, non_maximum_suppression_ios17),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

    /// Three boxes side by side, the second one twice.
    const BOXES: [f32; 16] =
        [0.0, 0.0, 2.0, 2.0, 5.0, 0.0, 2.0, 2.0, 5.0, 0.0, 2.0, 2.0, 9.0, 0.0, 2.0, 2.0];

    fn run(scores: &[f32], least: f32, most: i32) -> Result<Vec<Value>, OpError> {
        let classes = scores.len() / 4;
        let case = Case::new().floats("boxes", &[1, 4, 4], &BOXES);
        let case = case.floats("scores", &[1, 4, classes], scores).float("iou_threshold", 0.5);
        let case = case.float("score_threshold", least).int("max_boxes", most);
        case.run("non_maximum_suppression", Opset::Ios15)
    }

    fn indices(scores: &[f32], least: f32, most: i32) -> (Vec<i32>, i32) {
        let results = run(scores, least, most).unwrap();
        (results[2].values(), results[3].values::<i32>()[0])
    }

    #[test]
    fn equals_come_in_their_order() {
        assert_eq!(indices(&[1.0, 2.0, 2.0, 1.0], 0.0, 4), (vec![1, 0, 3, -1], 3));
        assert_eq!(indices(&[1.0, 2.0, 2.0, 1.0], 0.0, 1), (vec![1], 1));
        assert_eq!(indices(&[1.0, 2.0, 2.0, 1.0], 0.0, 0), (vec![], 0));
    }

    #[test]
    fn scores_as_low_as_the_threshold_count() {
        assert_eq!(indices(&[1.0, 2.0, 3.0, 4.0], 2.0, 4), (vec![3, 2, -1, -1], 2));
        assert_eq!(indices(&[1.0, 2.0, 0.0, 4.0], 2.0, 4), (vec![3, 1, -1, -1], 2));
    }

    #[test]
    fn the_best_is_taken_where_none_is_good_enough() {
        assert_eq!(indices(&[1.0, 2.0, 3.0, 2.0], 9.0, 2), (vec![2, -1], 1));
        let none = f32::NAN;
        assert_eq!(indices(&[none, none, 1.0, none], 0.0, 2), (vec![2, -1], 1));
        assert_eq!(indices(&[none; 4], 0.0, 2), (vec![0, -1], 1));
        assert_eq!(
            indices(&[none, 1.0, none, none, none, none, none, 0.5], 0.0, 2),
            (vec![0, 3], 2)
        );
    }

    #[test]
    fn no_boxes_at_all() {
        let case = Case::new().floats("boxes", &[2, 4, 0], &[]).floats("scores", &[2, 3, 0], &[]);
        let case = case.float("iou_threshold", 0.5).int("max_boxes", 2);
        let results = case.run("non_maximum_suppression", Opset::Ios17).unwrap();
        assert_eq!(results.len(), 3);
        assert_eq!(results[1].shape(), [2, 3, 2]);
        assert_eq!(results[2].values::<i32>(), [-1; 4]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(run(&[0.0; 4], 0.0, -1).err().unwrap().to_string().contains("max_boxes"));
        assert!(run(&[], 0.0, 1).err().unwrap().to_string().contains("scores"));
        let case = Case::new().floats("boxes", &[1, 1, 5], &[0.0; 5]);
        let case = case.floats("scores", &[1, 1, 1], &[0.0]).float("iou_threshold", 0.5);
        let case = case.float("score_threshold", 0.0).int("max_boxes", 1);
        let error = case.run("non_maximum_suppression", Opset::Ios15).err().unwrap();
        assert!(error.to_string().contains("boxes"), "{error}");
    }
}

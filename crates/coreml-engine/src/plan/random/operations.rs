//! Steps that add plain operations: any of the table's operators with arguments from the pool, and
//! a few sequences that chance alone would hardly make.

use coreml_format::mil::{ElementType, TensorType};

use super::RUNS;
use super::alphabet::{Example, Operator};
use super::builder::{Arguments, Builder, Slot};
use super::constants::{bool, constant, float, int, ints, numbers};
use super::recipe::Choices;
use crate::definitions::{Argument, Kind};
use crate::value::Shape;

/// How often arguments are chosen anew until an operation is valid.
const ATTEMPTS: u64 = 12;

impl<'a> Builder<'a> {
    /// Any operator, or one that only moves elements.
    pub(super) fn operation(&mut self, seed: u64, moves: bool) {
        let fits = |operator: &&&Operator| operator.moves || !moves;
        let operators: Vec<&'a Operator> = self.operators.iter().filter(fits).copied().collect();
        for attempt in 0..ATTEMPTS {
            // Another operator where one finds no arguments.
            let Some(operator) = Choices::new(seed ^ (attempt / 6)).of(&operators).copied() else {
                return;
            };
            let mut choices = Choices::new(seed.wrapping_add(attempt));
            let Some(made) = self.operation_on(operator, None, &mut choices) else { continue };
            // Movements of movements are what views of views come from.
            if moves && choices.one_in(3) {
                self.operation_on(operator, Some(made), &mut choices);
            }
            return;
        }
    }

    /// An operation whose first value is this one, if one is given; gives its first result.
    fn operation_on(
        &mut self,
        operator: &'a Operator,
        first: Option<usize>,
        choices: &mut Choices,
    ) -> Option<usize> {
        let outputs = 1 + choices.below(3);
        let arguments = self.arguments(operator, first, outputs, choices)?;
        self.add(operator, arguments, outputs, choices.number())?.first().copied()
    }

    /// Arguments like those of one of the operator's examples.
    fn arguments(
        &mut self,
        operator: &'a Operator,
        first: Option<usize>,
        outputs: usize,
        choices: &mut Choices,
    ) -> Option<Arguments> {
        let example = choices.of(&operator.examples)?;
        let mut chosen =
            Chosen { example, outputs, wanted: first, first: None, arguments: Vec::new() };
        for argument in operator.definition.arguments {
            let slots = self.slots(argument, &mut chosen, choices)?;
            if !slots.is_empty() {
                chosen.arguments.push((argument.name, slots));
            }
        }
        Some(chosen.arguments)
    }

    /// What an argument is bound to; nothing if it is left out. `None` if there is nothing for it.
    fn slots(
        &mut self,
        argument: &Argument,
        chosen: &mut Chosen,
        choices: &mut Choices,
    ) -> Option<Vec<Slot>> {
        let shown = chosen.example.get(argument.name);
        if argument.kind == Kind::Tensors {
            let count = shown.map_or(1, |_| 1 + choices.below(3));
            return (0..count).map(|_| self.value(argument, chosen, choices)).collect();
        }
        let constant_shown = match shown {
            Some(Some(values)) => values.first(),
            Some(None) => return Some(vec![self.value(argument, chosen, choices)?]),
            None if choices.one_in(3) => None,
            None => return Some(Vec::new()),
        };
        if !argument.constant && choices.one_in(3) && constant_shown.is_some() {
            return Some(vec![self.value(argument, chosen, choices)?]);
        }
        let meant = match chosen.first {
            Some(first) if !choices.one_in(4) => {
                let subject = self.subject(first, chosen.outputs);
                constant(argument, constant_shown, &subject, choices)
            }
            _ => None,
        };
        let value = meant.or_else(|| constant_shown.cloned());
        Some(value.map(Slot::Constant).into_iter().collect())
    }

    /// A value of the pool for an argument, or now and then a constant of such a type.
    fn value(
        &mut self,
        argument: &Argument,
        chosen: &mut Chosen,
        choices: &mut Choices,
    ) -> Option<Slot> {
        let element = chosen.element_for(argument, self);
        let shape = chosen.first.map(|first| self.pool[first].ty.shape.clone());
        let allowed = |ty: ElementType| {
            (argument.types.is_empty() || argument.types.contains(&ty))
                && element.is_none_or(|element| element == ty)
        };
        if argument.name == "indices" {
            return self.indices(chosen.first?, choices);
        }
        if let Some(first) = chosen.first.filter(|_| choices.one_in(8)) {
            let element = element.or(argument.types.first().copied())?;
            let shape =
                if choices.one_in(2) { Shape::new() } else { self.shapes(first)[0].clone() };
            let is_small = element.bits() >= 8;
            return is_small.then(|| Slot::Constant(numbers(element, &shape, choices)));
        }
        if let Some(wanted) = chosen.wanted.take() {
            chosen.first = Some(wanted);
            return allowed(self.pool[wanted].ty.element).then_some(Slot::Pooled(wanted));
        }
        let alike = choices.one_in(2);
        let found = self
            .pick(choices, |value| {
                allowed(value.ty.element)
                    && (!alike || shape.as_ref().is_none_or(|shape| *shape == value.ty.shape))
            })
            .or_else(|| self.pick(choices, |value| allowed(value.ty.element)))
            .or_else(|| self.flags(argument, choices))?;
        chosen.first = chosen.first.or(Some(found));
        Some(Slot::Pooled(found))
    }

    /// Bools, where an argument wants some.
    fn flags(&mut self, argument: &Argument, choices: &mut Choices) -> Option<usize> {
        if !argument.types.contains(&ElementType::Bool) {
            return None;
        }
        let number = |ty: ElementType| matches!(ty, ElementType::Float32 | ElementType::Int32);
        let x = self.pick(choices, |value| number(value.ty.element))?;
        let zero = match self.pool[x].ty.element {
            ElementType::Int32 => int(0),
            _ => float(0.0),
        };
        let arguments = vec![("x", vec![Slot::Pooled(x)]), ("y", vec![Slot::Constant(zero)])];
        self.call("greater", arguments, choices.number())
    }

    /// Indices that the axes of a value have.
    fn indices(&mut self, of: usize, choices: &mut Choices) -> Option<Slot> {
        let shape = self.pool[of].ty.shape.clone();
        let alike = choices.one_in(2);
        let fits =
            |ty: &TensorType| ty.element == ElementType::Int32 && (!alike || ty.shape == shape);
        let index = self.pick(choices, |value| fits(&value.ty))?;
        let subject = self.subject(of, 1);
        let least = (0..subject.shape.len()).map(|axis| subject.least(axis)).min()?;
        let size = Slot::Constant(int(least.max(1) as i32));
        let arguments = vec![("x", vec![Slot::Pooled(index)]), ("y", vec![size])];
        self.call("mod", arguments, choices.number()).map(Slot::Pooled)
    }

    /// A part of a value, taken or replaced, whose place the runs tell.
    pub(super) fn part(&mut self, seed: u64) -> Option<()> {
        let mut choices = Choices::new(seed);
        let x = self.pick(&mut choices, |value| !value.ty.shape.is_empty())?;
        let replaced = choices.one_in(2);
        self.part_of(x, replaced, &mut choices).map(drop)
    }

    /// A part of `x`, or `x` with it replaced.
    pub(super) fn part_of(
        &mut self,
        x: usize,
        replaced: bool,
        choices: &mut Choices,
    ) -> Option<usize> {
        let subject = self.subject(x, 1);
        let rank = subject.shape.len();
        let least: Vec<i32> = (0..rank).map(|axis| subject.least(axis) as i32).collect();
        let sizes: Vec<i32> =
            least.iter().map(|&size| choices.between(size.min(1), size)).collect();
        let places: Vec<i32> = least.iter().zip(&sizes).map(|(all, part)| all - part + 1).collect();
        let begin = self.places(&places, choices)?;
        let mark = choices.number();
        let size = Slot::Constant(ints(&sizes));
        if !replaced {
            let arguments =
                vec![("x", vec![Slot::Pooled(x)]), ("begin", vec![begin]), ("size", vec![size])];
            return self.call("slice_by_size", arguments, mark);
        }
        let arguments = vec![("x", vec![begin.clone()]), ("y", vec![size])];
        let end = Slot::Pooled(self.call("add", arguments, choices.number())?);
        let part = vec![("begin", vec![begin]), ("end", vec![end])];
        let element = self.pool[x].ty.element;
        let sizes: Vec<usize> = sizes.iter().map(|&size| size as usize).collect();
        let update = match choices.one_in(3) {
            true => Slot::Constant(numbers(element, &sizes, choices)),
            false => Slot::Pooled(self.like(&sizes, element, x, &part, choices)?),
        };
        let mut arguments = vec![("x", vec![Slot::Pooled(x)]), ("update", vec![update])];
        arguments.extend(part);
        self.call("slice_update", arguments, mark)
    }

    /// A value of these sizes: one that there is, or a part of one like `x`.
    fn like(
        &mut self,
        sizes: &[usize],
        element: ElementType,
        x: usize,
        part: &Arguments,
        choices: &mut Choices,
    ) -> Option<usize> {
        let fits = |ty: &TensorType| {
            ty.element == element && ty.fixed_shape().is_some_and(|shape| shape == sizes)
        };
        if let Some(found) = self.pick(choices, |value| fits(&value.ty)) {
            return Some(found);
        }
        let whole = self.pool[x].ty.clone();
        let other = self.pick(choices, |value| value.ty == whole)?;
        let mut arguments = vec![("x", vec![Slot::Pooled(other)])];
        arguments.extend(part.iter().cloned());
        self.call("slice_by_index", arguments, choices.number())
    }

    /// Places below these sizes, one for each axis, that follow from an input.
    fn places(&mut self, sizes: &[i32], choices: &mut Choices) -> Option<Slot> {
        let scalar = |ty: &TensorType| ty.element == ElementType::Int32 && ty.shape.is_empty();
        let known = |builder: &Self, index: usize| builder.contents(index).is_some();
        let scalars: Vec<usize> = (0..self.pool.len())
            .filter(|&index| scalar(&self.pool[index].ty) && known(self, index))
            .collect();
        let number = choices.marked(&scalars, |index| self.pool[index].mark)?;
        let shifts: Vec<i32> = sizes.iter().map(|_| choices.between(0, 3)).collect();
        let arguments =
            vec![("x", vec![Slot::Pooled(number)]), ("y", vec![Slot::Constant(ints(&shifts))])];
        let shifted = self.call("add", arguments, choices.number())?;
        let arguments =
            vec![("x", vec![Slot::Pooled(shifted)]), ("y", vec![Slot::Constant(ints(sizes))])];
        self.call("mod", arguments, choices.number()).map(Slot::Pooled)
    }

    /// What rewrites look for, which chance alone would hardly make.
    pub(super) fn idiom(&mut self, seed: u64) -> Option<()> {
        let mut choices = Choices::new(seed);
        let is_float = |ty: ElementType| matches!(ty, ElementType::Float16 | ElementType::Float32);
        let x = self
            .pick(&mut choices, |value| is_float(value.ty.element) && !value.ty.shape.is_empty())?;
        match choices.below(6) {
            0 => self.product_with_sigmoid(x, &mut choices),
            1 => self.norm_of_both_signs(x, &mut choices),
            2 => self.products_around_softmax(x, &mut choices),
            3 => self.rotated_halves(x, &mut choices),
            4 => self.root_mean_square(x, &mut choices),
            _ => self.repeated_operand(x, &mut choices),
        }
        .map(drop)
    }

    fn product_with_sigmoid(&mut self, x: usize, choices: &mut Choices) -> Option<usize> {
        let sigmoid = self.call("sigmoid", vec![("x", vec![Slot::Pooled(x)])], choices.number())?;
        let (a, b) = if choices.one_in(2) { (x, sigmoid) } else { (sigmoid, x) };
        let product = self.binary("mul", a, Slot::Pooled(b), choices)?;
        let ty = self.pool[x].ty.clone();
        let other = self.pick(choices, |value| value.ty == ty)?;
        self.binary("mul", product, Slot::Pooled(other), choices)
    }

    fn norm_of_both_signs(&mut self, x: usize, choices: &mut Choices) -> Option<usize> {
        let shapes = self.shapes(x);
        let (rank, last) = (shapes[0].len(), *shapes[0].last()?);
        let minus = Slot::Constant(float(-1.0));
        let negative = self.call(
            "mul",
            vec![("x", vec![Slot::Pooled(x)]), ("y", vec![minus])],
            choices.number(),
        )?;
        let values = vec![Slot::Pooled(x), Slot::Pooled(negative)];
        let arguments = vec![
            ("values", values),
            ("axis", vec![Slot::Constant(int(-1))]),
            ("interleave", vec![Slot::Constant(bool(false))]),
        ];
        let both = self.call("concat", arguments, choices.number())?;
        let axes = ints(&[if choices.one_in(2) { -1 } else { rank as i32 - 1 }]);
        let arguments = vec![
            ("x", vec![Slot::Pooled(both)]),
            ("axes", vec![Slot::Constant(axes)]),
            ("epsilon", vec![Slot::Constant(float(0.01))]),
        ];
        let norm = self.call("layer_norm", arguments, choices.number())?;
        let mut size = vec![-1; rank];
        size[rank - 1] = last as i32;
        let arguments = vec![
            ("x", vec![Slot::Pooled(norm)]),
            ("begin", vec![Slot::Constant(ints(&vec![0; rank]))]),
            ("size", vec![Slot::Constant(ints(&size))]),
        ];
        self.call("slice_by_size", arguments, choices.number())
    }

    /// An operation of two values.
    fn binary(
        &mut self,
        operator: &str,
        x: usize,
        y: Slot,
        choices: &mut Choices,
    ) -> Option<usize> {
        let arguments = vec![("x", vec![Slot::Pooled(x)]), ("y", vec![y])];
        self.call(operator, arguments, choices.number())
    }

    fn rotated_halves(&mut self, x: usize, choices: &mut Choices) -> Option<usize> {
        let ty = self.pool[x].ty.clone();
        let cos = self.pick(choices, |value| value.ty == ty)?;
        let sin = self.pick(choices, |value| value.ty == ty)?;
        let shape = self.shapes(x)[0].clone();
        let (rank, last) = (shape.len(), *shape.last()? as i32);
        let mut half = |builder: &mut Self, first: i32, size: i32| {
            let (mut begin, mut sizes) = (vec![0; rank], vec![-1; rank]);
            (begin[rank - 1], sizes[rank - 1]) = (first, size);
            let arguments = vec![
                ("x", vec![Slot::Pooled(x)]),
                ("begin", vec![Slot::Constant(ints(&begin))]),
                ("size", vec![Slot::Constant(ints(&sizes))]),
            ];
            builder.call("slice_by_size", arguments, choices.number())
        };
        // Elsewhere as a rule these are no halves.
        let middle = if last % 2 == 0 { last / 2 } else { 1 };
        let (first, second) = (half(self, 0, middle)?, half(self, middle, last - middle)?);
        let minus = Slot::Constant(float(-1.0));
        let negative = self.binary("mul", second, minus, choices)?;
        let arguments = vec![
            ("values", vec![Slot::Pooled(negative), Slot::Pooled(first)]),
            ("axis", vec![Slot::Constant(int(-1))]),
            ("interleave", vec![Slot::Constant(bool(false))]),
        ];
        let turned = self.call("concat", arguments, choices.number())?;
        let straight = self.binary("mul", x, Slot::Pooled(cos), choices)?;
        let across = self.binary("mul", turned, Slot::Pooled(sin), choices)?;
        self.binary("add", straight, Slot::Pooled(across), choices)
    }

    /// Now and then with factors.
    fn root_mean_square(&mut self, x: usize, choices: &mut Choices) -> Option<usize> {
        let squares = self.binary("mul", x, Slot::Pooled(x), choices)?;
        let axis = if choices.one_in(6) { 0 } else { -1 };
        let arguments = vec![
            ("x", vec![Slot::Pooled(squares)]),
            ("axes", vec![Slot::Constant(ints(&[axis]))]),
            ("keep_dims", vec![Slot::Constant(bool(true))]),
        ];
        let mean = self.call("reduce_mean", arguments, choices.number())?;
        let shifted = self.binary("add", mean, Slot::Constant(float(0.5)), choices)?;
        let root =
            self.call("rsqrt", vec![("x", vec![Slot::Pooled(shifted)])], choices.number())?;
        let norm = self.binary("mul", x, Slot::Pooled(root), choices)?;
        let last = *self.shapes(x)[0].last()?;
        let factors =
            self.pick(choices, |value| value.ty.fixed_shape().is_some_and(|shape| shape == [last]));
        let Some(factors) = factors else { return Some(norm) };
        self.binary("mul", norm, Slot::Pooled(factors), choices)
    }

    fn products_around_softmax(&mut self, query: usize, choices: &mut Choices) -> Option<usize> {
        let ty = self.pool[query].ty.clone();
        let key = self.pick(choices, |value| value.ty == ty)?;
        let value = self.pick(choices, |value| value.ty == ty)?;
        let mut scores = self.product(query, key, true, choices)?;
        if choices.one_in(2) {
            let operator = if choices.one_in(2) { "mul" } else { "real_div" };
            scores = self.binary(operator, scores, Slot::Constant(float(0.5)), choices)?;
        }
        if choices.one_in(2) {
            let ty = self.pool[scores].ty.clone();
            let mask = self.pick(choices, |value| value.ty == ty)?;
            scores = self.binary("add", scores, Slot::Pooled(mask), choices)?;
        }
        let axis = if choices.one_in(6) { -2 } else { -1 };
        let arguments =
            vec![("x", vec![Slot::Pooled(scores)]), ("axis", vec![Slot::Constant(int(axis))])];
        let weights = self.call("softmax", arguments, choices.number())?;
        self.product(weights, value, false, choices)
    }

    fn product(
        &mut self,
        x: usize,
        y: usize,
        transpose_y: bool,
        choices: &mut Choices,
    ) -> Option<usize> {
        let arguments = vec![
            ("x", vec![Slot::Pooled(x)]),
            ("y", vec![Slot::Pooled(y)]),
            ("transpose_x", vec![Slot::Constant(bool(false))]),
            ("transpose_y", vec![Slot::Constant(bool(transpose_y))]),
        ];
        self.call("matmul", arguments, choices.number())
    }

    fn repeated_operand(&mut self, x: usize, choices: &mut Choices) -> Option<usize> {
        let shapes: [Shape; RUNS] = self.shapes(x);
        let [.., batch, _, _] = shapes[0].as_slice() else { return None };
        let (rank, times) = (shapes[0].len(), choices.between(1, 3));
        // Elsewhere as a rule it is no repetition of whole matrices.
        let axis = if choices.one_in(4) { choices.below(rank) } else { rank - 2 };
        let along = if choices.one_in(4) { choices.below(rank + 1) } else { axis };
        let arguments = vec![
            ("x", vec![Slot::Pooled(x)]),
            ("axes", vec![Slot::Constant(ints(&[axis as i32]))]),
        ];
        let expanded = self.call("expand_dims", arguments, choices.number())?;
        let mut reps = vec![1; rank + 1];
        reps[along] = times;
        let arguments =
            vec![("x", vec![Slot::Pooled(expanded)]), ("reps", vec![Slot::Constant(ints(&reps))])];
        let tiled = self.call("tile", arguments, choices.number())?;
        let mut shape: Vec<i32> =
            self.subject(x, 1).shape.iter().map(|sizes| sizes[0] as i32).collect();
        shape[rank - 3] = *batch as i32 * times;
        for (axis, size) in shape.iter_mut().enumerate() {
            if shapes.iter().any(|shape| shape[axis] != shapes[0][axis]) {
                *size = -1;
            }
        }
        let arguments =
            vec![("x", vec![Slot::Pooled(tiled)]), ("shape", vec![Slot::Constant(ints(&shape))])];
        let repeated = self.call("reshape", arguments, choices.number())?;
        let ty = self.pool[repeated].ty.clone();
        let other = self.pick(choices, |value| value.ty == ty)?;
        self.product(other, repeated, true, choices)
    }
}

/// The arguments of an operation so far.
struct Chosen<'e> {
    example: &'e Example,
    outputs: usize,
    /// What the first value is to be.
    wanted: Option<usize>,
    /// The first value of the pool.
    first: Option<usize>,
    arguments: Arguments,
}

impl Chosen<'_> {
    /// The element type that an argument has to have: that of others of its type parameter, and of
    /// the same list.
    fn element_for(&self, argument: &Argument, builder: &Builder) -> Option<ElementType> {
        let first = self
            .first
            .filter(|_| argument.type_parameter.is_some() || argument.kind == Kind::Tensors)?;
        Some(builder.pool[first].ty.element)
    }
}

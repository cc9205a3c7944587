//! Integers that are narrowed only to be moved keep their values.
//!
//! coremltools' pass `add_int16_cast` lets `gather`, `gather_along_axis`, `gather_nd`, `squeeze` and `topk`
//! run on 16 bits, with casts of their `int32` operands and back around each. It does so by default, without
//! knowing the values: what was `int32` in the original model is meant to come through, and does where the
//! casts are no-ops of a runtime that holds both types alike. So: what a cast `int32` → `int16` or `uint16`
//! gives, was moved by one operation or more, and is cast to a wider type again, is moved as `int32`; and
//! places given in 16 bits are read from before their cast. Every other cast wraps as NumPy's `astype`.
//!
//! This is no rewrite for speed and is made always, so that results do not hang on
//! [`Rewrites`](super::Rewrites).

use std::collections::HashMap;
use std::rc::Rc;

use coreml_format::mil::{ElementType, TensorType};

use super::fold::is_sixteen_bits;
use super::rewrite::{Counts, unused};
use crate::graph::{
    Block, Graph, Node, Origin, Run, Source, Value, Work, for_each_read, nested_mut,
};
use crate::ids::{Operand, ValueId};
use crate::op::{Frame, Inputs, Moves};
use crate::ops::{Cast, TopK};
use crate::value::Storage;

/// Name of the pass among the rewrites' counts.
pub(crate) const NAME: &str = "integers kept through 16 bits";

/// Lets integers that a graph narrows only to move them keep their values.
pub(crate) fn keep_values(graph: &mut Graph, counts: &mut Counts) {
    let mut body = std::mem::take(&mut graph.body);
    let mut keeper = Keeper {
        graph,
        narrow: HashMap::new(),
        wide: HashMap::new(),
        renamed: HashMap::new(),
        kept: 0,
    };
    keeper.block(&mut body);
    let kept = keeper.kept;
    if kept > 0 {
        // What was narrow may fail where what is wide does not.
        unused::drop_unused(&mut body, graph);
        (0..kept).for_each(|_| counts.add(NAME));
    }
    graph.body = body;
}

/// Where a value of 16 bits comes from.
enum Narrow {
    /// A cast of this operand; `moved` tells whether more than that has happened to it.
    Cast { from: Operand, moved: bool },
    /// An operation that moves elements.
    Moved { moves: Moves, inputs: Vec<Operand>, outputs: Vec<ValueId>, source: Source },
}

/// One pass over all operations.
struct Keeper<'a> {
    graph: &'a mut Graph,
    narrow: HashMap<ValueId, Rc<Narrow>>,
    /// Values of `int32` in the place of narrow ones.
    wide: HashMap<ValueId, Operand>,
    /// Results of casts that others have taken the place of.
    renamed: HashMap<ValueId, Operand>,
    kept: usize,
}

impl Keeper<'_> {
    fn block(&mut self, block: &mut Block) {
        // What is made in a block is not there outside of it.
        let outside = self.wide.clone();
        for mut node in std::mem::take(&mut block.nodes) {
            for_each_read(&mut node, |operand| *operand = self.now(*operand));
            nested_mut(&mut node).into_iter().for_each(|block| self.block(block));
            let Work::Run(run) = &mut node.work else {
                block.nodes.push(node);
                continue;
            };
            self.read_wide_places(run, &mut block.nodes);
            if self.widens(run, &mut block.nodes) {
                continue;
            }
            let after = self.note(run, &node.source);
            block.nodes.push(node);
            block.nodes.extend(after);
        }
        block.results.iter_mut().for_each(|operand| *operand = self.now(*operand));
        self.wide = outside;
    }

    /// What stands for an operand by now.
    fn now(&self, operand: Operand) -> Operand {
        match operand {
            Operand::Value(value) => self.renamed.get(&value).copied().unwrap_or(operand),
            Operand::Constant(_) => operand,
        }
    }

    /// Lets an operation read its places from before their casts.
    fn read_wide_places(&mut self, run: &mut Run, before: &mut Vec<Node>) {
        for place in run.op.places() {
            let Some(Operand::Value(value)) = run.inputs.get(place).copied() else { continue };
            if let Some(wide) = self.wide(value, before) {
                run.inputs[place] = wide;
                self.kept += 1;
            }
        }
    }

    /// Lets a cast from 16 bits to more read what was moved as `int32`; true if nothing remains to do.
    fn widens(&mut self, run: &mut Run, before: &mut Vec<Node>) -> bool {
        let (Some(cast), &[Operand::Value(x)]) = (run.op.downcast::<Cast>(), run.inputs.as_slice())
        else {
            return false;
        };
        let to = cast.to;
        let moved = match self.narrow.get(&x).map(|narrow| &**narrow) {
            Some(Narrow::Cast { moved, .. }) => *moved,
            Some(Narrow::Moved { .. }) => true,
            None => false,
        };
        if !moved || matches!(to, ElementType::Int8 | ElementType::UInt8) || is_sixteen_bits(to) {
            return false;
        }
        let Some(wide) = self.wide(x, before) else { return false };
        self.kept += 1;
        if let (ElementType::Int32, Some(&output)) = (to, run.outputs.first()) {
            self.renamed.insert(output, wide);
            return true;
        }
        run.inputs[0] = wide;
        false
    }

    /// The `int32` that a narrow value was or would be; operations that it takes go to `before`.
    fn wide(&mut self, value: ValueId, before: &mut Vec<Node>) -> Option<Operand> {
        // A loop and no recursion: a program may move a value any number of times.
        let mut open = vec![value];
        while let Some(&last) = open.last() {
            match self.missing(last) {
                Some(first) => open.push(first),
                None => {
                    self.make(last, before)?;
                    open.pop();
                }
            }
        }
        self.made(value)
    }

    /// The `int32` of a narrow value, if it is there.
    fn made(&self, value: ValueId) -> Option<Operand> {
        let from_cast = || match &**self.narrow.get(&value)? {
            Narrow::Cast { from, .. } => Some(*from),
            Narrow::Moved { .. } => None,
        };
        self.wide.get(&value).copied().or_else(from_cast)
    }

    /// A narrow value whose `int32` has to be there before that of this one.
    fn missing(&self, value: ValueId) -> Option<ValueId> {
        if self.made(value).is_some() {
            return None;
        }
        let Narrow::Moved { moves, inputs, .. } = &**self.narrow.get(&value)? else { return None };
        moves.from.iter().find_map(|&input| match *inputs.get(input)? {
            Operand::Value(input) => {
                let narrow = is_sixteen_bits(self.graph.values[input].element);
                (narrow && self.made(input).is_none()).then_some(input)
            }
            Operand::Constant(_) => None,
        })
    }

    /// Makes the `int32` of a narrow value out of those of what it was moved from.
    fn make(&mut self, value: ValueId, before: &mut Vec<Node>) -> Option<()> {
        if self.made(value).is_some() {
            return Some(());
        }
        let narrow = self.narrow.get(&value)?.clone();
        let Narrow::Moved { moves, inputs, outputs, source } = &*narrow else { return None };
        let mut inputs = inputs.clone();
        for &input in &moves.from {
            inputs[input] = self.wide_operand(*inputs.get(input)?, source, before)?;
        }
        let op = moves.wide.moves()?.wide;
        let types = op.infer(&Inputs::new(&inputs, self.graph)).ok();
        let mut made = Vec::with_capacity(outputs.len());
        for (number, &output) in outputs.iter().enumerate() {
            let like = self.graph.values[output].clone();
            let element =
                if is_sixteen_bits(like.element) { ElementType::Int32 } else { like.element };
            if types.as_ref().is_some_and(|types| types[number].element != element) {
                return None;
            }
            made.push(self.graph.values.add(Value {
                element,
                storage: Storage::natural(element)?,
                declared: like.declared.map(|declared| TensorType { element, ..declared }),
                origin: Origin::Own,
                ..like
            }));
        }
        for (&output, &wide) in outputs.iter().zip(&made) {
            self.wide.insert(output, Operand::Value(wide));
        }
        let work = Work::Run(Run::new(op, inputs, made));
        before.push(Node { source: source.clone(), work });
        Some(())
    }

    /// An operand whose elements are moved: as `int32` if they are narrow.
    fn wide_operand(
        &mut self,
        operand: Operand,
        source: &Source,
        before: &mut Vec<Node>,
    ) -> Option<Operand> {
        let (element, _) = self.graph.kind(operand);
        match operand {
            _ if !is_sixteen_bits(element) => Some(operand),
            Operand::Value(value) => self.made(value),
            Operand::Constant(_) => {
                let shape = self.graph.shape(operand)?.into();
                let value = Value {
                    name: source.name.clone(),
                    element: ElementType::Int32,
                    storage: Storage::I32,
                    shape: Some(shape),
                    declared: None,
                    origin: Origin::Own,
                };
                let (value, work) = self.cast(operand, value);
                before.push(Node { source: source.clone(), work });
                Some(Operand::Value(value))
            }
        }
    }

    /// A cast that gives this value.
    fn cast(&mut self, x: Operand, value: Value) -> (ValueId, Work) {
        let cast = Cast { x: 0, to: value.element, in_place: None };
        let value = self.graph.values.add(value);
        (value, Work::Run(Run::new(Box::new(cast), vec![x], [value])))
    }

    /// Notes where an operation's narrow results come from; gives what has to run after it.
    fn note(&mut self, run: &mut Run, source: &Source) -> Option<Node> {
        let element = |keeper: &Self, operand: Operand| keeper.graph.kind(operand).0;
        if let (Some(cast), &[x], Some(&output)) =
            (run.op.downcast::<Cast>(), run.inputs.as_slice(), run.outputs.first())
        {
            if is_sixteen_bits(cast.to) && element(self, x) == ElementType::Int32 {
                let narrow = Narrow::Cast { from: x, moved: false };
                self.narrow.insert(output, narrow.into());
            }
            return None;
        }
        let moves = run.op.moves()?;
        let from = || moves.from.iter().filter_map(|&input| run.inputs.get(input).copied());
        let is_known = |operand: Operand| match operand {
            Operand::Value(value) => self.narrow.contains_key(&value),
            Operand::Constant(_) => true,
        };
        let of_casts = from().any(|x| matches!(x, Operand::Value(_)) && is_known(x));
        if of_casts && from().all(|x| !is_sixteen_bits(element(self, x)) || is_known(x)) {
            let (inputs, outputs) = (run.inputs.clone(), run.outputs.to_vec());
            let narrow = Narrow::Moved { moves, inputs, outputs, source: source.clone() };
            let narrow = Rc::new(narrow);
            for &output in &run.outputs {
                if is_sixteen_bits(self.graph.values[output].element) {
                    self.narrow.insert(output, narrow.clone());
                }
            }
            return None;
        }
        self.note_indices(run, moves, source)
    }

    /// Lets a `topk` of many elements give its indices as `int32`, which a cast narrows.
    fn note_indices(&mut self, run: &mut Run, moves: Moves, source: &Source) -> Option<Node> {
        let topk = run.op.downcast::<TopK>()?;
        let &[_, indices] = run.outputs.as_slice() else { return None };
        let narrow = self.graph.values[indices].clone();
        let size = run.inputs.get(topk.x).and_then(|&x| topk.size(self.graph.shape(x)?));
        if !is_sixteen_bits(narrow.element) || size.is_some_and(|size| size <= 1 << 15) {
            return None;
        }
        let wide = Value {
            element: ElementType::Int32,
            storage: Storage::I32,
            declared: narrow
                .declared
                .clone()
                .map(|declared| TensorType { element: ElementType::Int32, ..declared }),
            ..narrow.clone()
        };
        let wide = Operand::Value(self.graph.values.add(wide));
        run.op = moves.wide;
        let Operand::Value(id) = wide else { return None };
        run.outputs[1] = id;
        self.narrow.insert(indices, Narrow::Cast { from: wide, moved: true }.into());
        let cast = Cast { x: 0, to: narrow.element, in_place: None };
        let work = Work::Run(Run::new(Box::new(cast), vec![wide], [indices]));
        Some(Node { source: source.clone(), work })
    }
}

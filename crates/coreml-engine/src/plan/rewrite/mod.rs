//! Rewrites: patterns of operations replaced by others that compute the same faster.
//!
//! A [`Rule`] is a small [`Pattern`] and what takes its place. Rules are tried on every operation, in
//! order, until nothing changes; each has a name, is counted and bounded, and says what it does to
//! results. After each replacement the driver infers the result's type again:
//! it has to be what it was. Replaced operations keep their names, for errors and profiles.

mod attention;
mod moves;
mod norm;
mod pattern;
mod repeat;
mod rotary;
mod silu;
#[cfg(test)]
mod tests;
pub(super) mod unused;

use std::collections::HashMap;
use std::fmt;

use coreml_format::mil::TensorType;

pub(crate) use self::pattern::{Match, Pattern, any, first_of, op};
use crate::error::{Error, OpError, Result};
use crate::graph::{
    Block, Graph, Node, Origin, Run, Source, Value, Work, for_each_read, nested_mut,
};
use crate::ids::{Operand, ValueId};
use crate::op::{Inputs, Op, ResultTypes};
use crate::plan::rounding::Precision;
use crate::value::Storage;

/// Which patterns of operations are replaced by others that compute the same faster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rewrites {
    /// None, and what nothing reads stays as well.
    Off,
    /// Those whose results are the same bit for bit.
    Exact,
    /// All, also those that round otherwise.
    #[default]
    All,
}

/// What a rule does to results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// They are the same, bit for bit.
    Exact,
    /// Sums may be added up in another order.
    Order,
    /// A value in between that the program rounds is not made.
    Fusion,
}

impl Effect {
    /// Whether a rule with this effect is used.
    fn is_wanted(self, rewrites: Rewrites, precision: Precision) -> bool {
        match self {
            Effect::Exact => rewrites != Rewrites::Off,
            Effect::Order => rewrites == Rewrites::All,
            Effect::Fusion => rewrites == Rewrites::All && precision == Precision::Single,
        }
    }
}

/// A rewrite.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    /// What is replaced: the operation in question, and what it reads.
    pub(crate) pattern: fn() -> Pattern,
    /// What takes the place of a match; `None` where more has to hold and does not.
    pub(crate) replace: fn(&mut Site, &Match) -> Option<Replacement>,
}

/// All rules, in the order in which they are tried on an operation.
pub(crate) const RULES: &[Rule] = &[
    moves::NOTHING_MOVES,
    moves::RESHAPE_OF_RESHAPE,
    moves::TRANSPOSE_OF_TRANSPOSE,
    repeat::REPEATED_OPERAND,
    attention::PRODUCTS_AROUND_SOFTMAX,
    repeat::REPEATED_KEYS,
    repeat::REPEATED_VALUES,
    silu::PRODUCT_WITH_SIGMOID,
    silu::GATE,
    norm::NORM_OF_BOTH_SIGNS,
    norm::ROOT_MEAN_SQUARE,
    norm::SCALED_NORM,
    rotary::ROTATED_HALVES,
];

/// Sweeps over a graph after which it is left as it is.
const MOST_SWEEPS: usize = 4;

/// What takes the place of an operation.
pub(crate) enum Replacement {
    /// Another operation with the same results.
    Run(Box<dyn Op>, Vec<Operand>),
    /// A value that is there already.
    Operand(Operand),
}

/// How often each rule was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(Vec<(&'static str, usize)>);

impl Counts {
    /// Counts a use of the rule of this name.
    pub(crate) fn add(&mut self, name: &'static str) {
        match self.0.iter_mut().find(|count| count.0 == name) {
            Some(count) => count.1 += 1,
            None => self.0.push((name, 1)),
        }
    }

    /// How often the rule of this name was used.
    #[cfg(test)]
    pub(crate) fn of(&self, name: &str) -> usize {
        self.0.iter().find(|count| count.0 == name).map_or(0, |count| count.1)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, count)| writeln!(f, "rewrite {name}: {count} times"))
    }
}

/// Applies the rules to a graph, counting uses, and drops what nothing reads.
pub(crate) fn rewrite(
    function: &str,
    graph: &mut Graph,
    rewrites: Rewrites,
    precision: Precision,
    counts: &mut Counts,
) -> Result<()> {
    if rewrites == Rewrites::Off {
        return Ok(());
    }
    let rules: Vec<(&Rule, Pattern)> = RULES
        .iter()
        .filter(|rule| rule.effect.is_wanted(rewrites, precision))
        .map(|rule| (rule, (rule.pattern)()))
        .collect();
    let mut body = std::mem::take(&mut graph.body);
    for _ in 0..MOST_SWEEPS {
        let before = counts.clone();
        let (mut reads, renamed) = (HashMap::new(), HashMap::new());
        count_reads(&mut body, &mut reads);
        let mut sweep = Sweep { function, graph, rules: &rules, counts, reads, renamed };
        sweep.block(&mut body)?;
        if *counts == before {
            break;
        }
    }
    unused::drop_unused(&mut body, graph);
    graph.body = body;
    Ok(())
}

/// Counts how often each value is read.
fn count_reads(block: &mut Block, reads: &mut HashMap<ValueId, usize>) {
    let count = |operand: &mut Operand, reads: &mut HashMap<ValueId, usize>| {
        if let Operand::Value(value) = *operand {
            *reads.entry(value).or_default() += 1;
        }
    };
    block.results.iter_mut().for_each(|operand| count(operand, reads));
    for node in &mut block.nodes {
        for_each_read(node, |operand| count(operand, reads));
        nested_mut(node).into_iter().for_each(|block| count_reads(block, reads));
    }
}

/// One pass over all operations.
struct Sweep<'a> {
    function: &'a str,
    graph: &'a mut Graph,
    rules: &'a [(&'a Rule, Pattern)],
    counts: &'a mut Counts,
    /// How often each value was read when the pass began, also by what nothing reads by now.
    reads: HashMap<ValueId, usize>,
    /// Values that others have taken the place of.
    renamed: HashMap<ValueId, Operand>,
}

impl Sweep<'_> {
    fn block(&mut self, block: &mut Block) -> Result<()> {
        let nodes = std::mem::take(&mut block.nodes);
        let mut producers = Producers::default();
        for mut node in nodes {
            if !self.renamed.is_empty() {
                for_each_read(&mut node, |operand| *operand = self.now(*operand));
            }
            for inner in nested_mut(&mut node) {
                self.block(inner)?;
            }
            if let Some(node) = self.node(node, &mut block.nodes, &mut producers)? {
                producers.note(&node, block.nodes.len());
                block.nodes.push(node);
            }
        }
        block.results.iter_mut().for_each(|operand| *operand = self.now(*operand));
        Ok(())
    }

    /// What stands for an operand by now.
    fn now(&self, operand: Operand) -> Operand {
        match operand {
            Operand::Value(value) => self.renamed.get(&value).copied().unwrap_or(operand),
            Operand::Constant(_) => operand,
        }
    }

    /// The node itself or what takes its place; `nodes` are those before it.
    fn node(
        &mut self,
        mut node: Node,
        nodes: &mut Vec<Node>,
        producers: &mut Producers,
    ) -> Result<Option<Node>> {
        for (rule, pattern) in self.rules {
            let Work::Run(run) = &node.work else { break };
            let Some(found) = pattern.matches(run, nodes, producers) else { continue };
            let source = node.source.clone();
            let reads = &self.reads;
            let mut site = Site { graph: self.graph, reads, nodes: Vec::new(), source };
            let Some(replacement) = (rule.replace)(&mut site, &found) else { continue };
            let added = site.nodes;
            for node in added {
                producers.note(&node, nodes.len());
                nodes.push(node);
            }
            self.counts.add(rule.name);
            let outputs = run.outputs.clone();
            match replacement {
                Replacement::Operand(operand) => {
                    for &output in &outputs {
                        self.check(rule, output, operand)?;
                        self.renamed.insert(output, operand);
                    }
                    return Ok(None);
                }
                Replacement::Run(op, inputs) => {
                    let run = Run::new(op, inputs, outputs);
                    self.check_types(rule, &run)?;
                    node.work = Work::Run(run);
                }
            }
        }
        Ok(Some(node))
    }

    /// The value that takes another's place has its type.
    fn check(&self, rule: &Rule, output: ValueId, operand: Operand) -> Result<()> {
        use crate::op::Frame;
        let expected = &self.graph.values[output];
        let known = self.graph.shape(operand);
        let same_shape = expected.shape.is_none() || known == expected.shape.as_deref();
        if self.graph.kind(operand).0 == expected.element && same_shape {
            return Ok(());
        }
        Err(self.wrong(rule, &format!("changes the type of `{}`", expected.name)))
    }

    /// An operation's results have the types that the graph knows.
    fn check_types(&self, rule: &Rule, run: &Run) -> Result<()> {
        let types: ResultTypes = match run.op.infer(&Inputs::new(&run.inputs, self.graph)) {
            Ok(types) => types,
            Err(OpError::NotYetKnown) => return Ok(()),
            Err(error) => return Err(self.wrong(rule, &format!("fails: {error}"))),
        };
        for (&output, ty) in run.outputs.iter().zip(&types) {
            let value = &self.graph.values[output];
            let same = value.element == ty.element
                && value.shape.as_ref().is_none_or(|shape| *shape == ty.shape);
            if !same {
                return Err(self.wrong(rule, &format!("changes the type of `{}`", value.name)));
            }
        }
        Ok(())
    }

    fn wrong(&self, rule: &Rule, what: &str) -> Error {
        Error::Rewrite {
            function: self.function.to_owned(),
            rule: rule.name,
            message: what.to_owned(),
        }
    }
}

/// Which node of a block makes each value.
#[derive(Default)]
pub(crate) struct Producers(HashMap<ValueId, usize>);

impl Producers {
    fn note(&mut self, node: &Node, index: usize) {
        if let Some(run) = node.run() {
            self.0.extend(run.outputs.iter().map(|&output| (output, index)));
        }
    }

    /// The operation among `nodes` that makes an operand as its first result.
    pub(crate) fn of<'n>(&self, operand: Operand, nodes: &'n [Node]) -> Option<&'n Run> {
        let Operand::Value(value) = operand else { return None };
        let run = nodes.get(*self.0.get(&value)?)?.run()?;
        (run.outputs.first() == Some(&value)).then_some(run)
    }
}

/// Where a replacement is made: new operations go before the one that is replaced.
pub(crate) struct Site<'a> {
    pub(crate) graph: &'a mut Graph,
    reads: &'a HashMap<ValueId, usize>,
    nodes: Vec<Node>,
    source: Source,
}

/// The number that an operand is, if it is a constant of one element.
fn number(graph: &Graph, operand: Operand) -> Option<f32> {
    use crate::op::Frame;
    let tensor = graph.tensor(operand).filter(|tensor| tensor.len() == 1)?;
    tensor.scalar_f32().ok()
}

impl Site<'_> {
    /// Whether an operation has one result, which one operation reads at most: then it is worth nothing once
    /// another one computes it, too.
    pub(crate) fn is_read_once(&self, run: &Run) -> bool {
        let reads = |value: &ValueId| self.reads.get(value).copied().unwrap_or(0);
        matches!(run.outputs.as_slice(), [output] if reads(output) <= 1)
    }

    /// Adds an operation with one result of this name; `declared` tells what is known of its type
    /// where its shape is known only at run time.
    pub(crate) fn add(
        &mut self,
        op: impl Op,
        inputs: Vec<Operand>,
        name: &str,
        declared: TensorType,
    ) -> Option<Operand> {
        let types = match op.infer(&Inputs::new(&inputs, self.graph)) {
            Ok(types) => types.into_iter().next(),
            Err(OpError::NotYetKnown) => None,
            Err(_) => return None,
        };
        let value = self.graph.values.add(Value {
            name: name.to_owned(),
            element: declared.element,
            storage: Storage::natural(declared.element)?,
            shape: types.map(|ty| ty.shape),
            declared: Some(declared),
            origin: Origin::Own,
        });
        let work = Run::new(Box::new(op), inputs, [value]);
        self.nodes.push(Node { source: self.source.clone(), work: Work::Run(work) });
        Some(Operand::Value(value))
    }
}

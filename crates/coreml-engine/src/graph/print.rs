//! A graph as text: what `inspect --plan` shows and tests compare.

use std::fmt::Write;

use super::{Block, Graph, Node, Origin, Work};
use crate::ids::{Operand, ValueId};

/// The graph as text, a line for each node. `place` tells what a pass knows of where a value lives,
/// or nothing.
pub(crate) fn print(graph: &Graph, place: &dyn Fn(ValueId) -> Option<String>) -> String {
    let mut printer = Printer { graph, place, text: String::new() };
    for (id, state) in graph.states.enumerate() {
        let shape = state.shape.as_slice();
        let storage = state.storage;
        let _ = writeln!(
            printer.text,
            "state s{id:?} `{}`: {} {shape:?} as {storage:?}",
            state.name, state.element
        );
    }
    for id in graph.values.ids() {
        if let Origin::Input(position) = graph.values[id].origin {
            let _ = writeln!(printer.text, "input {position} {}", printer.value(id));
        }
    }
    printer.block(&graph.body, 0);
    printer.text
}

struct Printer<'a> {
    graph: &'a Graph,
    place: &'a dyn Fn(ValueId) -> Option<String>,
    text: String,
}

impl Printer<'_> {
    fn block(&mut self, block: &Block, depth: usize) {
        for node in &block.nodes {
            self.node(node, depth);
        }
        let results = self.operands(&block.results);
        self.line(depth, &format!("gives {results}"));
    }

    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.text, "{:indent$}{text}", "", indent = depth * 2);
    }

    fn node(&mut self, node: &Node, depth: usize) {
        match &node.work {
            Work::Run(run) => {
                let outputs: Vec<String> = run.outputs.iter().map(|&id| self.value(id)).collect();
                let inputs = self.operands(&run.inputs);
                let in_place = run
                    .in_place
                    .map_or(String::new(), |i| format!(" in place of {}", run.inputs[i]));
                let text = format!("{} = {:?}({inputs}){in_place}", outputs.join(", "), run.op);
                self.line(depth, &text);
            }
            Work::ReadState { state, value } => {
                let text = format!("{} = read s{state:?}", self.value(*value));
                self.line(depth, &text);
            }
            Work::WriteState { state, data } => {
                let data = self.operand(*data);
                self.line(depth, &format!("write s{state:?} <- {data}"));
            }
            Work::While(work) => {
                for variable in &work.variables {
                    let initial = self.operand(variable.initial);
                    let text =
                        format!("variable {} starts as {initial}", self.value(variable.value));
                    self.line(depth, &text);
                }
                self.line(depth, "while");
                self.block(&work.condition, depth + 1);
                self.line(depth, "do");
                self.block(&work.body, depth + 1);
            }
            Work::Cond(work) => {
                let outputs: Vec<String> = work.outputs.iter().map(|&id| self.value(id)).collect();
                let predicate = self.operand(work.predicate);
                self.line(depth, &format!("{} = if {predicate}", outputs.join(", ")));
                self.block(&work.branches[0], depth + 1);
                self.line(depth, "else");
                self.block(&work.branches[1], depth + 1);
            }
        }
    }

    fn operands(&self, operands: &[Operand]) -> String {
        let operands: Vec<String> = operands.iter().map(|&operand| self.operand(operand)).collect();
        operands.join(", ")
    }

    fn operand(&self, operand: Operand) -> String {
        match operand {
            Operand::Value(_) => operand.to_string(),
            Operand::Constant(id) => self.graph.constants[id].brief(),
        }
    }

    /// A value where it is defined: `v3 "name": fp16 [1, 2] as F32, view of v2 …`.
    fn value(&self, id: ValueId) -> String {
        let value = &self.graph.values[id];
        let shape = match &value.shape {
            Some(shape) => format!("{:?}", shape.as_slice()),
            None => "[?]".to_owned(),
        };
        let mut text =
            format!("v{id:?} `{}`: {} {shape} as {:?}", value.name, value.element, value.storage);
        match &value.origin {
            Origin::View { of, view, dense: true } => {
                let _ = write!(text, ", view of v{of:?} from {}", view.start);
            }
            Origin::View { of, view, .. } => {
                let strides = view.strides.as_slice();
                let _ = write!(text, ", view of v{of:?} from {} by {strides:?}", view.start);
            }
            Origin::Open { of } => {
                let _ = write!(text, ", perhaps a view of v{of:?}");
            }
            Origin::State(state) => {
                let _ = write!(text, ", state s{state:?}");
            }
            Origin::List => text.push_str(", list"),
            Origin::Own | Origin::Input(_) => {}
        }
        if let Some(place) = (self.place)(id) {
            let _ = write!(text, ", {place}");
        }
        text
    }
}

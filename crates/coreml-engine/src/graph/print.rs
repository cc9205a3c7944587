//! A graph as text: what `inspect --plan` shows and tests compare.
//!
//! A line a step, in columns: results, their types and how they are held, where they are, what is
//! computed, and the operation of the program. Columns have fixed widths, so that a change of one
//! step changes its line only.

mod words;

use std::fmt::Write;

use coreml_format::mil::ElementType;

use super::{Block, Graph, Node, Origin, Run, Source, Work};
use crate::ids::{Operand, StateId, ValueId};
use crate::op::Op;
use crate::value::Storage;

/// Widths of the columns, each with the space behind it; longer texts push the next ones on.
const NAME: usize = 6;
const TYPE: usize = 34;
const PLACE: usize = 26;
const CALL: usize = 76;

/// The graph as text. `outputs` are the names of its results, as far as they have some; `place` tells
/// what a pass knows of where a value lives, or nothing.
pub(crate) fn print(
    graph: &Graph,
    outputs: &[String],
    place: &dyn Fn(ValueId) -> Option<String>,
) -> String {
    let mut printer = Printer { graph, place, text: String::new(), steps: 0, views: 0 };
    for (id, state) in graph.states.enumerate() {
        let ty = kind(state.element, state.storage, Some(&state.shape));
        printer.line(0, &[&state_name(id), &ty, "state", &shown(&state.name)]);
    }
    for id in graph.values.ids() {
        if let Origin::Input(position) = graph.values[id].origin {
            let input = format!("input {position}");
            let words = shown(&graph.values[id].name);
            printer.line(0, &[&name(id), &printer.kind(id), &input, &words]);
        }
    }
    printer.nodes(&graph.body, 0);
    for (position, result) in graph.body.results.iter().enumerate() {
        let output = format!("output {position}");
        let words = outputs.get(position).map_or(String::new(), |name| shown(name));
        printer.line(0, &[&printer.operand(*result), "", &output, &words]);
    }
    let Printer { mut text, steps, views, .. } = printer;
    let _ = writeln!(text, "{steps} steps, {views} views");
    text
}

struct Printer<'a> {
    graph: &'a Graph,
    place: &'a dyn Fn(ValueId) -> Option<String>,
    text: String,
    /// What runs, and operations for which nothing has to.
    steps: usize,
    views: usize,
}

impl Printer<'_> {
    fn block(&mut self, block: &Block, depth: usize) {
        self.nodes(block, depth);
        self.line(depth, &[&format!("gives {}", self.operands(&block.results).join(", "))]);
    }

    fn nodes(&mut self, block: &Block, depth: usize) {
        block.nodes.iter().for_each(|node| self.node(node, depth));
    }

    /// A line of columns: name, type, place, call, source.
    fn line(&mut self, depth: usize, columns: &[&str]) {
        let mut line = " ".repeat(depth * 2);
        let mut end = 0;
        for (column, width) in columns.iter().zip([NAME, TYPE, PLACE, CALL, 0]) {
            end += width;
            let _ = write!(line, "{column} ");
            let length = line.chars().count();
            line.extend(std::iter::repeat_n(' ', end.saturating_sub(length)));
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn node(&mut self, node: &Node, depth: usize) {
        match &node.work {
            Work::Run(run) => self.run(run, &node.source, depth),
            Work::ReadState { state, value } => {
                let call = format!("read({})", state_name(*state));
                self.step(&[*value], None, &call, &source(&node.source, "read"), depth);
            }
            Work::WriteState { state, data } => {
                let call = format!("write({})", self.operand(*data));
                let source = source(&node.source, "write");
                self.steps += 1;
                self.line(depth, &[&state_name(*state), "", "", &call, &source]);
            }
            Work::While(work) => {
                for variable in &work.variables {
                    let initial = format!("first {}", self.operand(variable.initial));
                    self.step(&[variable.value], None, &initial, "", depth);
                }
                self.line(depth, &["while", "", "", "", &source(&node.source, "")]);
                self.steps += 1;
                self.block(&work.condition, depth + 1);
                self.line(depth, &["do"]);
                self.block(&work.body, depth + 1);
            }
            Work::Cond(work) => {
                let predicate = format!("if {}", self.operand(work.predicate));
                self.steps += 1;
                self.step(&work.outputs, None, &predicate, &source(&node.source, ""), depth);
                self.block(&work.branches[0], depth + 1);
                self.line(depth, &["else"]);
                self.block(&work.branches[1], depth + 1);
            }
        }
    }

    fn run(&mut self, run: &Run, of: &Source, depth: usize) {
        let call = words::call(run.op.as_ref(), &self.operands(&run.inputs));
        let source = source(of, operator_of(&call));
        let call = if run.rounds { format!("{call} to fp16") } else { call };
        let over = run.in_place.and_then(|input| run.inputs.get(input));
        let over = over.map(|operand| format!(" over {}", self.operand(*operand)));
        match self.graph.is_view(run) {
            true => self.views += 1,
            false => self.steps += 1,
        }
        self.step(&run.outputs, over.as_deref(), &call, &source, depth);
    }

    /// A step's results, what it does and where it comes from. `over` says what the first result
    /// takes the place of.
    fn step(
        &mut self,
        results: &[ValueId],
        over: Option<&str>,
        call: &str,
        source: &str,
        depth: usize,
    ) {
        let join = |of: &dyn Fn(usize, ValueId) -> String| {
            let all: Vec<String> = results.iter().enumerate().map(|(i, &id)| of(i, id)).collect();
            all.join("; ")
        };
        let names = join(&|_, id| name(id));
        let kinds = join(&|_, id| self.kind(id));
        let places = join(&|i, id| self.place(id, over.filter(|_| i == 0)));
        self.line(depth, &[&names, &kinds, &places, call, source]);
    }

    fn operands(&self, operands: &[Operand]) -> Vec<String> {
        operands.iter().map(|&operand| self.operand(operand)).collect()
    }

    fn operand(&self, operand: Operand) -> String {
        match operand {
            Operand::Value(id) => self.value(id),
            Operand::Constant(id) => self.graph.constants[id].brief(),
        }
    }

    /// A value where it is read; the content of a state where nothing was copied for it.
    fn value(&self, id: ValueId) -> String {
        match self.graph.values[id].origin {
            Origin::State(state) => state_name(state),
            _ => name(id),
        }
    }

    fn kind(&self, id: ValueId) -> String {
        let value = &self.graph.values[id];
        kind(value.element, value.storage, value.shape.as_deref())
    }

    /// Where a value is: in memory of its own, in that of what it replaces, or as a part of another.
    fn place(&self, id: ValueId, over: Option<&str>) -> String {
        let own = (self.place)(id).unwrap_or_default();
        match &self.graph.values[id].origin {
            _ if over.is_some() => format!("{own}{}", over.unwrap_or_default()).trim().to_owned(),
            Origin::View { of, view, dense } => {
                let mut text = format!("view of {}", self.value(*of));
                if view.start != 0 || !dense {
                    let _ = write!(text, " from {}", view.start);
                }
                if !dense {
                    let _ = write!(text, " by {:?}", view.strides.as_slice());
                }
                text
            }
            Origin::Open { of } => format!("{own} or view of {}", self.value(*of)),
            Origin::List => "list".to_owned(),
            Origin::Own | Origin::Input(_) | Origin::State(_) => own,
        }
    }
}

fn name(id: ValueId) -> String {
    Operand::Value(id).to_string()
}

fn state_name(id: StateId) -> String {
    format!("s{id:?}")
}

/// What an operation computes, in one word.
pub(crate) fn operator(op: &dyn Op) -> String {
    operator_of(&words::call(op, &[])).to_owned()
}

/// The operator of a call as text.
fn operator_of(call: &str) -> &str {
    call.split('(').next().unwrap_or_default()
}

/// A name of a file, which may be any text, on one line.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}

/// The program's operation, with its operator where the plan computes another one.
fn source(source: &Source, operator: &str) -> String {
    match source.operator == operator {
        true => format!("# {}", shown(&source.name)),
        false => format!("# {} {}", shown(&source.operator), shown(&source.name)),
    }
}

/// Type and shape; and how elements are held, where there are several ways.
fn kind(element: ElementType, storage: Storage, shape: Option<&[usize]>) -> String {
    let shape = shape.map_or("[?]".to_owned(), |shape| format!("{shape:?}"));
    match element == ElementType::Float16 || Storage::natural(element) != Some(storage) {
        true => format!("{element} as {storage:?} {shape}"),
        false => format!("{element} {shape}"),
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::graph::Value;

    #[test]
    fn a_name_stays_on_its_line_whatever_it_is() {
        let mut graph = Graph::default();
        let value = graph.values.add(Value {
            name: "x\n\u{1b}[31m".to_owned(),
            element: ElementType::Float16,
            storage: Storage::F32,
            shape: Some(smallvec![2, 3]),
            declared: None,
            origin: Origin::Input(0),
        });
        graph.body.results.push(Operand::Value(value));
        let text = print(&graph, &["y\r".to_owned()], &|_| None);
        let lines: Vec<&str> = text.lines().collect();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[0]), r"v0 fp16 as F32 [2, 3] input 0 x\n\u{1b}[31m");
        assert_eq!(words(lines[1]), r"v0 output 0 y\r");
        assert_eq!(lines[2..], ["0 steps, 0 views"]);
    }
}

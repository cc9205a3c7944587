//! What a step takes besides time: bytes and floating-point operations, by the shapes of its values.

use super::Running;
use crate::graph;
use crate::ids::{Operand, ValueId};
use crate::op::{Frame, Inputs};
use crate::plan::{Place, Run, Work};
use crate::value::element_count;

/// What one run of a step reads, writes and computes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// What the plan computes, which may be another operation than the program's.
    pub(crate) computes: String,
    /// Bytes of constants that are read, as the file holds them.
    pub(crate) constant_bytes: u64,
    /// Bytes of other values that are read or written.
    pub(crate) value_bytes: u64,
    /// Multiplications and additions of products.
    pub(crate) flops: u64,
}

impl Running<'_, '_> {
    /// What a step that was run has taken. Of a loop or a branch, its blocks have taken it.
    pub(super) fn effort(&self, work: &Work) -> Effort {
        match work {
            Work::Run(run) => self.effort_of_run(run),
            Work::WriteState { data, .. } => {
                // What the state holds already is not copied.
                let copied = if self.tensor(*data).is_some() { self.byte_len(*data) } else { 0 };
                let computes = "write_state".to_owned();
                Effort { computes, value_bytes: copied.saturating_mul(2), ..Effort::default() }
            }
            Work::While(_) => Effort { computes: "while_loop".to_owned(), ..Effort::default() },
            Work::Cond(_) => Effort { computes: "cond".to_owned(), ..Effort::default() },
        }
    }

    fn effort_of_run(&self, run: &Run) -> Effort {
        let computes = graph::operator(run.op.as_ref());
        if run.outputs.iter().all(|&output| self.is_view(output)) {
            return Effort { computes, ..Effort::default() };
        }
        let inputs = Inputs::new(&run.inputs, self);
        let written: u64 = run.outputs.iter().map(|&id| self.byte_len(Operand::Value(id))).sum();
        // In place of a large value a small part of it may change.
        let part = run.op.overwrites(&inputs).ok().flatten().filter(|_| run.in_place.is_some());
        let size = run.outputs.first().map_or(1, |&id| self.plan.values[id].storage.size());
        let written = part.map_or(written, |part| as_bytes(part.count(), size));
        // What moves elements reads no more than it writes: few rows of a large table, for example.
        let moved = run.op.moves().map(|moves| moves.from).unwrap_or_default();
        let mut effort = Effort { computes, value_bytes: written, ..Effort::default() };
        for (input, &operand) in run.inputs.iter().enumerate() {
            let moves = moved.contains(&input);
            if run.op.reads_shape_only(input) || (moves && run.in_place == Some(input)) {
                continue;
            }
            let all = self.byte_len(operand);
            let read = if moves { all.min(written) } else { all };
            let bytes = match operand {
                Operand::Constant(_) => &mut effort.constant_bytes,
                Operand::Value(_) => &mut effort.value_bytes,
            };
            *bytes = bytes.saturating_add(read);
        }
        effort.flops = run.op.flops(&inputs).unwrap_or(0);
        effort
    }

    /// Whether a run has found a value to be a part of another one.
    fn is_view(&self, id: ValueId) -> bool {
        match self.plan.values[id].place {
            Place::Open(open) => self.found(open).is_some_and(|found| found.part.is_some()),
            _ => false,
        }
    }

    /// Bytes of a tensor as it is held; 0 of a list.
    fn byte_len(&self, operand: Operand) -> u64 {
        if let Operand::Constant(id) = operand {
            return self.plan.constants[id].byte_len() as u64;
        }
        let count = self.shape(operand).and_then(element_count).unwrap_or(0);
        as_bytes(count, self.kind(operand).1.size())
    }
}

fn as_bytes(count: usize, size: usize) -> u64 {
    (count as u64).saturating_mul(size as u64)
}

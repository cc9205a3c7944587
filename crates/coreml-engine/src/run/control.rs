//! Loops and branches.

use coreml_kernels::Lease;
use smallvec::SmallVec;

use super::frame::grow;
use super::workspace::Found;
use super::{Running, StepError};
use crate::error::OpError;
use crate::ids::{Operand, ValueId};
use crate::op::Frame;
use crate::plan::{Block, Cond, Place, While};
use crate::value::{Layout, ListValue, Shape};

/// A loop that has not ended after so many turns is taken for endless.
const MOST_TURNS: u64 = 1 << 32;

/// A value on its way from one block to another.
enum Copied<'a> {
    Tensor { shape: Shape, bytes: Lease<'a, u8> },
    List(ListValue),
}

impl<'a> Running<'a, '_> {
    fn flag(&self, operand: Operand) -> Result<bool, OpError> {
        let tensor = self.tensor(operand).ok_or(OpError::NotYetKnown)?;
        Ok(tensor.scalar_int()? != 0)
    }

    pub(super) fn while_loop(
        &mut self,
        work: &'a While,
        named: &dyn Fn(OpError) -> StepError,
    ) -> Result<(), StepError> {
        let initial: SmallVec<[Operand; 8]> =
            work.variables.iter().map(|variable| variable.initial).collect();
        let variables = || work.variables.iter().map(|variable| variable.value);
        self.assign(&initial, variables()).map_err(named)?;
        for _ in 0..MOST_TURNS {
            self.may_go_on().map_err(named)?;
            self.steps(&work.condition.steps)?;
            let [condition] = work.condition.results.as_slice() else {
                return Err(named(OpError::invalid("the condition gives no single value")));
            };
            if !self.flag(*condition).map_err(named)? {
                return Ok(());
            }
            self.steps(&work.body.steps)?;
            self.assign(&work.body.results, variables()).map_err(named)?;
        }
        Err(named(OpError::invalid(format!("the loop has not ended after {MOST_TURNS} turns"))))
    }

    /// Gives values to those outside a block, all at once: one may be another variable of a loop, or
    /// lie where another goes.
    fn assign(
        &mut self,
        values: &[Operand],
        targets: impl Iterator<Item = ValueId>,
    ) -> Result<(), OpError> {
        let mut next: SmallVec<[Copied; 8]> = SmallVec::new();
        for &value in values {
            next.push(self.copied(value)?);
        }
        for (value, target) in next.into_iter().zip(targets) {
            self.store(target, value)?;
        }
        Ok(())
    }

    fn copied(&self, operand: Operand) -> Result<Copied<'a>, OpError> {
        if let Some(list) = self.list(operand) {
            return Ok(Copied::List(list.clone()));
        }
        let tensor = self.tensor(operand).ok_or(OpError::NotYetKnown)?;
        let layout = Layout::of(&tensor);
        let len = layout.count().saturating_mul(tensor.storage.size());
        self.has_room(len)?;
        let mut bytes = self.context.scratch().take(len)?;
        layout.read(tensor.bytes, &mut bytes, tensor.storage)?;
        Ok(Copied::Tensor { shape: tensor.shape.into(), bytes })
    }

    fn store(&mut self, to: ValueId, value: Copied) -> Result<(), OpError> {
        if let (Place::Open(open), Copied::Tensor { bytes, .. }) =
            (self.plan.values[to].place, &value)
        {
            self.room_to_grow(open, bytes.len())?;
        }
        let workspace = &mut *self.call.workspace;
        match (self.plan.values[to].place, value) {
            (Place::List(id), Copied::List(list)) => workspace.lists[id] = list,
            (Place::Arena { buffer, offset, len }, Copied::Tensor { bytes, .. }) => {
                let target = workspace.buffers[buffer].bytes_mut().get_mut(offset..offset + len);
                match target {
                    Some(target) if target.len() == bytes.len() => target.copy_from_slice(&bytes),
                    _ => return Err(OpError::invalid("a value changed its size")),
                }
            }
            (Place::Open(open), Copied::Tensor { shape, bytes }) => {
                if let Some(buffer) = self.plan.opens[open].buffer {
                    let home = &mut workspace.buffers[buffer];
                    grow(home, bytes.len())?;
                    home.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
                }
                workspace.opens[open] = Some(Found { shape, part: None });
            }
            // Nothing reads the variable.
            (Place::Nowhere, _) => {}
            _ => return Err(OpError::invalid("a list where a tensor is needed, or the reverse")),
        }
        Ok(())
    }

    pub(super) fn cond(
        &mut self,
        work: &'a Cond,
        named: &dyn Fn(OpError) -> StepError,
    ) -> Result<(), StepError> {
        let taken = usize::from(!self.flag(work.predicate).map_err(named)?);
        let branch: &'a Block = &work.branches[taken];
        self.steps(&branch.steps)?;
        self.assign(&branch.results, work.outputs.iter().copied()).map_err(named)
    }
}

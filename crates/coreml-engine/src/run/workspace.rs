//! The mutable part of a plan that runs.

use smallvec::SmallVec;

use super::journal::Journal;
use crate::error::OpError;
use crate::ids::{Buffers, Lists, Opens};
use crate::limits::Limits;
use crate::op::Kernel;
use crate::plan::{Place, Plan, arena_bytes};
use crate::value::{Buffer, ListValue, Shape, Strides};

/// The memory that a call computes in: the arena, and what was found out of values that the plan
/// leaves open. One call at a time uses a workspace.
#[derive(Default)]
pub(crate) struct Workspace {
    pub(super) buffers: Buffers<Buffer>,
    pub(super) opens: Opens<Option<Found>>,
    pub(super) lists: Lists<ListValue>,
    pub(super) steps: Vec<OpenStep>,
    pub(super) journal: Journal,
}

/// A value whose shape was found at run time.
pub(super) struct Found {
    pub(super) shape: Shape,
    /// Where it lies: all of its own buffer, or a part of another value's place.
    pub(super) part: Option<Part>,
}

/// A part of another value's place.
pub(super) struct Part {
    pub(super) place: Place,
    /// Place of the first element, in elements.
    pub(super) start: usize,
    pub(super) strides: Strides,
}

/// What a step that gets its kernel at run time did last.
#[derive(Default)]
pub(super) struct OpenStep {
    /// Shapes and strides of the inputs that it was made for.
    pub(super) inputs: SmallVec<[(Shape, Option<Strides>); 3]>,
    /// The results' shapes.
    pub(super) outputs: SmallVec<[Shape; 1]>,
    /// None when all results are views.
    pub(super) kernel: Option<Kernel>,
    /// Whether other values of the same shapes can ask for other results, or another kernel.
    pub(super) by_value: bool,
    /// Whether they can ask for another kernel.
    pub(super) kernel_by_value: bool,
}

impl Workspace {
    /// Memory for a plan.
    ///
    /// # Errors
    /// When there is none, or it is more than may be taken.
    pub(crate) fn new(plan: &Plan, limits: &Limits) -> Result<Self, OpError> {
        limits.check_memory(arena_bytes(&plan.buffers))?;
        let buffers = plan.buffers.iter().map(|&size| Buffer::zeroed(size));
        Ok(Workspace {
            buffers: buffers.collect::<Result<_, _>>()?,
            opens: plan.opens.iter().map(|_| None).collect(),
            lists: plan.lists.iter().map(|&(e, s)| ListValue::empty(e, s)).collect(),
            steps: (0..plan.open_steps).map(|_| OpenStep::default()).collect(),
            journal: Journal::default(),
        })
    }

    /// Bytes that the values hold.
    pub(super) fn held(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(Buffer::len).sum();
        buffers + self.lists.iter().map(ListValue::byte_len).sum::<usize>()
    }
}

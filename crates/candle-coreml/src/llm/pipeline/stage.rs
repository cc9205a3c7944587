//! A loaded function with what its inputs are fed with.

use coreml_engine::{Participant, Workers};
use coreml_format::description::ShapeFlexibility;
use smallvec::{SmallVec, smallvec};

use super::outputs::{index_of, missing};
use super::{Function, feeds};
use crate::call::BoundCall;
use crate::config::{Component, Feed, Input, Interface};
use crate::error::Result;
use crate::model::CoreMLModel;
use crate::values::OutputValue;

/// A component that can run.
pub(crate) struct Stage {
    pub(crate) model: CoreMLModel,
    /// What feeds each input, with its index.
    inputs: Vec<(usize, Input)>,
    /// Names of the outputs by index.
    pub(super) outputs: Vec<String>,
}

/// The functions of a chunk.
pub(crate) struct ChunkStages {
    pub(crate) infer: Stage,
    pub(crate) prefill: Option<Stage>,
    pub(crate) infer_rotate: Option<Stage>,
}

impl ChunkStages {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Stage> {
        std::iter::once(&self.infer).chain(&self.prefill).chain(&self.infer_rotate)
    }

    /// The same functions on other threads.
    pub(super) fn with_workers(&self, workers: &Workers) -> Result<Self> {
        let stage = |stage: &Stage| stage.with_workers(workers);
        Ok(ChunkStages {
            infer: stage(&self.infer)?,
            prefill: self.prefill.as_ref().map(stage).transpose()?,
            infer_rotate: self.infer_rotate.as_ref().map(stage).transpose()?,
        })
    }

    pub(super) fn stage(&self, function: Function) -> &Stage {
        match function {
            Function::Infer => None,
            Function::InferRotate => self.infer_rotate.as_ref(),
            Function::Prefill => self.prefill.as_ref(),
        }
        .unwrap_or(&self.infer)
    }
}

/// What a window feeds to the stages.
#[derive(Clone, Copy)]
pub(super) struct Fed<'a> {
    pub(super) ids: &'a [u32],
    pub(super) start: usize,
    /// Tokens that the function takes: `ids`, and padding behind them.
    pub(super) rows: usize,
}

impl Fed<'_> {
    /// A row for a head, which takes hidden states alone.
    pub(super) fn rows(rows: usize) -> Self {
        Fed { ids: &[], start: 0, rows }
    }

    /// The shape that an input has for this window: the stated one, where it is fixed.
    fn shape(&self, input: &Input) -> SmallVec<[usize; 4]> {
        let fixed = input.ty.flexibility == ShapeFlexibility::Fixed && !input.ty.shape.is_empty();
        match input.feed {
            Feed::TokenIds | Feed::HiddenStates => smallvec![1, self.rows],
            _ if fixed => input.ty.shape.as_slice().into(),
            // A mask of free length ends with the last key.
            Feed::CausalMask => {
                smallvec![1, 1, self.rows, self.start.saturating_add(self.rows)]
            }
            Feed::PositionIds if input.ty.shape.len() == 2 => smallvec![1, self.rows],
            Feed::PositionIds => smallvec![self.rows],
            Feed::CurrentPosition | Feed::UpdateMask => input.ty.shape.as_slice().into(),
        }
    }

    /// Writes what an input is fed with into a call; hidden states come from another stage.
    fn write(&self, call: &mut BoundCall, index: usize, input: &Input) -> Result<()> {
        let shape = self.shape(input);
        let last = shape.last().copied().unwrap_or(1);
        let start = || feeds::integer(self.start.saturating_add(self.rows), "position");
        match input.feed {
            Feed::HiddenStates => Ok(()),
            Feed::TokenIds => {
                for &id in self.ids {
                    feeds::integer(id as usize, "token id")?;
                }
                call.write_ints(index, &shape, |to| feeds::token_ids(self.ids, to))
            }
            Feed::PositionIds | Feed::CurrentPosition => {
                let start = start()?.saturating_sub_unsigned(self.rows as u32);
                call.write_ints(index, &shape, |to| feeds::positions(start, to))
            }
            Feed::CausalMask => {
                call.write_floats(index, &shape, |to| feeds::causal_mask(self.start, last, to))
            }
            Feed::UpdateMask => {
                let used = self.ids.len();
                call.write_floats(index, &shape, |to| {
                    feeds::update_mask(self.start, used, last, to);
                })
            }
        }
    }
}

impl Stage {
    /// `model` runs the component's function.
    pub(crate) fn new(component: &Component, model: CoreMLModel) -> Result<Self> {
        let call = model.bind()?;
        let inputs = Interface(component).inputs()?.into_iter();
        let inputs = inputs.map(|input| Ok((call.input(&input.name)?, input)));
        let (inputs, outputs) = (inputs.collect::<Result<_>>()?, call.outputs().to_vec());
        drop(call);
        Ok(Stage { model, inputs, outputs })
    }

    /// The same function on other threads.
    pub(super) fn with_workers(&self, workers: &Workers) -> Result<Self> {
        Ok(Stage {
            model: self.model.with_workers(workers)?,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
        })
    }

    /// A call that is fed with all but hidden states.
    pub(super) fn call(&self, fed: &Fed, participant: Option<&Participant>) -> Result<BoundCall> {
        let mut call = self.model.bind()?;
        call.set_participant(participant.cloned());
        for (index, input) in &self.inputs {
            fed.write(&mut call, *index, input)?;
        }
        Ok(call)
    }

    /// Gives a call of this stage hidden states: some `rows` of an output of another stage, as the
    /// rows from `first` on of `all`.
    pub(super) fn pass_hidden(
        &self,
        call: &mut BoundCall,
        output: &OutputValue,
        rows: std::ops::Range<usize>,
        (first, all): (usize, usize),
    ) -> Result<()> {
        let input = self.inputs.iter().find(|(_, input)| input.feed == Feed::HiddenStates);
        let (index, _) = input.ok_or_else(|| missing("input for hidden states"))?;
        let given = output.array().map(|array| array.shape()).unwrap_or_default();
        let width = given.last().copied().unwrap_or(1);
        let mut shape: SmallVec<[usize; 4]> = given.into();
        if let Some(of_rows) = shape.iter_mut().nth_back(1) {
            *of_rows = all;
        }
        let elements = rows.start.saturating_mul(width)..rows.end.saturating_mul(width);
        call.pass(*index, &shape, output, elements, first.saturating_mul(width))
    }

    /// Gives a call of `to` hidden states `[1, rows, H]` of token ids with padding (0) behind them.
    /// Embeddings look each token up on its own, so where they do not take so many at once, they run
    /// piece by piece.
    pub(super) fn embed(&self, fed: &Fed, to: &Stage, call: &mut BoundCall) -> Result<()> {
        let Fed { ids, rows, .. } = *fed;
        let ids_input = self.inputs.iter().find(|(_, input)| input.feed == Feed::TokenIds);
        let ty = ids_input.map(|(_, input)| &input.ty);
        let allowed = |length: usize| ty.is_none_or(|ty| ty.allows(&[1, length]));
        let stated = ty.and_then(|ty| ty.shape.get(1)).copied().unwrap_or(1).max(1);
        let length = [rows, 1].into_iter().find(|&length| allowed(length)).unwrap_or(stated);
        let hidden = index_of(&self.outputs, "hidden_states")?;
        for first in (0..rows).step_by(length) {
            let ids = ids.get(first..ids.len().min(first + length)).unwrap_or_default();
            let count = length.min(rows - first);
            self.call(&Fed { ids, start: 0, rows: length }, None)?.run(None, |index, output| {
                if index != hidden {
                    return Ok(());
                }
                to.pass_hidden(call, output, 0..count, (first, rows))
            })?;
        }
        Ok(())
    }
}

//! A loaded function with what its inputs are fed with.

use std::collections::HashMap;

use candle_core::Tensor;
use coreml_engine::Workers;
use coreml_format::description::ShapeFlexibility;

use super::outputs::take;
use super::{Function, tensors};
use crate::config::{Component, Feed, Input, Interface};
use crate::error::{Error, Result};
use crate::model::CoreMLModel;
use crate::state::CoreMLState;

/// A component that can run.
pub(crate) struct Stage {
    pub(crate) model: CoreMLModel,
    inputs: Vec<Input>,
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

/// What a window feeds to the stages; tensors are made once for all chunks.
pub(super) struct Fed<'a> {
    ids: &'a [u32],
    start: usize,
    rows: usize,
    pub(super) hidden: Option<Tensor>,
    made: Vec<(Feed, Vec<usize>, Tensor)>,
}

impl<'a> Fed<'a> {
    pub(super) fn new(ids: &'a [u32], start: usize, rows: usize) -> Self {
        Fed { ids, start, rows, hidden: None, made: Vec::new() }
    }

    /// The tensor for an input.
    fn tensor(&mut self, input: &Input) -> Result<Tensor> {
        if input.feed == Feed::HiddenStates {
            return self
                .hidden
                .clone()
                .ok_or_else(|| Error::Generation("there are no hidden states to run".to_owned()));
        }
        let shape = self.shape(input);
        let known = self.made.iter().find(|(feed, of, _)| *feed == input.feed && *of == shape);
        if let Some((_, _, tensor)) = known {
            return Ok(tensor.clone());
        }
        let tensor = self.make(input.feed, &shape)?;
        self.made.push((input.feed, shape, tensor.clone()));
        Ok(tensor)
    }

    /// The shape that an input has for this window: the stated one, where it is fixed.
    fn shape(&self, input: &Input) -> Vec<usize> {
        let fixed = input.ty.flexibility == ShapeFlexibility::Fixed && !input.ty.shape.is_empty();
        match input.feed {
            Feed::TokenIds | Feed::HiddenStates => vec![1, self.rows],
            _ if fixed => input.ty.shape.clone(),
            // A mask of free length ends with the last key.
            Feed::CausalMask => vec![1, 1, self.rows, self.start.saturating_add(self.rows)],
            Feed::PositionIds if input.ty.shape.len() == 2 => vec![1, self.rows],
            Feed::PositionIds => vec![self.rows],
            Feed::CurrentPosition | Feed::UpdateMask => input.ty.shape.clone(),
        }
    }

    fn make(&self, feed: Feed, shape: &[usize]) -> Result<Tensor> {
        let last = shape.last().copied().unwrap_or(1);
        let tensor = match feed {
            Feed::TokenIds | Feed::HiddenStates => tensors::input_ids(self.ids, self.rows)?,
            Feed::PositionIds => tensors::position_ids(self.start, self.rows)?,
            Feed::CausalMask => tensors::causal_mask(self.start, self.rows, last)?,
            Feed::CurrentPosition => tensors::current_pos(self.start)?,
            Feed::UpdateMask => {
                let context = shape.iter().rev().nth(1).copied().unwrap_or(1);
                tensors::update_mask(self.start, self.ids.len(), last, context)?
            }
        };
        Ok(tensor.reshape(shape)?)
    }
}

impl Stage {
    /// `model` runs the component's function.
    pub(crate) fn new(component: &Component, model: CoreMLModel) -> Result<Self> {
        Ok(Stage { model, inputs: Interface(component).inputs()? })
    }

    /// The same function on other threads.
    pub(super) fn with_workers(&self, workers: &Workers) -> Result<Self> {
        Ok(Stage { model: self.model.with_workers(workers)?, inputs: self.inputs.clone() })
    }

    /// Hidden states `[1, rows, H]` of token ids with padding (0) behind them. Embeddings look each
    /// token up on its own, so where they do not take so many at once, they run piece by piece.
    pub(super) fn embed(&self, ids: &[u32], rows: usize) -> Result<Tensor> {
        let ty = self.inputs.iter().find(|input| input.feed == Feed::TokenIds).map(|i| &i.ty);
        let allowed = |length: usize| ty.is_none_or(|ty| ty.allows(&[1, length]));
        let stated = ty.and_then(|ty| ty.shape.get(1)).copied().unwrap_or(1).max(1);
        let length = [rows, 1].into_iter().find(|&length| allowed(length)).unwrap_or(stated);
        let mut padded = ids.to_vec();
        padded.resize(rows, 0);
        let piece = |ids: &[u32]| {
            let mut outputs = self.run(&mut Fed::new(ids, 0, length), None)?;
            take(&mut outputs, "hidden_states")
        };
        let mut pieces = padded.chunks(length).map(piece).collect::<Result<Vec<_>>>()?;
        match (pieces.pop(), pieces.is_empty()) {
            (Some(only), true) if length == rows => Ok(only),
            (last, _) => {
                pieces.extend(last);
                Ok(Tensor::cat(&pieces, 1)?.narrow(1, 0, rows)?.contiguous()?)
            }
        }
    }

    /// Runs the function on a window.
    pub(super) fn run(
        &self,
        fed: &mut Fed,
        state: Option<&mut CoreMLState>,
    ) -> Result<HashMap<String, Tensor>> {
        let tensors: Vec<Tensor> =
            self.inputs.iter().map(|input| fed.tensor(input)).collect::<Result<_>>()?;
        let inputs: Vec<(&str, &Tensor)> =
            self.inputs.iter().map(|input| input.name.as_str()).zip(&tensors).collect();
        match state {
            Some(state) => self.model.predict_with_state(&inputs, state),
            None => self.model.predict(&inputs),
        }
    }
}

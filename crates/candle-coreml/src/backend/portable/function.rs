//! A function that the engine runs: its plans, one for each set of input shapes, and the sessions
//! that run them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use coreml_format::description::{FeatureType, FunctionDescription, MultiArrayType};
use coreml_format::mil::{Dimension, Function, TensorType, ValueType};

use super::state::PortableState;
use crate::error::{Error, Result, list};
use crate::exec::{Session, StepError};
use crate::plan::{self, Plan, PlanState, Weights};
use crate::state::CoreMLState;
use crate::tensors::{self, InputBytes};
use crate::value::{Buffer, Shape, Storage};

/// Plans kept for other input shapes than the last ones; a model that is fed ever new shapes
/// keeps no more.
const MOST_PLANS: usize = 32;

/// A function with what was prepared of it.
pub(super) struct PortableFunction {
    name: String,
    weights: Arc<Weights>,
    inputs: Vec<Input>,
    states: Vec<PlanState>,
    plans: Mutex<Vec<(Vec<Shape>, Arc<Prepared>)>>,
}

/// A tensor input: its type in the program and, where stated, in the model's description.
struct Input {
    name: String,
    ty: TensorType,
    storage: Storage,
    feature: Option<MultiArrayType>,
    optional: bool,
}

/// A plan with the sessions that no prediction uses just now.
struct Prepared {
    plan: Plan,
    idle: Mutex<Vec<Session>>,
}

impl PortableFunction {
    /// Prepares a function for its default input shapes, where the model states them.
    pub(super) fn new(name: &str, function: &Function, weights: Arc<Weights>) -> Result<Self> {
        let description = weights.package().description().function(name);
        let mut inputs = Vec::new();
        let mut states = Vec::new();
        for input in &function.inputs {
            match &input.ty {
                ValueType::State(_) => states.push(PlanState::new(name, input)?),
                ty => inputs.push(Input::new(name, &input.name, ty, description.as_ref())?),
            }
        }
        let prepared = PortableFunction {
            name: name.to_owned(),
            weights,
            inputs,
            states,
            plans: Mutex::default(),
        };
        let shapes: Option<Vec<Shape>> = prepared.inputs.iter().map(Input::default_shape).collect();
        if let Some(shapes) = shapes {
            prepared.prepared(&shapes)?;
        }
        Ok(prepared)
    }

    /// The states that the function declares.
    pub(super) fn states(&self) -> &[PlanState] {
        &self.states
    }

    fn build(&self, shapes: &[Shape]) -> Result<Arc<Prepared>> {
        let function =
            self.weights.package().program().functions.get(&self.name).ok_or_else(|| {
                Error::UnknownFunction { name: self.name.clone(), available: Vec::new() }
            })?;
        let plan = plan::build(&self.name, function, shapes, &self.weights, true)?;
        tracing::debug!(
            function = self.name,
            ?shapes,
            steps = plan.body.steps.len(),
            buffers = plan.buffers.len(),
            arena_bytes = plan.buffers.iter().sum::<usize>(),
            "planned"
        );
        Ok(Arc::new(Prepared { plan, idle: Mutex::default() }))
    }

    /// The plan for these input shapes.
    fn prepared(&self, shapes: &[Shape]) -> Result<Arc<Prepared>> {
        let find = |plans: &[(Vec<Shape>, Arc<Prepared>)]| {
            plans.iter().find(|(of, _)| of == shapes).map(|(_, prepared)| prepared.clone())
        };
        if let Some(found) = find(&self.plans.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        let built = self.build(shapes)?;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find(&plans) {
            return Ok(found);
        }
        if plans.len() == MOST_PLANS {
            plans.remove(0);
        }
        plans.push((shapes.to_vec(), built.clone()));
        Ok(built)
    }

    pub(super) fn predict(
        &self,
        given: &[(&str, &Tensor)],
        state: Option<&mut CoreMLState>,
    ) -> Result<HashMap<String, Tensor>> {
        let device = given.first().map_or(Device::Cpu, |(_, tensor)| tensor.device().clone());
        self.check_names(given)?;
        let tensors =
            self.inputs.iter().map(|input| input.find(given)).collect::<Result<Vec<_>>>()?;
        let shapes: Vec<Shape> = tensors.iter().map(|tensor| tensor.dims().into()).collect();
        let prepared = self.prepared(&shapes)?;
        let mut bytes = Vec::with_capacity(tensors.len());
        for (input, tensor) in self.inputs.iter().zip(&tensors) {
            bytes.push(
                InputBytes::new(tensor, input.ty.element, input.storage)
                    .map_err(|message| Error::Input { name: input.name.clone(), message })?,
            );
        }
        let outputs = match state {
            _ if prepared.plan.states.is_empty() => self.run(&prepared, &bytes, &mut [])?,
            Some(state) => {
                let states = state.downcast_mut::<PortableState>().ok_or_else(|| Error::State {
                    name: prepared.plan.states[0].name.clone(),
                    message: "the state belongs to another backend; make it with `make_state` of \
                              a model of this one"
                        .to_owned(),
                })?;
                let mut buffers = states.take(&prepared.plan.states)?;
                let outputs = self.run(&prepared, &bytes, &mut buffers);
                states.put_back(&prepared.plan.states, buffers);
                outputs?
            }
            None => {
                return Err(Error::State {
                    name: prepared.plan.states[0].name.clone(),
                    message: format!(
                        "function `{}` has states; call `make_state` once and \
                         `predict_with_state` for each prediction",
                        self.name
                    ),
                });
            }
        };
        if matches!(device, Device::Cpu) {
            return Ok(outputs);
        }
        outputs.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(&device)?))).collect()
    }

    fn run(
        &self,
        prepared: &Prepared,
        inputs: &[InputBytes],
        states: &mut [Buffer],
    ) -> Result<HashMap<String, Tensor>> {
        let plan = &prepared.plan;
        let idle = prepared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = match idle {
            Some(session) => session,
            None => Session::new(plan).map_err(|error| self.program_error(error.to_string()))?,
        };
        let outputs = InputBytes::with_all(inputs, |inputs| {
            session.run(plan, inputs, states).map_err(|error| self.step_error(error))?;
            let mut outputs = HashMap::with_capacity(plan.outputs.len());
            for (name, operand) in &plan.outputs {
                let tensor = session
                    .result(plan, inputs, states, *operand, |tensor| tensors::to_candle(&tensor))
                    .ok_or_else(|| self.program_error(format!("output `{name}` is no tensor")))??;
                outputs.insert(name.clone(), tensor);
            }
            Ok(outputs)
        });
        prepared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        outputs
    }

    fn program_error(&self, message: String) -> Error {
        Error::Program { function: self.name.clone(), message }
    }

    fn step_error(&self, error: StepError) -> Error {
        Error::Operation {
            function: self.name.clone(),
            operation: error.operation,
            operator: error.operator,
            message: error.error.to_string(),
        }
    }

    fn check_names(&self, given: &[(&str, &Tensor)]) -> Result<()> {
        for (position, (name, _)) in given.iter().enumerate() {
            if !self.inputs.iter().any(|input| input.name == *name) {
                let names: Vec<&str> =
                    self.inputs.iter().map(|input| input.name.as_str()).collect();
                return Err(Error::Input {
                    name: (*name).to_owned(),
                    message: format!(
                        "function `{}` has no such input; it has {}",
                        self.name,
                        list(&names)
                    ),
                });
            }
            if given[..position].iter().any(|(earlier, _)| earlier == name) {
                let message = "it is given twice".to_owned();
                return Err(Error::Input { name: (*name).to_owned(), message });
            }
        }
        Ok(())
    }
}

impl Input {
    fn new(
        function: &str,
        name: &str,
        ty: &ValueType,
        description: Option<&FunctionDescription>,
    ) -> Result<Self> {
        let tensor = match ty {
            ValueType::Tensor(tensor) => tensor.clone(),
            other => {
                return Err(Error::Program {
                    function: function.to_owned(),
                    message: format!("input `{name}` has type {other}, which is no tensor"),
                });
            }
        };
        let storage = Storage::natural(tensor.element).ok_or_else(|| Error::Program {
            function: function.to_owned(),
            message: format!("input `{name}` has elements of type `{}`", tensor.element),
        })?;
        let feature = description
            .and_then(|description| description.inputs.iter().find(|input| input.name == name));
        Ok(Input {
            name: name.to_owned(),
            ty: tensor,
            storage,
            optional: feature.is_some_and(|feature| feature.optional),
            feature: match feature.map(|feature| &feature.ty) {
                Some(FeatureType::MultiArray(array)) => Some(array.clone()),
                _ => None,
            },
        })
    }

    /// The shape for which the function is prepared when the model is loaded.
    fn default_shape(&self) -> Option<Shape> {
        let stated = self.feature.as_ref().map(|feature| feature.shape.as_slice());
        match self.ty.fixed_shape() {
            Some(shape) => Some(shape.into()),
            None => stated.filter(|shape| shape.len() == self.ty.shape.len()).map(Shape::from),
        }
    }

    /// The tensor given for this input, or the default value of an optional one.
    fn find(&self, given: &[(&str, &Tensor)]) -> Result<Tensor> {
        let wrong = |message| Error::Input { name: self.name.clone(), message };
        let Some((_, tensor)) = given.iter().find(|(name, _)| *name == self.name) else {
            let default = self.feature.as_ref().and_then(|feature| feature.default_value);
            return match (self.optional, self.default_shape()) {
                (true, Some(shape)) => {
                    Ok(Tensor::full(default.unwrap_or(0.0) as f32, shape.as_slice(), &Device::Cpu)?
                        .to_dtype(self.candle_dtype())?)
                }
                _ => Err(wrong(format!("it is missing; expected {}", self.expected()))),
            };
        };
        if self.allows(tensor.dims()) {
            return Ok((*tensor).clone());
        }
        Err(wrong(format!("expected {}, got shape {:?}", self.expected(), tensor.dims())))
    }

    fn candle_dtype(&self) -> candle_core::DType {
        match self.storage {
            Storage::F32 | Storage::F16 | Storage::F64 => candle_core::DType::F32,
            _ => candle_core::DType::I64,
        }
    }

    fn allows(&self, shape: &[usize]) -> bool {
        let fits_program = self.ty.shape.contains(&Dimension::Variadic)
            || self.ty.shape.len() == shape.len()
                && self.ty.shape.iter().zip(shape).all(|(declared, &size)| {
                    !matches!(declared, Dimension::Fixed(fixed) if *fixed != size)
                });
        fits_program && self.feature.as_ref().is_none_or(|feature| feature.allows(shape))
    }

    fn expected(&self) -> String {
        match &self.feature {
            Some(feature) => feature.to_string(),
            None => self.ty.to_string(),
        }
    }
}

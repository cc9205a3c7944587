//! Inputs of `check` and `compare`: what is given, and what is made up for the rest.

use anyhow::{Context, Result};
use candle_coreml::description::FunctionDescription;
use candle_coreml::{BoundCall, CoreMLModel, CoreMLState, make_up};
use coreml_format::printable_name;
use serde::Serialize;

use crate::args::TrialArgs;
use crate::inputs::{self, Input};
use crate::table::Table;

/// An input and where it comes from.
#[derive(Serialize)]
pub struct Given {
    #[serde(flatten)]
    pub input: Input,
    /// What was made up, where nothing was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_up: Option<&'static str>,
}

/// All inputs in the function's order, those that are not given made up; optional ones only if they are
/// given.
pub fn fill_in(args: &TrialArgs, function: &FunctionDescription) -> Result<Vec<Given>> {
    let takes = || {
        let names = function.inputs.iter().map(|input| printable_name(&input.name).into_owned());
        format!("the function takes: {}", names.collect::<Vec<_>>().join(", "))
    };
    let mut given = inputs::read_all(&args.inputs, function, args.resizing.resizing(), &takes)?;
    let mut all = Vec::new();
    for feature in &function.inputs {
        if let Some(place) = given.iter().position(|input| input.name == feature.name) {
            all.push(Given { input: given.swap_remove(place), made_up: None });
        } else if !feature.optional {
            let made_up = make_up(feature).with_context(|| {
                format!("give `{}` a value with --input", printable_name(&feature.name))
            })?;
            let input = Input::new(feature, made_up.value);
            all.push(Given { input, made_up: Some(made_up.words) });
        }
    }
    Ok(all)
}

/// A call with these inputs.
pub fn bind(model: &CoreMLModel, inputs: &[Given]) -> Result<BoundCall> {
    let mut call = model.bind()?;
    for Given { input, .. } in inputs {
        let index = call.input(&input.name)?;
        call.set(index, input.value.clone())?;
    }
    Ok(call)
}

/// A zeroed state, if the function has one.
pub fn state(model: &CoreMLModel) -> Result<Option<CoreMLState>> {
    let has_states = !model.function_description().states.is_empty();
    Ok(if has_states { Some(model.make_state()?) } else { None })
}

/// What was given and what was made up, for people.
pub fn rows(inputs: &[Given]) -> Table {
    let mut table = Table::new(&[]);
    for Given { input, made_up } in inputs {
        let from = made_up.map_or_else(|| "given".to_owned(), |words| format!("made up: {words}"));
        let kind = format!("{} {:?}", input.dtype, input.shape);
        table.row([printable_name(&input.name).into_owned(), kind, from]);
    }
    table
}

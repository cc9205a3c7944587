//! Neural networks as far as they are told apart: their layers and labels.

use super::labels::ClassLabels;
use super::layer_kinds::layer_kind;
use crate::FormatError;
use crate::proto::wire::fields;

/// A neural network: `NeuralNetwork`, `NeuralNetworkClassifier` or `NeuralNetworkRegressor` of
/// `NeuralNetwork.proto`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NeuralNetwork {
    /// Its layers, in the order in which they run.
    pub layers: Vec<Layer>,
    /// A classifier's labels.
    pub labels: Option<ClassLabels>,
}

/// A layer of a neural network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its kind as the schema names it: `convolution`, `innerProduct`, …; `unknown` for one that the
    /// schema does not have.
    pub kind: &'static str,
    /// Names of the values that it reads.
    pub inputs: Vec<String>,
    /// Names of the values that it gives.
    pub outputs: Vec<String>,
}

const LAYERS: u32 = 1;

/// The most layers of a network, and the most values that all of them read and give: many times those of
/// any real one. A layer or a name takes two bytes of a file, and many more of memory.
const MOST_LAYERS: usize = 1 << 17;
const MOST_NAMES: usize = 1 << 19;

impl NeuralNetwork {
    /// Reads the layers' names and kinds; their weights are skipped.
    pub(super) fn decode(kind: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let (mut layers, mut names) = (Vec::new(), 0);
        for field in fields(bytes) {
            let field = field?;
            if let (LAYERS, Some(layer)) = (field.number, field.value.bytes()) {
                let place = format!("layer {}", layers.len());
                let layer = Layer::decode(layer, MOST_NAMES - names);
                let layer = layer.map_err(|error| error.within(&place))?;
                names += layer.inputs.len() + layer.outputs.len();
                layers.push(layer);
                if layers.len() > MOST_LAYERS {
                    let message = format!("expected at most {MOST_LAYERS}, got more");
                    return Err(FormatError::field("layers", message));
                }
            }
        }
        let labels = ClassLabels::decode(kind, bytes)?;
        Ok(NeuralNetwork { layers, labels })
    }
}

impl Layer {
    /// Reads a layer of at most so many names.
    fn decode(bytes: &[u8], most_names: usize) -> Result<Self, FormatError> {
        let kind = super::UNKNOWN;
        let mut layer =
            Layer { name: String::new(), kind, inputs: Vec::new(), outputs: Vec::new() };
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => layer.name = field.value.text("name")?,
                2 => layer.inputs.push(field.value.text("input")?),
                3 => layer.outputs.push(field.value.text("output")?),
                number => layer.kind = layer_kind(number).unwrap_or(layer.kind),
            }
            if layer.inputs.len() + layer.outputs.len() > most_names {
                let message = format!("expected at most {MOST_NAMES} in all layers, got more");
                return Err(FormatError::field("inputs and outputs", message));
            }
        }
        Ok(layer)
    }
}

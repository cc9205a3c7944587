//! Two ways to compute the same: how far their outputs are apart, and at which operation they part.

mod plot;

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use coreml_engine::{Difference, OperationResult};

pub use self::plot::plot_operations;
use crate::call::BoundCall;
use crate::error::{Result, ValueError};
use crate::state::CoreMLState;
use crate::values::{Dictionary, FeatureValue, Features, Image, Pixels, Sequence};

/// Results of operations that are held at a time: 256 MiB of `f32`. Functions that give more run several
/// times.
const MOST_HELD: usize = 64 << 20;

/// How a value differs from that of a reference.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeatureDifference {
    /// The name of the value.
    pub name: String,
    /// By numbers, if both are numbers, images or dictionaries of one shape.
    pub difference: Option<Difference>,
    /// Otherwise, what differs in words; `None` where nothing does.
    pub words: Option<String>,
}

impl FeatureDifference {
    /// Whether both are the same but for errors up to `tolerance`, as [`Difference::error`] has them.
    pub fn is_within(&self, tolerance: f64) -> bool {
        self.words.is_none() && self.difference.is_none_or(|of| is_within(&of, tolerance))
    }
}

/// How the result of an operation differs from that of the operation of the same name in a reference.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OperationDifference {
    /// The operation's name in the program.
    pub operation: String,
    /// Its operator.
    pub operator: String,
    /// The name of the result.
    pub output: String,
    /// The names of the loops and branches that it is in, from outside.
    pub path: Vec<String>,
    /// Which time, from 0: in loops operations run several times.
    pub time: usize,
    /// How far it is off; `None` if it has another number of elements.
    pub difference: Option<Difference>,
}

impl OperationDifference {
    /// Whether both are the same but for errors up to `tolerance`, as [`Difference::error`] has them.
    pub fn is_within(&self, tolerance: f64) -> bool {
        self.difference.is_some_and(|of| is_within(&of, tolerance))
    }
}

fn is_within(difference: &Difference, tolerance: f64) -> bool {
    difference.nan == 0 && difference.infinite == 0 && difference.error <= tolerance
}

/// How each value of `reference` differs in `values`, in the order of `reference`; then what it does not
/// have.
pub fn compare_features(reference: &Features, values: &Features) -> Vec<FeatureDifference> {
    let in_words = |name: &str, words: &str| FeatureDifference {
        name: name.to_owned(),
        difference: None,
        words: Some(words.to_owned()),
    };
    let mut differences: Vec<FeatureDifference> = reference
        .iter()
        .map(|(name, expected)| match values.get(name) {
            Some(got) => compare_values(name, expected, got),
            None => in_words(name, "only the reference has it"),
        })
        .collect();
    let unknown = values.iter().filter(|(name, _)| reference.get(name).is_none());
    differences.extend(unknown.map(|(name, _)| in_words(name, "the reference does not have it")));
    differences
}

fn compare_values(name: &str, expected: &FeatureValue, got: &FeatureValue) -> FeatureDifference {
    let mut found = FeatureDifference { name: name.to_owned(), difference: None, words: None };
    match (numbers(expected), numbers(got)) {
        (Ok(Some(expected)), Ok(Some(got))) => {
            found.difference = Difference::between(&got.values, &expected.values)
                .filter(|_| got.kind == expected.kind);
            if found.difference.is_none() {
                found.words = Some(format!("{} instead of {}", got.kind, expected.kind));
            }
        }
        (Err(error), _) | (_, Err(error)) => found.words = Some(error.to_string()),
        _ => {
            let (expected, got) = (shown(expected), shown(got));
            found.words = (expected != got).then(|| format!("{got} instead of {expected}"));
        }
    }
    found
}

/// A value as numbers, with what has to be the same for them to be compared.
struct Numbers {
    kind: String,
    values: Vec<f32>,
}

/// A value as numbers; `None` for strings and what consists of them.
fn numbers(value: &FeatureValue) -> Result<Option<Numbers>, ValueError> {
    Ok(Some(match value {
        FeatureValue::Tensor(tensor) => {
            Numbers { kind: format!("shape {:?}", tensor.dims()), values: floats(tensor)? }
        }
        FeatureValue::Image(image) => pixels(image),
        FeatureValue::Int64(value) => {
            Numbers { kind: "an integer".to_owned(), values: vec![*value as f32] }
        }
        FeatureValue::Double(value) => {
            Numbers { kind: "a float".to_owned(), values: vec![*value as f32] }
        }
        FeatureValue::Dictionary(dictionary) => entries(dictionary),
        FeatureValue::Sequence(_) | FeatureValue::String(_) => return Ok(None),
    }))
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, ValueError> {
    let read = || tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1();
    read().map_err(|error| ValueError::Candle(Box::new(error)))
}

fn pixels(image: &Image) -> Numbers {
    let bytes = |pixels: &[u8]| pixels.iter().map(|&pixel| f32::from(pixel)).collect();
    let values = match image.pixels() {
        Pixels::Rgb(pixels) | Pixels::Gray(pixels) => bytes(pixels),
        Pixels::GrayFloat(pixels) => pixels.clone(),
    };
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    Numbers { kind: format!("{width} × {height} pixels of {channels} channels"), values }
}

/// The numbers in the order of their keys.
fn entries(dictionary: &Dictionary) -> Numbers {
    let kind = format!("{} entries", dictionary.len());
    let values = match dictionary {
        Dictionary::Int64(entries) => entries.values().map(|&value| value as f32).collect(),
        Dictionary::String(entries) => entries.values().map(|&value| value as f32).collect(),
    };
    Numbers { kind, values }
}

/// Text of what is no number.
fn shown(value: &FeatureValue) -> String {
    match value {
        FeatureValue::String(string) => format!("`{string}`"),
        FeatureValue::Sequence(Sequence::Int64(elements)) => format!("{elements:?}"),
        FeatureValue::Sequence(Sequence::String(elements)) => format!("{elements:?}"),
        other => other.kind_in_words().to_owned(),
    }
}

/// A result, by the operations it is in, its name and which time it is given.
type Key = (Vec<String>, String, usize);

/// Counts how often each result has been given.
#[derive(Default)]
struct Times(HashMap<(Vec<String>, String), usize>);

impl Times {
    fn key(&mut self, result: &OperationResult) -> Key {
        let path: Vec<String> = result.path.iter().map(|&name| name.to_owned()).collect();
        let output = result.output.to_owned();
        let time = self.0.entry((path.clone(), output.clone())).or_default();
        *time += 1;
        (path, output, *time - 1)
    }
}

/// How the results of operations differ that both calls have by the same name, in the order in which the
/// reference runs. Operations that only one of them has are left out. Both are called with their inputs
/// as they are bound, and with copies of the states; `until` is told of each difference, and ends the
/// comparison with `true`.
///
/// Results are held up to a limit; beyond it both run again for the next ones.
///
/// # Errors
/// As for [`BoundCall::run`], or when a backend does not show what operations give.
pub fn compare_operations(
    reference: (&mut BoundCall, Option<&mut CoreMLState>),
    other: (&mut BoundCall, Option<&mut CoreMLState>),
    until: impl FnMut(&OperationDifference) -> bool,
) -> Result<Vec<OperationDifference>> {
    in_parts(MOST_HELD, reference, other, until)
}

/// [`compare_operations`] with at most `most` numbers held.
fn in_parts(
    most: usize,
    reference: (&mut BoundCall, Option<&mut CoreMLState>),
    other: (&mut BoundCall, Option<&mut CoreMLState>),
    mut until: impl FnMut(&OperationDifference) -> bool,
) -> Result<Vec<OperationDifference>> {
    let (reference, mut reference_state) = reference;
    let (other, mut other_state) = other;
    let (mut differences, mut seen) = (Vec::new(), 0);
    loop {
        let held = Held::after(seen, most, reference, reference_state.as_deref_mut())?;
        if held.order.is_empty() {
            return Ok(differences);
        }
        seen += held.order.len();
        for difference in held.differences(other, other_state.as_deref_mut())? {
            let ends = until(&difference);
            differences.push(difference);
            if ends {
                return Ok(differences);
            }
        }
    }
}

/// Results of the reference.
#[derive(Default)]
struct Held {
    order: Vec<Key>,
    values: HashMap<Key, Vec<f32>>,
}

impl Held {
    /// Those behind the first `seen`, as many as may be held.
    fn after(
        seen: usize,
        most: usize,
        call: &mut BoundCall,
        state: Option<&mut CoreMLState>,
    ) -> Result<Self> {
        let (mut held, mut times, mut number, mut room) =
            (Held::default(), Times::default(), 0, most);
        call.observe(state, &mut |result| {
            let key = times.key(&result);
            number += 1;
            let fits = room >= result.values.len() || held.order.is_empty();
            if number <= seen || !fits {
                // What comes behind a result that does not fit has to wait, too.
                room = if number > seen { 0 } else { room };
                return;
            }
            room = room.saturating_sub(result.values.len());
            held.order.push(key.clone());
            held.values.insert(key, result.values);
        })?;
        Ok(held)
    }

    /// How those that the other call gives, too, differ, in the order of the reference.
    fn differences(
        &self,
        call: &mut BoundCall,
        state: Option<&mut CoreMLState>,
    ) -> Result<Vec<OperationDifference>> {
        let (mut times, mut found) = (Times::default(), HashMap::new());
        call.observe(state, &mut |result| {
            let key = times.key(&result);
            if let Some(expected) = self.values.get(&key) {
                let difference = OperationDifference {
                    operation: result.operation.to_owned(),
                    operator: result.operator.to_owned(),
                    output: key.1.clone(),
                    path: key.0.clone(),
                    time: key.2,
                    difference: Difference::between(&result.values, expected),
                };
                found.insert(key, difference);
            }
        })?;
        Ok(self.order.iter().filter_map(|key| found.remove(key)).collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use coreml_format::{Package, mil};

    use super::*;
    use crate::backend::LoadOptions;
    use crate::model::CoreMLModel;

    fn model(body: &str) -> CoreMLModel {
        let text = format!(
            "program(1.3) {{ func main<ios18>(tensor<fp32, [4]> x) {{ {body} }} -> (y); }}"
        );
        let package = Package::from_program(mil::from_text(&text).unwrap()).unwrap();
        CoreMLModel::from_package(package, &LoadOptions::new()).unwrap()
    }

    fn bound(model: &CoreMLModel) -> BoundCall {
        let mut call = model.bind().unwrap();
        let x = Tensor::new(&[1.0f32, 2.0, -3.0, 0.5], &Device::Cpu).unwrap();
        call.set(0, x).unwrap();
        call
    }

    const LOOP: &str = r#"
        tensor<fp32, [4]> a = mul(x = x, y = fp32(2.0));
        tensor<fp32, [4]> v = while_loop(loop_vars = (a)) (tensor<fp32, [4]> b) {
            fp32 most = reduce_max(x = b, axes = tensor<int32, [1]>([0]), keep_dims = bool(false));
            bool go = less(x = most, y = fp32(20.0));
        } -> (go), (tensor<fp32, [4]> c) { tensor<fp32, [4]> d = mul(x = c, y = fp32(2.0)); } -> (d);
        tensor<fp32, [4]> y = add(x = v, y = fp32(1.0));"#;

    /// By hand: `a` is off by a quarter, so is what is a multiple of it.
    #[test]
    fn operations_are_compared_in_order_however_few_are_held() {
        let models = [
            model(LOOP),
            model(&LOOP.replace(
                "y = fp32(2.0));\n        tensor<fp32, [4]> v",
                "y = fp32(2.5));\n        tensor<fp32, [4]> v",
            )),
        ];
        let compared = |most: usize, end: bool| {
            let [mut a, mut b] = [bound(&models[0]), bound(&models[1])];
            in_parts(most, (&mut a, None), (&mut b, None), |of| end && !of.is_within(1e-6)).unwrap()
        };
        let all = compared(MOST_HELD, false);
        let names: Vec<_> = all.iter().map(|of| (&*of.output, of.time, of.path.len())).collect();
        assert_eq!(names[0], ("a", 0, 0));
        assert_eq!(names.last().unwrap(), &("y", 0, 0));
        assert!(names.contains(&("d", 1, 1)), "{names:?}");
        for of in all.iter().filter(|of| ["a", "d"].contains(&&*of.output)) {
            let difference = of.difference.unwrap();
            assert!((difference.error - 0.25).abs() < 1e-6, "{of:?}");
            assert!((difference.cosine - 1.0).abs() < 1e-12 && difference.differing == 4);
        }
        for most in [1, 5, 9] {
            let parts = compared(most, false);
            let same = parts.iter().zip(&all).all(|(a, b)| {
                (&a.output, a.time, a.difference) == (&b.output, b.time, b.difference)
            });
            assert!(same && parts.len() == all.len(), "{most}");
        }
        assert_eq!(compared(1, true).len(), 1, "they part at the first");
    }

    #[test]
    fn features_are_compared_by_what_they_are() {
        let tensor =
            |values: &[f32]| FeatureValue::from(Tensor::new(values, &Device::Cpu).unwrap());
        let reference = Features::from([
            ("t", tensor(&[3.0, 4.0])),
            ("s", "cat".into()),
            ("n", 3.into()),
            ("only", 1.into()),
            ("shape", tensor(&[1.0])),
        ]);
        let values = Features::from([
            ("t", tensor(&[3.0, 4.5])),
            ("s", "dog".into()),
            ("n", 3.into()),
            ("shape", tensor(&[1.0, 2.0])),
            ("new", 1.into()),
        ]);
        let differences = compare_features(&reference, &values);
        let words = |name: &str| {
            let of = differences.iter().find(|of| of.name == name).unwrap();
            (of.is_within(0.2), of.is_within(0.05), of.words.clone().unwrap_or_default())
        };
        assert_eq!(words("t"), (true, false, String::new()), "the error is 0.5 / 5");
        assert_eq!(words("s"), (false, false, "`dog` instead of `cat`".to_owned()));
        assert_eq!(words("n"), (true, true, String::new()));
        assert!(words("only").2.contains("only the reference"));
        assert!(words("new").2.contains("does not have it"));
        assert_eq!(words("shape").2, "shape [2] instead of shape [1]");
    }
}

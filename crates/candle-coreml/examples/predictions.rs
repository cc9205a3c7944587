//! Predicts for another process, which writes requests to standard input and reads replies from standard
//! output: models are loaded once, and states live here. `tools/conformance` runs coremltools' own tests
//! on it; its `engine.py` shows the other end.
//!
//! A message is a line of JSON and blobs behind it, whose lengths the line has in `blobs`. Arrays and
//! images are blobs, which the JSON refers to by number.
//!
//!     cargo build --release --example predictions

use std::collections::HashMap;
use std::io::{self, BufRead, BufWriter, Read, Write};

use candle_coreml::candle_core::{DType, Device, Tensor};
use candle_coreml::description::ShapeMismatch;
use candle_coreml::serde_json::{self, Value as Json, json};
use candle_coreml::{
    CoreMLModel, CoreMLState, Dictionary, Error, FeatureValue, Features, Image, LoadOptions,
    Package, Pixels, Sequence, ValueError, mil,
};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let (mut from, mut to) = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    let mut server = Server::default();
    while let Some(request) = Message::read(&mut from)? {
        let reply = server.answer(&request).unwrap_or_else(|error| Message::error(&*error));
        reply.write(&mut to)?;
    }
    Ok(())
}

/// What Core ML says of a shape that a model does not take: words that tests look for.
fn core_ml_text(error: &Error) -> Option<String> {
    let Error::Input { source: ValueError::Shape { mismatch, .. }, .. } = error else {
        return None;
    };
    match mismatch.as_deref()? {
        ShapeMismatch::OutOfRange { dimension, size, allowed: (smallest, largest) } => {
            let largest = largest.map_or("-1".to_owned(), |largest| largest.to_string());
            Some(format!(
                "Size ({size}) of dimension ({dimension}) is not in allowed range ({smallest}..{largest})"
            ))
        }
        ShapeMismatch::NotEnumerated { shape, .. } => {
            let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
            let shape = sizes.join(" x ");
            Some(format!("MultiArray Shape ({shape}) was not in enumerated set of allowed shapes"))
        }
        _ => None,
    }
}

/// A line of JSON with blobs.
#[derive(Default)]
struct Message {
    head: Json,
    blobs: Vec<Vec<u8>>,
}

impl Message {
    fn new(head: Json) -> Self {
        Message { head, blobs: Vec::new() }
    }

    /// The error with its causes, as far as it does not tell of them itself.
    fn error(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let text = causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
            if text.contains(&cause) { text } else { format!("{text}: {cause}") }
        });
        let text = match error.downcast_ref().and_then(core_ml_text) {
            Some(words) => format!("{words}: {text}"),
            None => text,
        };
        Message::new(json!({ "error": text }))
    }

    /// The next message; `None` at the end.
    fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let head: Json = serde_json::from_str(&line)?;
        let mut blobs = Vec::new();
        for len in head["blobs"].as_array().into_iter().flatten() {
            let mut blob = Vec::new();
            from.take(len.as_u64().ok_or("a blob without a length")?).read_to_end(&mut blob)?;
            blobs.push(blob);
        }
        Ok(Some(Message { head, blobs }))
    }

    fn write(mut self, to: &mut impl Write) -> Result<()> {
        self.head["blobs"] = self.blobs.iter().map(Vec::len).collect();
        writeln!(to, "{}", self.head)?;
        self.blobs.iter().try_for_each(|blob| to.write_all(blob))?;
        Ok(to.flush()?)
    }

    fn text(&self, key: &str) -> Result<&str> {
        Ok(self.head[key].as_str().ok_or_else(|| format!("`{key}` is missing"))?)
    }

    fn number(&self, key: &str) -> Result<u64> {
        Ok(self.head[key].as_u64().ok_or_else(|| format!("`{key}` is missing"))?)
    }

    /// A value as the other process has it.
    fn value(&self, value: &Json) -> Result<FeatureValue> {
        let (kind, content) =
            value.as_object().and_then(|map| map.iter().next()).ok_or("no value")?;
        Ok(match kind.as_str() {
            "array" => self.array(content)?.into(),
            "image" => self.image(content)?.into(),
            "string" => content.as_str().ok_or("no string")?.into(),
            "int64" => content.as_i64().ok_or("no integer")?.into(),
            "double" => content.as_f64().ok_or("no number")?.into(),
            "dictionary" => dictionary(content)?.into(),
            other => return Err(format!("unknown kind `{other}`").into()),
        })
    }

    fn blob(&self, value: &Json) -> Result<&[u8]> {
        let blob = value["blob"].as_u64().and_then(|number| self.blobs.get(number as usize));
        Ok(blob.ok_or("no such blob")?)
    }

    fn array(&self, value: &Json) -> Result<Tensor> {
        let dtype = match value["dtype"].as_str() {
            Some("int32") => DType::I32,
            Some("float64") => DType::F64,
            _ => DType::F32,
        };
        let shape = sizes(&value["shape"]);
        Ok(match shape.contains(&0) {
            true => Tensor::zeros(shape, dtype, &Device::Cpu)?,
            false => Tensor::from_raw_buffer(self.blob(value)?, dtype, &shape, &Device::Cpu)?,
        })
    }

    fn image(&self, value: &Json) -> Result<Image> {
        let &[width, height] = sizes(&value["size"]).as_slice() else {
            return Err("no size".into());
        };
        let pixels = self.blob(value)?.to_vec();
        Ok(match value["mode"].as_str() {
            Some("L") => Image::from_gray(width, height, pixels)?,
            Some("F") => {
                let floats = pixels.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                Image::from_gray_floats(width, height, floats.collect())?
            }
            _ => Image::from_rgb(width, height, pixels)?,
        })
    }

    /// Puts a value into the message; gives what refers to it.
    fn add(&mut self, value: &FeatureValue) -> Result<Json> {
        Ok(match value {
            FeatureValue::Tensor(tensor) => self.add_array(tensor)?,
            FeatureValue::Image(image) => {
                let (mode, pixels) = match image.pixels() {
                    Pixels::Rgb(pixels) => ("RGB", pixels.clone()),
                    Pixels::Gray(pixels) => ("L", pixels.clone()),
                    Pixels::GrayFloat(pixels) => ("F", bytes(pixels.clone(), f32::to_le_bytes)),
                    _ => return Err("no form for such an image".into()),
                };
                let size = [image.width(), image.height()];
                self.blobs.push(pixels);
                json!({ "image": { "blob": self.blobs.len() - 1, "mode": mode, "size": size } })
            }
            FeatureValue::String(string) => json!({ "string": string }),
            FeatureValue::Int64(integer) => json!({ "int64": integer }),
            FeatureValue::Double(float) => json!({ "double": float }),
            FeatureValue::Dictionary(Dictionary::Int64(entries)) => {
                json!({ "dictionary": entries.iter().collect::<Vec<_>>() })
            }
            FeatureValue::Dictionary(Dictionary::String(entries)) => {
                json!({ "dictionary": entries.iter().collect::<Vec<_>>() })
            }
            FeatureValue::Sequence(Sequence::Int64(elements)) => json!({ "sequence": elements }),
            FeatureValue::Sequence(Sequence::String(elements)) => json!({ "sequence": elements }),
            other => return Err(format!("no form for {}", other.kind_in_words()).into()),
        })
    }

    fn add_array(&mut self, tensor: &Tensor) -> Result<Json> {
        let flat = tensor.flatten_all()?;
        let (dtype, bytes): (_, Vec<u8>) = match tensor.dtype() {
            DType::F64 => ("float64", bytes(flat.to_vec1::<f64>()?, f64::to_le_bytes)),
            dtype if dtype.is_float() => {
                let floats = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                ("float32", bytes(floats, f32::to_le_bytes))
            }
            _ => {
                let integers = flat.to_dtype(DType::I64)?.to_vec1::<i64>()?;
                ("int32", bytes(integers, |integer| (integer as i32).to_le_bytes()))
            }
        };
        self.blobs.push(bytes);
        let blob = self.blobs.len() - 1;
        Ok(json!({ "array": { "blob": blob, "dtype": dtype, "shape": tensor.dims() } }))
    }
}

fn bytes<T, const SIZE: usize>(values: Vec<T>, of: impl Fn(T) -> [u8; SIZE]) -> Vec<u8> {
    values.into_iter().flat_map(of).collect()
}

fn sizes(value: &Json) -> Vec<usize> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|size| Some(size.as_u64()? as usize))
        .collect()
}

/// A dictionary as a list of keys with their values; an empty one has keys of strings.
fn dictionary(entries: &Json) -> Result<Dictionary> {
    let entries: Vec<(Json, f64)> = serde_json::from_value(entries.clone())?;
    if entries.first().is_some_and(|(key, _)| key.is_i64()) {
        let entry = |(key, value): &(Json, f64)| Some((key.as_i64()?, *value));
        return Ok(Dictionary::Int64(entries.iter().filter_map(entry).collect()));
    }
    let entry = |(key, value): &(Json, f64)| Some((key.as_str()?.to_owned(), *value));
    Ok(Dictionary::String(entries.iter().filter_map(entry).collect()))
}

/// Models and states by number.
#[derive(Default)]
struct Server {
    made: u64,
    models: HashMap<u64, CoreMLModel>,
    states: HashMap<u64, CoreMLState>,
}

impl Server {
    fn answer(&mut self, request: &Message) -> Result<Message> {
        for number in request.head["drop"].as_array().into_iter().flatten().filter_map(Json::as_u64)
        {
            self.models.remove(&number);
            self.states.remove(&number);
        }
        match request.text("do")? {
            "load" => self.load(request),
            "predict" => self.predict(request),
            "new_state" => self.new_state(request),
            "read_state" => self.read_state(request),
            "write_state" => self.write_state(request),
            "mil" => {
                let package = Package::open(request.text("path")?)?;
                let program = package.model()?.program().ok_or("the model is no ML Program")?;
                Ok(Message::new(json!({ "text": mil::to_text(program) })))
            }
            other => Err(format!("unknown request `{other}`").into()),
        }
    }

    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn model(&self, request: &Message) -> Result<&CoreMLModel> {
        Ok(self.models.get(&request.number("model")?).ok_or("no such model")?)
    }

    fn state(&mut self, request: &Message) -> Result<&mut CoreMLState> {
        Ok(self.states.get_mut(&request.number("state")?).ok_or("no such state")?)
    }

    fn load(&mut self, request: &Message) -> Result<Message> {
        let mut options = LoadOptions::new();
        options.function = request.head["function"].as_str().map(str::to_owned);
        let model = CoreMLModel::load(request.text("path")?, &options)?;
        let number = self.next();
        let function = serde_json::to_value(model.function_description())?;
        self.models.insert(number, model);
        Ok(Message::new(json!({ "model": number, "function": function })))
    }

    fn predict(&mut self, request: &Message) -> Result<Message> {
        let mut inputs = Features::new();
        for (name, value) in request.head["inputs"].as_object().ok_or("no inputs")? {
            inputs.push(name, request.value(value)?);
        }
        let model = self.model(request)?.clone();
        let state = match request.head["state"].is_null() {
            true => None,
            false => Some(self.state(request)?),
        };
        let outputs = model.predict_features(&inputs, state)?;
        let mut reply = Message::new(json!({ "outputs": {} }));
        for (name, value) in outputs.iter() {
            reply.head["outputs"][name] = reply.add(value)?;
        }
        Ok(reply)
    }

    fn new_state(&mut self, request: &Message) -> Result<Message> {
        let state = self.model(request)?.make_state()?;
        let number = self.next();
        self.states.insert(number, state);
        Ok(Message::new(json!({ "state": number })))
    }

    fn read_state(&mut self, request: &Message) -> Result<Message> {
        let value = self.state(request)?.read(request.text("name")?)?;
        let mut reply = Message::default();
        reply.head = json!({ "value": reply.add(&value.into())? });
        Ok(reply)
    }

    fn write_state(&mut self, request: &Message) -> Result<Message> {
        let FeatureValue::Tensor(value) = request.value(&request.head["value"])? else {
            return Err("a state is an array".into());
        };
        self.state(request)?.write(request.text("name")?, &value)?;
        Ok(Message::new(json!({})))
    }
}

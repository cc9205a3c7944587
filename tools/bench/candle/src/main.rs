//! `candle-peer FILE.gguf --prompt 64,448 --positions 0,448 --tokens 16 --repeat 3`: measures candle's quantized
//! Qwen 3 as `candle-coreml bench` measures this project. `RAYON_NUM_THREADS` says on how many threads.

use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_qwen3::ModelWeights;
use serde_json::{Value, json};

/// What is asked for on the command line.
#[derive(Default)]
struct Work {
    file: String,
    prompts: Vec<usize>,
    positions: Vec<usize>,
    tokens: usize,
    repeat: usize,
}

fn main() -> Result<()> {
    let work = Work::read(std::env::args().skip(1))?;
    let began = Instant::now();
    let mut model = Model::load(&work.file)?;
    let load = began.elapsed().as_secs_f64();
    let mut prefill = Vec::new();
    for &tokens in &work.prompts {
        let rate = median(work.repeat, || model.prefill(tokens))?;
        prefill.push(json!({ "tokens": tokens, "tokens_per_second": rate }));
    }
    let mut decode = Vec::new();
    for &position in &work.positions {
        let rate = median(work.repeat, || model.decode(position, work.tokens))?;
        decode.push(json!({ "position": position, "tokens_per_second": rate }));
    }
    let report: Value = json!({ "load_seconds": load, "prefill": prefill, "decode": decode });
    println!("{report}");
    Ok(())
}

impl Work {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut work = Work { file: words.next().context("give a file")?, ..Work::default() };
        while let Some(option) = words.next() {
            let value = words.next().with_context(|| format!("{option} has no value"))?;
            let numbers: Vec<usize> = value
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .context(option.clone())?;
            let first = numbers.first().copied().unwrap_or(1);
            match option.as_str() {
                "--prompt" => work.prompts = numbers,
                "--positions" => work.positions = numbers,
                "--tokens" => work.tokens = first,
                "--repeat" => work.repeat = first,
                _ => bail!("what is {option}?"),
            }
        }
        Ok(work)
    }
}

struct Model {
    weights: ModelWeights,
}

impl Model {
    fn load(path: &str) -> Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let content = gguf_file::Content::read(&mut file)?;
        Ok(Model { weights: ModelWeights::from_gguf(content, &mut file, &Device::Cpu)? })
    }

    /// Runs tokens from a position on; gives the seconds.
    fn run(&mut self, count: usize, position: usize) -> Result<f64> {
        // Ids that any vocabulary has.
        let ids: Vec<u32> = (0..count as u32).map(|number| number * 7 % 251).collect();
        let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let began = Instant::now();
        self.weights.forward(&input, position)?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Tokens of a prompt in a second.
    fn prefill(&mut self, tokens: usize) -> Result<f64> {
        self.weights.clear_kv_cache();
        Ok(tokens as f64 / self.run(tokens, 0)?)
    }

    /// Tokens in a second, one by one from a position on.
    fn decode(&mut self, position: usize, tokens: usize) -> Result<f64> {
        self.weights.clear_kv_cache();
        let position = position.max(1);
        self.run(position, 0)?;
        let mut seconds = 0.0;
        for number in 0..tokens {
            seconds += self.run(1, position + number)?;
        }
        Ok(tokens as f64 / seconds)
    }
}

/// The median of some runs, after one that warms up.
fn median(repeat: usize, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    run()?;
    let mut rates = (0..repeat.max(1)).map(|_| run()).collect::<Result<Vec<f64>>>()?;
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

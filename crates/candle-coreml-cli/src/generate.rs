//! `generate`: continues a text.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use candle_coreml::{Generation, GenerationOptions, QwenModel};
use serde_json::json;

use crate::args::GenerateArgs;
use crate::{demo, download};

/// Generates and prints the text as it comes, or the result as JSON.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let demo = if args.model == Path::new("demo") { Some(demo::extract()?) } else { None };
    let directory = match &demo {
        Some(demo) => demo.path().to_owned(),
        None => download::model_directory(&args.model)?,
    };
    let mut model = QwenModel::load_from_directory(directory, None)?;
    let load_time = model.load_time();
    let options = options(args);
    if args.json {
        let generation = model.generate(&args.prompt, &options)?;
        writeln!(io::stdout(), "{}", report(&generation, load_time))?;
    } else {
        let generation = print_stream(&mut model, &args.prompt, &options)?;
        eprintln!("{}", timings_line(&generation, load_time));
    }
    Ok(())
}

fn options(args: &GenerateArgs) -> GenerationOptions {
    let mut options = GenerationOptions::new()
        .max_tokens(args.max_tokens)
        .temperature(args.temperature)
        .ignore_eos(args.ignore_eos);
    options.top_k = args.top_k;
    options.top_p = args.top_p;
    options.seed = args.seed;
    options
}

/// Prints the text and nothing else.
fn print_stream(
    model: &mut QwenModel,
    prompt: &str,
    options: &GenerationOptions,
) -> Result<Generation> {
    let mut stdout = io::stdout().lock();
    let mut stream = model.stream(prompt, options)?;
    for token in stream.by_ref() {
        stdout.write_all(token?.text.as_bytes())?;
        stdout.flush()?;
    }
    if stdout.is_terminal() {
        // The timings go to the same screen.
        eprintln!();
    }
    Ok(stream.generation())
}

fn timings_line(generation: &Generation, load_time: Duration) -> String {
    let usage = &generation.usage;
    let rate =
        |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!(" ({rate:.1} tokens/s)"));
    format!(
        "loaded in {:.2} s; prompt: {} tokens{}; generated: {} tokens{}",
        load_time.as_secs_f64(),
        usage.prompt_tokens,
        rate(generation.prompt_tokens_per_second()),
        usage.generated_tokens,
        rate(generation.generated_tokens_per_second()),
    )
}

fn report(generation: &Generation, load_time: Duration) -> serde_json::Value {
    json!({
        "prompt_ids": generation.prompt_ids,
        "token_ids": generation.token_ids,
        "text": generation.text,
        "finish_reason": generation.finish_reason.name(),
        "timings": {
            "load_seconds": load_time.as_secs_f64(),
            "prompt_seconds": generation.timings.prompt.as_secs_f64(),
            "prompt_tokens_per_second": generation.prompt_tokens_per_second(),
            "decode_seconds": generation.timings.decode.as_secs_f64(),
            "generated_tokens_per_second": generation.generated_tokens_per_second(),
        },
    })
}

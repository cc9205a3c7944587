//! `generate`: continues a text.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use candle_coreml::{
    Generation, GenerationOptions, LanguageModel, LanguageModelOptions, TokenStream,
};

use crate::args::{GenerateArgs, ThreadArgs};
use crate::demo::Demo;
use crate::download;
use crate::term;

/// Generates and prints the text as it comes, or the result as JSON.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let (mut model, _demo) = load(&args.model, &args.threads)?;
    let load_time = model.load_time();
    let mut options = args.sampling.apply(GenerationOptions::new()).ignore_eos(args.ignore_eos);
    options.logprobs = args.logprobs;
    if args.json {
        let generation = model.generate(&args.prompt, &options)?;
        writeln!(io::stdout(), "{}", report(&generation, load_time)?)?;
    } else {
        let generation = print_stream(model.stream(&args.prompt, &options)?)?;
        let load_time = load_time.as_secs_f64();
        term::tell(format_args!("loaded in {load_time:.2} s; {}", timings_line(&generation)));
    }
    Ok(())
}

/// The model of a directory, of the hub, or the one in this program, whose files have to stay as
/// long as it.
pub fn load(model: &Path, threads: &ThreadArgs) -> Result<(LanguageModel, Option<Demo>)> {
    let mut options = LanguageModelOptions::new();
    if let Some(threads) = threads.threads {
        options = options.threads(threads)?;
    }
    let (directory, demo) = download::model_directory(model)?;
    let model = LanguageModel::load_with(directory, &options)?;
    for finding in model.findings() {
        term::note(finding);
    }
    Ok((model, demo))
}

/// Prints the text and nothing else.
pub fn print_stream(mut stream: TokenStream) -> Result<Generation> {
    let mut stdout = io::stdout().lock();
    for token in stream.by_ref() {
        stdout.write_all(token?.text.as_bytes())?;
        stdout.flush()?;
    }
    drop(stdout);
    let generation = stream.generation();
    if !generation.text.ends_with('\n') {
        term::end_open_line()?;
    }
    Ok(generation)
}

/// Counts and rates.
pub fn timings_line(generation: &Generation) -> String {
    let usage = &generation.usage;
    let rate =
        |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!(" ({rate:.1} tokens/s)"));
    let mut line = format!(
        "prompt: {} tokens{}; generated: {} tokens{}",
        usage.prompt_tokens,
        rate(generation.prompt_tokens_per_second()),
        usage.generated_tokens,
        rate(generation.generated_tokens_per_second()),
    );
    if usage.drafted_tokens > 0 {
        let (drafted, accepted) = (usage.drafted_tokens, usage.accepted_tokens);
        line.push_str(&format!("; guessed: {drafted} tokens, {accepted} of them right"));
    }
    if usage.shifted_tokens > 0 {
        line.push_str(&format!("; forgotten: {} tokens", usage.shifted_tokens));
    }
    line
}

fn report(generation: &Generation, load_time: Duration) -> Result<serde_json::Value> {
    let mut report = serde_json::to_value(generation)?;
    let timings = &mut report["timings"];
    timings["load_seconds"] = load_time.as_secs_f64().into();
    timings["prompt_tokens_per_second"] = generation.prompt_tokens_per_second().into();
    timings["generated_tokens_per_second"] = generation.generated_tokens_per_second().into();
    Ok(report)
}

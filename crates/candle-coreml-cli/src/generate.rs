//! `generate`: continues a text.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use candle_coreml::{
    FinishReason, Generation, GenerationOptions, LanguageModel, LanguageModelOptions, TokenStream,
};
use serde_json::{Value as Json, json};

use crate::args::{ComputeArgs, GenerateArgs};
use crate::demo::Demo;
use crate::exit::Exit;
use crate::screen::print_stream;
use crate::{download, interrupt, prompt, term};

/// Generates and prints the text as it comes, or the result as JSON.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let prompt = prompt::named_or_piped(&args.words, &args.source)?;
    let (mut model, _demo) = load(&args.model.model, &args.compute)?;
    let load_time = model.load_time();
    let mut options = args.sampling.apply(GenerationOptions::new()).ignore_eos(args.ignore_eos);
    options.logprobs = args.logprobs;
    let generation = interrupt::cancellable(|cancel| {
        options.cancel = Some(cancel);
        if args.json {
            return Ok(model.generate(&prompt, &options)?);
        }
        let stream = model.stream(&prompt, &options)?;
        if args.json_lines { print_lines(stream) } else { print_stream(stream, false) }
    })?;
    if args.json {
        print_json(&report(&generation, load_time)?)?;
    } else if args.json_lines {
        print_json(&summary(&report(&generation, load_time)?))?;
    } else {
        if !generation.text.ends_with('\n') {
            term::end_open_line()?;
        }
        let load_time = load_time.as_secs_f64();
        term::tell(format_args!("loaded in {load_time:.2} s; {}", timings_line(&generation)));
    }
    match generation.finish_reason {
        FinishReason::Cancelled => Err(Exit::Interrupted.into()),
        _ => Ok(()),
    }
}

/// The model of a directory, of the hub, or the one in this program, whose files have to stay as
/// long as it.
pub fn load(model: &Path, compute: &ComputeArgs) -> Result<(LanguageModel, Option<Demo>)> {
    let options = options(compute)?;
    let (directory, demo) = download::model_directory(model)?;
    let model = LanguageModel::load_with(directory, &options)?;
    for finding in model.findings() {
        term::note(finding);
    }
    Ok((model, demo))
}

/// How a language model is loaded.
pub fn options(compute: &ComputeArgs) -> Result<LanguageModelOptions> {
    let options =
        LanguageModelOptions::new().precision(compute.precision()).numerics(compute.numerics());
    match compute.threads.threads {
        Some(threads) => Ok(options.threads(threads)?),
        None => Ok(options),
    }
}

/// Prints each token as it comes.
fn print_lines(mut stream: TokenStream) -> Result<Generation> {
    for token in stream.by_ref() {
        let token = token?;
        let mut line = json!({ "text": token.text, "id": token.id });
        if let Some(logprobs) = token.logprobs {
            line["logprobs"] = serde_json::to_value(logprobs)?;
        }
        print_json(&line)?;
    }
    Ok(stream.generation())
}

/// A line of its own, for whoever reads along.
fn print_json(value: &Json) -> Result<()> {
    let mut out = term::data();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// What the tokens do not tell.
fn summary(report: &Json) -> Json {
    let parts = ["finish_reason", "stop_string", "usage", "timings"];
    parts.into_iter().map(|name| (name.to_owned(), report[name].clone())).collect()
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

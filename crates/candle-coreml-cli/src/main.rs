//! `candle-coreml`: inspects, runs and compiles Core ML models, downloads language models, generates text
//! with them and talks with them.

// `term` prints, and does not panic where nobody reads.
#![deny(clippy::print_stderr)]

mod args;
mod array;
mod bench;
mod cache;
mod chat;
mod check;
mod compare;
mod compile;
mod config;
mod contents;
mod demo;
mod download;
mod exit;
mod generate;
mod images;
mod inputs;
mod inspect;
mod interrupt;
mod made_up;
mod names;
mod other_names;
mod outputs;
mod predict;
mod printable;
mod profile;
mod prompt;
mod screen;
mod subject;
mod table;
mod term;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use candle_coreml::{Error, FormatError, GenerationError, HubError};
use tracing_subscriber::EnvFilter;

use args::{Args, Command};
use exit::Exit;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    term::set_color(args::color(&arguments));
    match Args::read(&arguments) {
        Ok(args) => finish(run(&args), ExitCode::SUCCESS),
        // Help, or wrong usage with exit code 2.
        Err(answer) => {
            let code = u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
            finish(if answer.use_stderr() { told(&answer) } else { shown(&answer) }, code)
        }
    }
}

/// Wrong usage, told on standard error.
fn told(answer: &clap::Error) -> anyhow::Result<()> {
    // Nobody may listen.
    let _ = answer.print();
    Ok(())
}

/// Help that was asked for.
fn shown(answer: &clap::Error) -> anyhow::Result<()> {
    Ok(write!(term::out(), "{}", answer.render().ansi())?)
}

fn run(args: &Args) -> anyhow::Result<()> {
    if args.quiet {
        term::be_quiet();
    }
    term::set_color(args.color);
    log(args.verbose);
    interrupt::listen();
    execute(&args.command, args.verbose > 0)
}

fn execute(command: &Command, verbose: bool) -> anyhow::Result<()> {
    match command {
        Command::Inspect(args) => inspect::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Check(args) => check::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Compile(args) => compile::run(args),
        Command::Decompile(args) => compile::run_back(args),
        Command::Generate(args) => generate::run(args),
        Command::Config(args) => config::run(args),
        Command::Chat(args) => chat::run(args, verbose),
        Command::Download(args) => download::run(args),
        Command::Cache(command) => cache::run(command),
        Command::List => execute(&other_names::list()?, verbose),
        Command::Show(args) => execute(&other_names::show(args)?, verbose),
        Command::Rm(args) => execute(&other_names::remove(args)?, verbose),
        Command::Completions { shell } => other_names::completions(*shell),
        Command::Man { directory } => other_names::manual(directory.as_deref()),
    }
}

/// Lets the log go to standard error, as far as RUST_LOG or the times that `-v` was given say.
fn log(verbose: u8) {
    let chosen = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = chosen.as_deref().unwrap_or(match verbose {
        0 => "error",
        1 => "info",
        2 => "info,candle_coreml=debug,coreml_engine=debug",
        _ => "trace",
    });
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
        term::note(format_args!("RUST_LOG is not understood: {error}"));
        EnvFilter::new("error")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(term::err_has_colors())
        // It would panic where standard error can't be written to.
        .log_internal_errors(false)
        .init();
}

/// Says what failed, and with which code the program ends.
fn finish(result: anyhow::Result<()>, done: ExitCode) -> ExitCode {
    // What is still buffered may not arrive, either.
    let error = match result.and_then(|()| Ok(term::data().flush()?)) {
        Ok(()) => return done,
        Err(error) if term::is_closed_pipe(&error) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    match error.downcast_ref::<Exit>() {
        Some(exit) => {
            if let Exit::Usage(advice) = exit {
                term::error(advice);
            }
            ExitCode::from(exit.code())
        }
        None => {
            term::error(message(&error));
            if let Some(advice) = error.chain().find_map(advice) {
                term::say(advice);
            }
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, as far as it does not tell of them itself. Errors may quote files.
fn message(error: &anyhow::Error) -> String {
    let causes = error.chain().skip(1).map(ToString::to_string);
    let text = causes.fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    });
    printable::lines(&text, printable::LONGEST_TEXT).trim_end().to_owned()
}

/// What to do on the command line about errors of the library, which does not know of it.
fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let hub = error.downcast_ref().or_else(|| match error.downcast_ref::<Error>()? {
        Error::Hub(error) => Some(error),
        _ => None,
    });
    let format = error.downcast_ref().or_else(|| match error.downcast_ref::<Error>()? {
        Error::Format(error) => Some(error),
        _ => None,
    });
    let generation = error.downcast_ref().or_else(|| match error.downcast_ref::<Error>()? {
        Error::Generation(error) => Some(error),
        _ => None,
    });
    if let Some(GenerationError::NoTokenLeft { .. }) = generation {
        return Some(
            "`--logit-bias ID=-inf` forbids a token; other options are what the model recommends",
        );
    }
    match (hub, format) {
        (Some(HubError::Selection { .. }), _) => Some("`--include PATTERN` chooses files"),
        (_, Some(FormatError::GitLfsPointer { .. })) => {
            Some("`candle-coreml download ORG/NAME` fetches a model with its large files")
        }
        _ => None,
    }
}

//! `candle-coreml`: inspects and runs Core ML models, downloads language models, generates text with
//! them and talks with them.

mod args;
mod cache;
mod chat;
mod config;
mod contents;
mod demo;
mod download;
mod generate;
mod input;
mod inputs;
mod inspect;
mod npy;
mod predict;
mod weights;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use candle_coreml::{Error, FormatError, GenerationError, HubError};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Args, Command};

fn main() -> ExitCode {
    // Wrong usage ends here, with exit code 2.
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let result = match &args.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Config(args) => config::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Download(args) => download::run(args),
        Command::Cache(command) => cache::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            if let Some(advice) = error.chain().find_map(advice) {
                eprintln!("{advice}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, as far as it does not tell of them itself.
fn message(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
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

/// Whoever read the output has seen enough of it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

//! Variables of the environment for options, and names as other tools spell them.

use std::env;
use std::ffi::OsString;

use clap::builder::FalseyValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

/// Options about one call, which would surprise as settings of all. The threads' variable is the
/// library's.
const OF_ONE_CALL: &[&str] = &[
    "help",
    "version",
    "threads",
    "prompt",
    "file",
    "input",
    "inputs",
    "function",
    "prompts",
    "positions",
    "tokens",
    "prefill",
    "html",
    "plan",
    "json",
    "json_lines",
    "logprobs",
    "output_dir",
    "write",
    "revision",
    "include",
    "to",
    "all",
    "dry_run",
    "yes",
    "force",
];

/// Gives every option a variable: `CANDLE_COREML_` and its name.
pub fn with_variables(command: Command) -> Command {
    command.mut_args(with_variable).mut_subcommands(with_variables)
}

/// Lets `_` stand for `-` in names of options.
pub fn with_spellings(command: Command) -> Command {
    command.mut_args(with_underscores).mut_subcommands(with_spellings)
}

fn with_underscores(arg: Arg) -> Arg {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    let names = aliases.into_iter().chain(arg.get_long());
    let names: Vec<String> =
        names.filter(|name| name.contains('-')).map(|name| name.replace('-', "_")).collect();
    arg.aliases(names)
}

fn with_variable(mut arg: Arg) -> Arg {
    if arg.get_long().is_none() {
        return arg;
    }
    let id = arg.get_id().to_string();
    // An empty variable counts as none.
    if OF_ONE_CALL.contains(&id.as_str())
        || env::var_os(variable(&id)).is_some_and(|v| v.is_empty())
    {
        return arg;
    }
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg = arg.value_parser(FalseyValueParser::new());
    }
    arg.env(variable(&id)).hide_env_values(true)
}

fn variable(id: &str) -> String {
    format!("CANDLE_COREML_{}", id.to_uppercase())
}

/// Says so where a wrong value is that of a variable.
pub fn blame(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return error;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let long = argument.split([' ', '=']).next().unwrap_or_default().trim_start_matches('-');
    let variable = variable(&long.replace('-', "_"));
    let given = arguments.iter().any(|word| word.to_string_lossy().ends_with(&value));
    if !given && env::var(&variable).is_ok_and(|set| set == value) {
        let tip = format!("the value comes from the environment variable {variable}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

//! Arguments of the commands that turn models into other forms.

use std::path::PathBuf;

use candle_coreml::IfExists;

/// Arguments of `compile`.
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    /// A .mlpackage or .mlmodel
    pub model: PathBuf,
    /// The directory to write, whole or not at all
    #[arg(value_name = "OUT.mlmodelc")]
    pub out: PathBuf,
    #[command(flatten)]
    pub force: ForceArgs,
}

/// Arguments of `decompile`.
#[derive(Debug, clap::Args)]
pub struct DecompileArgs {
    /// A .mlmodelc
    pub model: PathBuf,
    /// The directory to write, whole or not at all
    #[arg(value_name = "OUT.mlpackage")]
    pub out: PathBuf,
    #[command(flatten)]
    pub force: ForceArgs,
}

/// What to do where something is there already.
#[derive(Debug, clap::Args)]
pub struct ForceArgs {
    /// Replaces a model of the same form that is there; anything else stays in any case
    #[arg(long)]
    pub force: bool,
}

impl ForceArgs {
    /// As the library has it.
    pub fn if_exists(&self) -> IfExists {
        if self.force { IfExists::Replace } else { IfExists::Refuse }
    }
}

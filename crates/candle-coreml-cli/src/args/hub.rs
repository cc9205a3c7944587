//! Arguments of the commands about models' directories and the hub.

use std::path::PathBuf;

use clap::Subcommand;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// Directory with the packages, or a model of the Hugging Face Hub
    #[arg(value_name = "DIR|ORG/NAME")]
    pub directory: PathBuf,
    /// Prints the configuration as JSON
    #[arg(long)]
    pub json: bool,
    /// Writes the configuration to DIRECTORY/model_config.json, which loading then goes by
    #[arg(long)]
    pub write: bool,
}

/// Arguments of `download`.
#[derive(Debug, clap::Args)]
#[command(after_help = HUB)]
pub struct DownloadArgs {
    /// The model's id on the hub, also with a revision as in ORG/NAME@main, or the address of its page
    #[arg(value_name = "ORG/NAME")]
    pub model: String,
    /// A branch, tag or commit; `main` unless told here or in the name
    #[arg(long, value_name = "R")]
    pub revision: Option<String>,
    /// Takes the files that match (`*` matches `/` too) instead of all that the model needs; may be
    /// given several times
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Puts the files into this directory instead of the cache; other files in it stay
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Does not use the network: succeeds if the cache has all files
    #[arg(long)]
    pub offline: bool,
}

const HUB: &str = "Environment: HF_TOKEN (for private and gated models), HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE, HF_ENDPOINT, as for other tools of Hugging Face.";

/// Subcommands of `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Lists models with commit, size and whether they are complete
    List,
    /// Compares files with their hashes
    Verify {
        /// Models to check; all unless given
        #[arg(value_name = "ORG/NAME")]
        models: Vec<String>,
    },
    /// Removes commits that no branch stands for any more, and leftovers of broken downloads
    Prune(PruneArgs),
    /// Prints the directories: that shared with other tools, and this program's own
    Dir,
}

/// Arguments of `cache prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Only files that this program has downloaded are removed.")]
pub struct PruneArgs {
    /// Models to remove files of; all unless given
    #[arg(value_name = "ORG/NAME")]
    pub models: Vec<String>,
    /// Removes the models named altogether
    #[arg(long, requires = "models")]
    pub all: bool,
    /// Only shows what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Does not ask
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// A .mlpackage, .mlmodel or .mlmodelc, a language model's directory, or a model of the Hugging
    /// Face Hub
    #[arg(value_name = "MODEL|ORG/NAME")]
    pub model: PathBuf,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Only files that this program has downloaded are removed.")]
pub struct RemoveArgs {
    /// Models to remove
    #[arg(value_name = "ORG/NAME", required = true)]
    pub models: Vec<String>,
    /// Only shows what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Does not ask
    #[arg(short, long)]
    pub yes: bool,
}

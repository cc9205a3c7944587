//! `cache`: what is there of models from the hub.

use std::io::Write;

use anyhow::{Result, bail};
use candle_coreml::hub::{CachedModelInfo, Completeness, HubClient, ModelId, OwnCache};
use indicatif::HumanBytes;

use crate::args::{CacheCommand, PruneArgs};
use crate::table::Table;
use crate::term;

/// Runs one of the subcommands.
pub fn run(command: &CacheCommand) -> Result<()> {
    let client = HubClient::new();
    match command {
        CacheCommand::List => list(&client),
        CacheCommand::Verify { models } => verify(&client, models),
        CacheCommand::Prune(args) => prune(&client, args),
        CacheCommand::Dir => {
            let mut out = term::out();
            writeln!(out, "{}", client.cache().display())?;
            writeln!(out, "{}", OwnCache::new().dir().display())?;
            Ok(())
        }
    }
}

fn list(client: &HubClient) -> Result<()> {
    let models = client.cached_models()?;
    if models.is_empty() {
        term::tell(format_args!("there are no models in {}", client.cache().display()));
    }
    let mut table = Table::list().right(&[2]);
    for model in models {
        let state = match model.completeness {
            Completeness::Complete => "complete".to_owned(),
            Completeness::Incomplete { missing } => format!("incomplete, {missing} files missing"),
            Completeness::Unknown => "by another tool".to_owned(),
            _ => "in an unknown state".to_owned(),
        };
        let size = HumanBytes(model.bytes).to_string();
        table.row([model.id.to_string(), revision(&model), size, state]);
    }
    Ok(write!(term::out(), "{}", table.text(term::width()))?)
}

/// The commit, and what it is called.
fn revision(model: &CachedModelInfo) -> String {
    let commit = model.commit.get(..12).unwrap_or(&model.commit);
    match model.revisions.as_slice() {
        [] => commit.to_owned(),
        names => format!("{commit} ({})", names.join(", ")),
    }
}

fn verify(client: &HubClient, ids: &[String]) -> Result<()> {
    let models = chosen(client, ids)?;
    let mut damaged = 0;
    for model in &models {
        for damage in client.verify(model)? {
            damaged += 1;
            term::say(format_args!("{}: `{}` {}", model.id, damage.path.display(), damage.message));
        }
        writeln!(term::out(), "{}  {}  checked", model.id, revision(model))?;
    }
    if damaged > 0 {
        bail!(
            "{damaged} files are missing or damaged; delete those named above and download again"
        );
    }
    Ok(())
}

/// The models with these ids; all without ids.
fn chosen(client: &HubClient, ids: &[String]) -> Result<Vec<CachedModelInfo>> {
    let mut models = client.cached_models()?;
    for id in ids {
        let id = ModelId::parse(id)?;
        if !models.iter().any(|model| model.id == id) {
            bail!("`{id}` is not in the cache; `candle-coreml cache list` shows what is");
        }
    }
    models.retain(|model| ids.is_empty() || ids.contains(&model.id.to_string()));
    Ok(models)
}

fn prune(client: &HubClient, args: &PruneArgs) -> Result<()> {
    chosen(client, &args.models)?;
    let ids: Vec<&str> = args.models.iter().map(String::as_str).collect();
    let prune = client.prune(&ids, args.all)?;
    let mut out = term::out();
    if prune.paths.is_empty() {
        writeln!(out, "nothing to remove")?;
        return Ok(());
    }
    for path in &prune.paths {
        writeln!(out, "{}", path.display())?;
    }
    let size = HumanBytes(prune.bytes);
    if args.dry_run {
        writeln!(out, "{size} would be free")?;
        return Ok(());
    }
    if !args.yes && !term::confirmed(&format!("remove these, {size}?"))? {
        bail!("nothing was removed; --yes removes without asking");
    }
    prune.apply()?;
    writeln!(out, "{size} are free")?;
    Ok(())
}

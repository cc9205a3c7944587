//! What the cache has, whether it is sound, and what of it can go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::cache::{ModelCache, blob_hash};
use super::file_list::HubFile;
use super::select::select;
use super::{HubClient, HubError, ModelId, assemble, files, hash, making};

/// A model in the cache, at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedModelInfo {
    /// The model's id.
    pub id: ModelId,
    /// The commit.
    pub commit: String,
    /// Branches and tags that stood for the commit when they were last fetched.
    pub revisions: Vec<String>,
    /// Directory with the commit's files.
    pub path: PathBuf,
    /// Size of the files that are there.
    pub bytes: u64,
    /// Whether all files are there that were asked for.
    pub completeness: Completeness,
}

/// Whether the files of a model are all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completeness {
    /// They are, in their sizes.
    Complete,
    /// Some are missing.
    Incomplete {
        /// How many.
        missing: usize,
    },
    /// Another tool has fetched the model, so that is not known.
    Unknown,
}

/// A file in the cache that is not as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

/// What can be removed from the caches.
#[derive(Debug, Default)]
pub struct Prune {
    /// Files and directories; directories go with all that is in them.
    pub paths: Vec<PathBuf>,
    /// Bytes that this makes free.
    pub bytes: u64,
    /// Directories that go if they are empty then, the lowest first.
    emptied: Vec<PathBuf>,
    /// Nobody downloads meanwhile.
    held: Vec<fs::File>,
}

impl HubClient {
    /// The Core ML models in the cache, and those that were asked for and are not complete.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn cached_models(&self) -> Result<Vec<CachedModelInfo>, HubError> {
        let mut models = Vec::new();
        for directory in files::entries(&self.settings.cache)? {
            let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(id) = ModelId::from_directory_name(name) {
                self.add_commits(&id, &mut models)?;
            }
        }
        Ok(models)
    }

    fn add_commits(&self, id: &ModelId, models: &mut Vec<CachedModelInfo>) -> Result<(), HubError> {
        let cache = ModelCache::new(&self.settings, id);
        let revisions = cache.revisions()?;
        for commit in cache.commits()? {
            let record = cache.record(&commit);
            let list = match &record {
                Some(record) => record.list.clone(),
                None => match cache.unlisted(id, &commit) {
                    // A model of another kind, which is none of this crate's business.
                    Some(list) if select(&list, &[]).is_ok() => list,
                    _ => continue,
                },
            };
            let wanted = match &record {
                Some(record) => select(&list, &record.include)?.files,
                None => list.files.clone(),
            };
            let missing = wanted.iter().filter(|file| !cache.has(&commit, file)).count();
            let completeness = match (&record, missing) {
                (None, _) => Completeness::Unknown,
                (_, 0) => Completeness::Complete,
                (_, missing) => Completeness::Incomplete { missing },
            };
            let here = list.files.iter().filter(|file| cache.has(&commit, file));
            models.push(CachedModelInfo {
                id: id.clone(),
                revisions: revisions
                    .iter()
                    .filter(|r| r.1 == commit)
                    .map(|r| r.0.clone())
                    .collect(),
                path: cache.snapshot(&commit),
                bytes: here.map(|file| file.size).fold(0, u64::saturating_add),
                completeness,
                commit,
            });
        }
        Ok(())
    }

    /// Hashes the files of a cached model, and gives those that are missing or damaged. The hub is
    /// not asked. Files of other tools that are copies, not links, can't be checked.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn verify(&self, model: &CachedModelInfo) -> Result<Vec<Damage>, HubError> {
        let cache = ModelCache::new(&self.settings, &model.id);
        let snapshot = cache.snapshot(&model.commit);
        let wanted = match cache.record(&model.commit) {
            Some(record) => select(&record.list, &record.include)?.files,
            None => {
                let list = cache.unlisted(&model.id, &model.commit);
                let files = list.map(|list| list.files).unwrap_or_default();
                files
                    .into_iter()
                    .filter(|file| blob_hash(&snapshot.join(&file.path)).is_some())
                    .collect()
            }
        };
        let checked = wanted.iter().filter_map(|file| damage(&snapshot, file).transpose());
        checked.collect()
    }

    /// What can be removed of the models with these ids, or of all models: commits that no branch
    /// or tag stands for any more, and what broken downloads have left; with `all`, everything.
    /// Without ids also what processes that were killed have left in this crate's own cache. Of
    /// the cache shared with other tools only what this crate has fetched, and what no other commit
    /// needs.
    ///
    /// # Errors
    /// When the cache can't be read, an id is malformed, or a model is being downloaded.
    pub fn prune(&self, ids: &[&str], all: bool) -> Result<Prune, HubError> {
        let mut chosen = BTreeSet::new();
        for id in ids {
            chosen.insert(ModelId::parse(id)?);
        }
        if chosen.is_empty() {
            chosen.extend(self.cached_models()?.into_iter().map(|model| model.id));
        }
        let mut prune = Prune::default();
        if ids.is_empty() {
            self.prune_temporary(&mut prune)?;
        }
        for id in chosen {
            let cache = ModelCache::new(&self.settings, &id);
            let busy =
                || HubError::argument(id.to_string(), "is being downloaded; try again later");
            prune.held.push(files::try_lock(&cache.users())?.ok_or_else(busy)?);
            self.prune_model(&id, &cache, all, &mut prune)?;
        }
        Ok(prune)
    }

    /// Directories that were not finished, unless one is being made now.
    fn prune_temporary(&self, prune: &mut Prune) -> Result<(), HubError> {
        let own = &self.settings.own;
        let left = files::entries(&making::temporary(own))?;
        if left.is_empty() {
            return Ok(());
        }
        if let Some(held) = files::try_lock(&making::lock(own))? {
            prune.held.push(held);
            left.into_iter().for_each(|path| prune.add(path));
        }
        Ok(())
    }

    fn prune_model(
        &self,
        id: &ModelId,
        cache: &ModelCache,
        all: bool,
        prune: &mut Prune,
    ) -> Result<(), HubError> {
        let fetched = cache.all_fetched()?;
        let revisions = cache.revisions()?;
        let is_kept = |commit: &str| !all && revisions.iter().any(|(_, kept)| kept == commit);
        let mut removed = BTreeSet::new();
        for commit in cache.commits()?.iter().filter(|commit| !is_kept(commit)) {
            let Some(record) = cache.record(commit) else { continue };
            let snapshot = cache.snapshot(commit);
            let ours = record.list.files.iter().filter(|file| fetched.contains(file.hash.as_str()));
            for path in ours.map(|file| snapshot.join(&file.path)) {
                if fs::symlink_metadata(&path).is_ok() && removed.insert(path.clone()) {
                    prune.emptied.extend(parents(&path, &snapshot));
                    prune.paths.push(path);
                }
            }
            prune.emptied.push(snapshot);
            prune.add(cache.record_path(commit));
            prune.add(assemble::directory(&self.settings.own, id, commit));
            if all {
                let named = revisions.iter().filter(|(_, of)| of == commit);
                for (revision, _) in named {
                    prune.add(cache.revision_path(revision));
                }
            }
        }
        let kept = files::walk(&cache.snapshots())?;
        let kept = kept.iter().filter(|path| !removed.contains(*path));
        let needed: BTreeSet<String> =
            kept.filter_map(|path| Some(blob_hash(path)?.as_str().to_owned())).collect();
        for hash in fetched.iter().filter(|hash| !needed.contains(*hash)) {
            prune.add(cache.blobs().join(hash));
            prune.add(cache.fetched(hash));
        }
        for hash in &fetched {
            prune.add(cache.blobs().join(format!("{hash}.incomplete")));
        }
        Ok(())
    }
}

impl Prune {
    /// Removes the files.
    ///
    /// # Errors
    /// When the system refuses; what was removed by then stays so.
    pub fn apply(mut self) -> Result<(), HubError> {
        for path in &self.paths {
            let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
            let removed =
                if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.map_err(HubError::io(path))?;
        }
        // The lowest first; those with files of others in them stay.
        self.emptied.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for directory in &self.emptied {
            fs::remove_dir(directory).ok();
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { return };
        let inside =
            if metadata.is_dir() { files::walk(&path).unwrap_or_default() } else { vec![] };
        let sizes = inside.iter().chain([&path]).filter_map(|path| fs::symlink_metadata(path).ok());
        let files = sizes.filter(fs::Metadata::is_file);
        self.bytes += files.map(|metadata| metadata.len()).sum::<u64>();
        self.paths.push(path);
    }
}

/// Directories above a path, up to `root`.
fn parents<'a>(path: &'a Path, root: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
    path.ancestors().skip(1).take_while(move |parent| *parent != root).map(Path::to_owned)
}

fn damage(snapshot: &Path, file: &HubFile) -> Result<Option<Damage>, HubError> {
    let path = snapshot.join(&file.path);
    let message = match files::size(&path) {
        None => "is missing".to_owned(),
        Some(size) if size != file.size => format!("has {size} bytes instead of {}", file.size),
        Some(_) => {
            let got = hash::of_file(&path, &file.hash).map_err(HubError::io(&path))?;
            if got == file.hash.as_str() {
                return Ok(None);
            }
            format!("has the hash {got} instead of {}", file.hash)
        }
    };
    // The content lies where the link leads.
    let path = path.canonicalize().unwrap_or(path);
    Ok(Some(Damage { path, message }))
}

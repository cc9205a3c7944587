//! Downloads into a directory of the user's, where nothing else is touched.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::ModelCache;
use super::fetch::{Job, is_same};
use super::file_list::FileList;
use super::online::Online;
use super::{DownloadOptions, HubClient, HubError, ModelId, assemble, files, hash};

/// Where unfinished files lie in the directory.
const PARTS: &str = ".candle-coreml";

impl HubClient {
    /// Brings a model's files into a directory, without the cache: files that are there and differ
    /// are replaced, each at once; all others stay. Archives of packages are unpacked beside
    /// themselves unless the package is there. Gives the directory of the model.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn download_to(
        &self,
        model: &str,
        directory: &Path,
        options: &DownloadOptions,
    ) -> Result<PathBuf, HubError> {
        let (id, options) = self.named(model, options)?;
        let options = &options;
        let cache = ModelCache::new(&self.settings, &id);
        let online = Online::new(&self.settings, self.patience, options);
        let list = self.list(&id, &cache, &online, options)?;
        let selection = Online::select(&list, options)?;
        let parts = directory.join(PARTS);
        let _alone = files::lock(&parts.join("lock"))?;
        let mut jobs = Vec::new();
        for file in &selection.files {
            let path = directory.join(&file.path);
            if !is_same(&path, file)? {
                // Files may have one content, but each is made by itself.
                let name = format!("{}-{}", hash::short(file.path.as_bytes()), file.hash);
                jobs.push(Job {
                    file,
                    url: online.api(options).address(&id, &list.commit, &file.path),
                    incomplete: parts.join(name),
                    path,
                    lock: None,
                    cache: None,
                    copy: Some(cache.blob(&file.hash)),
                });
            }
        }
        online.fetch(&id, jobs, directory, options)?;
        assemble::unpack_beside(directory, &selection.files, &parts)?;
        fs::remove_dir_all(&parts).map_err(HubError::io(&parts))?;
        Ok(selection.directory_in(directory))
    }

    /// The list of files: from the hub, or the record of it when the network is not to be used.
    fn list(
        &self,
        id: &ModelId,
        cache: &ModelCache,
        online: &Online<'_>,
        options: &DownloadOptions,
    ) -> Result<FileList, HubError> {
        if !self.settings.offline {
            return online.list(cache, id, options.revision_name(), options);
        }
        let snapshot = self.in_cache(id, options, Some(HubError::OFFLINE))?;
        let record = cache.record(&snapshot.commit);
        let missing = "the list of its files is missing";
        Ok(record.ok_or_else(|| HubError::not_cached(id, missing, HubError::OFFLINE))?.list)
    }
}

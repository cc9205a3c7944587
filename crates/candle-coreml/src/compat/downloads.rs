//! Downloads as free functions: today [`HubClient`] has them as methods.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::hub::{DownloadEvent, DownloadOptions, HubClient, HubError};
use crate::words::list;

/// Downloads the newest version of a model into the cache and gives its directory. `verbose` tells
/// on standard error how it goes.
///
/// # Errors
/// As [`HubClient::download`].
pub fn download_model(id: &str, verbose: bool) -> Result<PathBuf> {
    let client = HubClient::new();
    let snapshot = client.download(id, &options(verbose))?;
    Ok(client.model_directory(&snapshot)?)
}

/// Downloads a model into a directory, where nothing else is touched: see
/// [`HubClient::download_to`].
///
/// # Errors
/// As [`HubClient::download_to`].
pub fn download_model_to(id: &str, directory: impl AsRef<Path>, verbose: bool) -> Result<PathBuf> {
    Ok(HubClient::new().download_to(id, directory.as_ref(), &options(verbose))?)
}

/// The directory of a model that is completely in the cache.
pub fn get_cached_model_path(id: &str) -> Option<PathBuf> {
    let client = HubClient::new();
    let snapshot = client.cached(id, &DownloadOptions::new()).ok()??;
    client.model_directory(&snapshot).ok()
}

/// The directory of a model, after downloading it if the cache does not have all of it. `verbose`
/// tells on standard error how it goes.
///
/// # Errors
/// As [`HubClient::download`].
pub fn ensure_model_downloaded(id: &str, verbose: bool) -> Result<PathBuf> {
    Ok(HubClient::new().ensure(id, &options(verbose))?)
}

/// Checks that a directory has these files, with content.
///
/// # Errors
/// When one is missing, empty or a Git LFS pointer.
pub fn verify_download_completeness(directory: impl AsRef<Path>, files: &[&str]) -> Result<()> {
    let directory = directory.as_ref();
    let missing: Vec<&str> = files
        .iter()
        .copied()
        .filter(|file| fs::metadata(directory.join(file)).map_or(0, |found| found.len()) == 0)
        .collect();
    if !missing.is_empty() {
        let message = format!("{} missing or empty; download it again", list(&missing));
        return Err(HubError::Incomplete { path: directory.to_owned(), message }.into());
    }
    for file in files.iter().map(|file| directory.join(file)).filter(|file| file.is_file()) {
        let mut start = [0; 32];
        let count = fs::File::open(&file)
            .and_then(|mut opened| std::io::Read::read(&mut opened, &mut start))
            .map_err(HubError::io(&file))?;
        coreml_format::refuse_lfs_pointer(&file, start.get(..count).unwrap_or_default())?;
    }
    Ok(())
}

fn options(verbose: bool) -> DownloadOptions {
    if !verbose {
        return DownloadOptions::new();
    }
    DownloadOptions::new().on_event(|event| match event {
        DownloadEvent::Started { files, bytes, .. } => eprintln!("{files} files, {bytes} bytes"),
        DownloadEvent::Finished { path } => eprintln!("{path}"),
        DownloadEvent::Retrying { reason, .. } => eprintln!("{reason}; again"),
        DownloadEvent::Note { message } => eprintln!("{message}"),
        _ => {}
    })
}

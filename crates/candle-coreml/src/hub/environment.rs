//! What the environment says, by the conventions of Hugging Face's tools and of the system.

use std::env;
use std::path::{Path, PathBuf};

const ENDPOINT: &str = "https://huggingface.co";

/// Settings of a hub client.
#[derive(Clone)]
pub(super) struct Settings {
    /// Address of the hub, without a slash at its end.
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    /// The cache that all of Hugging Face's tools share.
    pub(super) cache: PathBuf,
    /// This crate's own cache.
    pub(super) own: PathBuf,
    pub(super) offline: bool,
}

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_HUB_OFFLINE` and the places that they stand for.
    pub(super) fn from_environment() -> Self {
        let home = hugging_face_home();
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Settings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token(&home),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            own: own_cache(),
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
        }
    }
}

/// This crate's directory in the user's cache by the system's convention; in the system's
/// directory for temporary files where there is none.
pub(super) fn own_cache() -> PathBuf {
    let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
    let base = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))
    };
    base.unwrap_or_else(env::temp_dir).join("candle-coreml")
}

fn hugging_face_home() -> PathBuf {
    path("HF_HOME").unwrap_or_else(|| {
        let cache = path("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")));
        cache.unwrap_or_else(env::temp_dir).join("huggingface")
    })
}

fn token(home: &Path) -> Option<String> {
    if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    text("HF_TOKEN").or_else(|| {
        let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = std::fs::read_to_string(file).ok()?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    })
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn is_true(name: &str) -> bool {
    text(name).is_some_and(|text| {
        ["1", "on", "yes", "true"].iter().any(|value| text.eq_ignore_ascii_case(value))
    })
}

fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| home.is_absolute())
}

/// A path from a variable; a leading `~` is the home directory, as Hugging Face's tools take it.
fn path(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?);
    match (path.strip_prefix("~"), home()) {
        (Ok(rest), Some(home)) => Some(home.join(rest)),
        _ => Some(path),
    }
}

//! What people type as a model, and what they may have meant.

use std::fs;
use std::path::Path;

use candle_coreml::hub::HubClient;

use crate::demo;

/// Names that are shown at most.
const MOST_SHOWN: usize = 5;
/// Entries of a directory that are looked at for names like the one that was typed.
const MOST_ENTRIES: usize = 1000;
/// From which likeness on, between 0 and 1, one name may have been meant for another.
const ALIKE: f64 = 0.7;

/// What a text that is no existing path may be meant as.
#[derive(Debug, PartialEq, Eq)]
pub enum NameKind<'a> {
    /// The address of a page of the hub.
    Address(&'a str),
    /// `org/name` or `org/name@revision`.
    Id(&'a str),
    /// One word.
    Word(&'a str),
    /// A path.
    Path,
}

/// Whether what is typed as a model is a package, and not a language model's directory or name.
pub fn is_package(model: &Path) -> bool {
    let extension = model.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("mlpackage" | "mlmodel" | "mlmodelc")) || model.is_file()
}

/// What a path that does not exist may be meant as.
pub fn kind_of(model: &Path) -> NameKind<'_> {
    let Some(text) = model.to_str() else { return NameKind::Path };
    let hosts = ["huggingface.co/", "www.huggingface.co/", "hf.co/"];
    if text.contains("://") || hosts.iter().any(|host| text.starts_with(host)) {
        return NameKind::Address(text);
    }
    if text.starts_with(['.', '~', '/']) || text.contains('\\') {
        return NameKind::Path;
    }
    let name = text.split('@').next().unwrap_or_default();
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [org, name] if !org.is_empty() && !name.is_empty() => NameKind::Id(text),
        [word] if !word.is_empty() => NameKind::Word(text),
        _ => NameKind::Path,
    }
}

/// Says that there is no such model, what a model may be named by, what is there, and what is near.
pub fn unknown(client: &HubClient, model: &Path) -> String {
    let cached = cached(client);
    let shown: Vec<String> =
        cached.iter().take(MOST_SHOWN).map(|name| format!("`{name}`")).collect();
    let there = match cached.len() {
        0 => "the cache has none".to_owned(),
        count if count > MOST_SHOWN => {
            format!("the cache has {} and {} more", shown.join(", "), count - MOST_SHOWN)
        }
        _ => format!("the cache has {}", shown.join(", ")),
    };
    format!(
        "there is no model `{}`: expected a directory with a language model, or a name on the hub, \
         ORG/NAME, as on its page https://huggingface.co/ORG/NAME; {there}; `{}` is a small model in \
         this program{}",
        model.display(),
        demo::NAME,
        near(client, model)
    )
}

/// Asks whether one of the names like this one is meant; empty where there are none.
pub fn near(client: &HubClient, model: &Path) -> String {
    let typed = model.to_string_lossy();
    let mut names = cached(client);
    names.push(demo::NAME.to_owned());
    names.extend(beside(model));
    let near = alike(&typed, &names);
    let quoted: Vec<String> =
        near.iter().take(MOST_SHOWN).map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        several => format!("; did you mean one of {}?", several.join(", ")),
    }
}

/// Models in the cache, without an error where there is none.
fn cached(client: &HubClient) -> Vec<String> {
    let models = client.cached_models().unwrap_or_default();
    let mut ids: Vec<String> = models.into_iter().map(|model| model.id.to_string()).collect();
    ids.dedup();
    ids
}

/// Directories beside the one that is not there, spelled as it is.
fn beside(model: &Path) -> Vec<String> {
    let parent = model.parent().unwrap_or(Path::new(""));
    let place = if parent == Path::new("") { Path::new(".") } else { parent };
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let directories = entries.take(MOST_ENTRIES).flatten().filter(|entry| entry.path().is_dir());
    directories.map(|entry| parent.join(entry.file_name()).to_string_lossy().into_owned()).collect()
}

/// The names that are like the one that was typed, the most alike first.
fn alike<'a>(typed: &str, names: &'a [String]) -> Vec<&'a str> {
    let mut found: Vec<(f64, &str)> =
        names.iter().map(|name| (likeness(typed, name), name.as_str())).collect();
    found.retain(|(likeness, _)| *likeness >= ALIKE);
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    found.dedup_by_key(|found| found.1);
    found.into_iter().map(|found| found.1).collect()
}

/// How like two names are, as a whole or by their last parts: one in the other is nearly the same.
fn likeness(typed: &str, name: &str) -> f64 {
    let (typed, name) = (typed.to_lowercase(), name.to_lowercase());
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    let (typed_last, name_last) = (last(&typed), last(&name));
    if typed_last.chars().count() >= 3 && name_last.contains(&typed_last) {
        return 0.95;
    }
    // Of another organisation, the same name is near, but not a name like it.
    let by_last = match typed.contains('/') {
        true => 0.0,
        false => strsim::normalized_damerau_levenshtein(&typed_last, &name_last),
    };
    by_last.max(strsim::normalized_damerau_levenshtein(&typed, &name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_told_apart() {
        for (text, expected) in [
            ("llama3", NameKind::Word("llama3")),
            ("gpt2@main", NameKind::Word("gpt2@main")),
            ("org/name", NameKind::Id("org/name")),
            ("org/name@refs/pr/1", NameKind::Id("org/name@refs/pr/1")),
            (
                "https://huggingface.co/org/name",
                NameKind::Address("https://huggingface.co/org/name"),
            ),
            ("hf.co/org/name", NameKind::Address("hf.co/org/name")),
            ("hf://org/name", NameKind::Address("hf://org/name")),
            ("./name", NameKind::Path),
            ("~/name", NameKind::Path),
            ("/org/name", NameKind::Path),
            ("a/b/c", NameKind::Path),
            ("org/", NameKind::Path),
            ("C:\\name", NameKind::Path),
            ("", NameKind::Path),
        ] {
            assert_eq!(kind_of(Path::new(text)), expected, "{text}");
        }
    }

    #[test]
    fn typing_errors_and_parts_of_names_are_near() {
        let names =
            ["demo", "anemll/anemll-Qwen3-0.6B", "org/Llama-3.2-1B", "org/model", "./models/qwen"]
                .map(str::to_owned);
        for (typed, expected) in [
            ("dmeo", &["demo"][..]),
            ("Demo", &["demo"]),
            ("qwen3", &["anemll/anemll-Qwen3-0.6B"]),
            ("llama-3", &["org/Llama-3.2-1B"]),
            ("org/modle", &["org/model"]),
            ("other/model", &["org/model"]),
            ("./models/qwne", &["./models/qwen"]),
            ("xyz", &[]),
        ] {
            let found = alike(typed, &names);
            assert!(found.starts_with(expected), "{typed}: {found:?}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{typed}: {found:?}");
        }
    }
}

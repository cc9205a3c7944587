//! Reads settings by their names, and notes those that can't be gone by.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::bounds::Bound;
use super::json_file::read_json;
use super::manifest::Manifest;
use crate::error::{Error, Result};

/// A setting of a model's directory that is not gone by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IgnoredSetting {
    /// Name of the file.
    pub file: String,
    /// The setting's name.
    pub key: String,
    /// Its value as JSON; a long one is cut.
    pub value: String,
    /// Why it is not gone by.
    pub reason: String,
}

impl fmt::Display for IgnoredSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IgnoredSetting { file, key, value, reason } = self;
        write!(f, "{file}: `{key}` is {value}, which is not gone by: {reason}")
    }
}

/// Characters of a value that are shown.
pub(super) const SHOWN: usize = 80;

/// Settings of one or several files.
#[derive(Default)]
pub(super) struct Settings {
    /// By name: the file's name and the value. A value of `null` is none.
    values: BTreeMap<String, (String, Json)>,
    /// Names that have been asked for.
    known: Vec<&'static str>,
    pub(super) ignored: Vec<IgnoredSetting>,
}

impl Settings {
    /// Those of `generation_config.json`, and before them those of `meta.yaml`.
    pub(super) fn read(directory: &Path, manifest: Option<&Manifest>) -> Result<Self> {
        let mut settings = Settings::default();
        let path = directory.join("generation_config.json");
        match read_json(&path)? {
            Some(Json::Object(config)) => settings.add(&path, &config),
            Some(_) => return Err(Error::language_model(path, "must be an object of settings")),
            None => {}
        }
        if let Some(manifest) = manifest {
            settings.add(&manifest.path, &manifest.recommended);
        }
        Ok(settings)
    }

    /// Adds the settings of a file, which go before those added earlier.
    fn add(&mut self, file: &Path, settings: &Map<String, Json>) {
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let given = settings.iter().filter(|(_, value)| !value.is_null());
        self.values.extend(given.map(|(key, value)| (key.clone(), (file.clone(), value.clone()))));
    }

    /// Names of the files that settings come from.
    pub(super) fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.values.values().map(|(file, _)| file.clone()).collect();
        files.sort();
        files.dedup();
        files
    }

    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        self.values.get(key).map(|(_, value)| value)
    }

    /// Notes that a setting is not gone by, unless it is noted already.
    pub(super) fn ignore(&mut self, key: &str, reason: impl Into<String>) {
        let Some((file, value)) = self.values.get(key) else { return };
        if self.ignored.iter().any(|setting| setting.key == key) {
            return;
        }
        let value = value.to_string();
        let mut shown: String = value.chars().take(SHOWN).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        self.ignored.push(IgnoredSetting {
            file: file.clone(),
            key: key.to_owned(),
            value: shown,
            reason: reason.into(),
        });
    }

    /// A setting as `read` makes it out; `expected` says what it has to be.
    pub(super) fn setting<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Json) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = read(self.get(key)?);
        if value.is_none() {
            self.ignore(key, format!("it must be {expected}"));
        }
        value
    }

    pub(super) fn number(&mut self, bound: &Bound) -> Option<f64> {
        let read = |value: &Json| value.as_f64().filter(|&value| bound.allows(value));
        self.setting(bound.key, bound.expected, read)
    }

    pub(super) fn count(&mut self, key: &'static str) -> Option<usize> {
        self.setting(key, "a whole number, 0 or more", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    /// One id or several.
    pub(super) fn ids(&mut self, key: &'static str) -> Option<Vec<u32>> {
        self.setting(key, "the id of a token, or a list of them", |value| match value {
            Json::Array(values) => ids(values),
            value => Some(vec![id(value)?]),
        })
    }

    /// Notes `key` unless its value is the one that changes nothing.
    pub(super) fn unless(&mut self, key: &'static str, neutral: &Json, reason: &str) {
        self.known.push(key);
        let same = |value: &Json| match (value.as_f64(), neutral.as_f64()) {
            (Some(value), Some(neutral)) => value == neutral,
            _ => value == neutral,
        };
        if self.get(key).is_some_and(|value| !same(value)) {
            self.ignore(key, reason);
        }
    }

    /// Notes what has not been asked for and is none of `silent`.
    pub(super) fn ignore_others(&mut self, silent: &[&str]) {
        let others: Vec<String> = self
            .values
            .keys()
            .filter(|key| !self.known.contains(&key.as_str()) && !silent.contains(&key.as_str()))
            .filter(|key| !key.starts_with('_'))
            .cloned()
            .collect();
        for key in others {
            self.ignore(&key, "no setting of this name is known");
        }
    }
}

pub(super) fn id(value: &Json) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

pub(super) fn ids(values: &[Json]) -> Option<Vec<u32>> {
    values.iter().map(id).collect()
}

//! Which function of which package does what: told by inputs and outputs first, by names where
//! several could do the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coreml_format::description::{FunctionDescription, ShapeFlexibility};

use super::manifest::Manifest;
use super::packages::{ChunkName, FoundPackage, without_extension};
use crate::error::{Error, Result};
use crate::words::list;

/// A function of a package.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Component {
    pub(crate) path: PathBuf,
    pub(crate) function: FunctionDescription,
}

/// The functions of a language model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Components {
    /// None where the chunk takes token ids itself.
    pub(crate) embeddings: Option<Component>,
    /// In the order in which they run.
    pub(crate) chunks: Vec<Chunk>,
    /// None where the chunk gives logits itself.
    pub(crate) lm_head: Option<Component>,
    /// What is odd, for people.
    pub(crate) findings: Vec<String>,
}

impl Components {
    /// Components by the names that configurations give them.
    pub(super) fn named(&self) -> Vec<(String, &Component)> {
        let Components { embeddings, chunks, lm_head, .. } = self;
        let prefix = if embeddings.is_some() { "ffn_" } else { "" };
        let mut named: Vec<(String, &Component)> = Vec::new();
        named.extend(embeddings.as_ref().map(|found| ("embeddings".to_owned(), found)));
        for (index, chunk) in chunks.iter().enumerate() {
            let name = |function: &str| chunk_key(prefix, function, index);
            named.extend(chunk.prefill.as_ref().map(|found| (name("prefill"), found)));
            named.push((name("infer"), &chunk.infer));
            named.extend(chunk.infer_rotate.as_ref().map(|found| (name("infer_rotate"), found)));
        }
        named.extend(lm_head.as_ref().map(|found| ("lm_head".to_owned(), found)));
        named
    }
}

/// The name of a chunk's function in configurations: the first chunk's has no number.
pub(super) fn chunk_key(prefix: &str, function: &str, index: usize) -> String {
    match index {
        0 => format!("{prefix}{function}"),
        index => format!("{prefix}{function}_{}", index + 1),
    }
}

/// The functions of a run of layers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Runs one token.
    pub(crate) infer: Component,
    /// Runs a window of tokens.
    pub(crate) prefill: Option<Component>,
    /// Runs one token beyond the sliding window.
    pub(crate) infer_rotate: Option<Component>,
}

/// What a function of the layers runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Infer,
    Prefill,
    InferRotate,
    /// Known, and of no use: it is not causal within its window.
    PrefillRotate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Embeddings,
    LmHead,
    /// Layers; `whole` where they take ids and give logits.
    Layers {
        mode: Mode,
        whole: bool,
    },
}

/// A function that could be a component.
#[derive(Clone, Debug)]
struct Candidate {
    name: ChunkName,
    role: Role,
    component: Component,
    /// Functions in its package: of two exports of the same layers the combined one is meant.
    siblings: usize,
}

/// The components among a directory's packages.
pub(super) fn components(
    directory: &Path,
    packages: &[FoundPackage],
    manifest: Option<&Manifest>,
) -> Result<Components> {
    let candidates = candidates(packages);
    let search = Search { directory, packages, candidates, manifest };
    let mut found = search.components()?;
    found.findings.extend(search.unknown());
    Ok(found)
}

fn candidates(packages: &[FoundPackage]) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for package in packages {
        let functions = package.functions.as_deref().unwrap_or_default();
        for function in functions {
            let Some(role) = role(&package.stem, function, functions.len()) else { continue };
            candidates.push(Candidate {
                name: ChunkName::parse(&package.stem),
                role,
                component: Component { path: package.path.clone(), function: function.clone() },
                siblings: functions.len(),
            });
        }
    }
    candidates
}

/// Inputs by their names in the layouts that are known.
pub(crate) const IDS: [&str; 2] = ["input_ids", "inputIds"];
pub(crate) const MASKS: [&str; 2] = ["causal_mask", "causalMask"];

fn role(stem: &str, function: &FunctionDescription, siblings: usize) -> Option<Role> {
    let takes =
        |names: &[&str]| function.inputs.iter().any(|input| names.contains(&input.name.as_str()));
    let gives = |start: &str| function.outputs.iter().any(|out| out.name.starts_with(start));
    let predicts = gives("logits") || gives("argmax_idx");
    let (ids, hidden) = (takes(&IDS), takes(&["hidden_states"]));
    if takes(&MASKS) || !function.states.is_empty() {
        let fits = if ids { predicts || gives("output_hidden_states") } else { hidden };
        let mode = mode(stem, function, siblings);
        return fits.then_some(Role::Layers { mode, whole: ids });
    }
    match (ids, hidden) {
        (true, false) if gives("hidden_states") => Some(Role::Embeddings),
        (false, true) if predicts || stem.contains("lm_head") => Some(Role::LmHead),
        _ => None,
    }
}

/// A function's own name tells its mode, or its package's if it is the only one.
fn mode(stem: &str, function: &FunctionDescription, siblings: usize) -> Mode {
    let label = if siblings > 1 { &function.name } else { stem };
    let says = |word: &str| label.contains(word) || function.name.contains(word);
    match (says("prefill") || window(function) > 1, says("rotate")) {
        (true, true) => Mode::PrefillRotate,
        (true, false) => Mode::Prefill,
        (false, true) => Mode::InferRotate,
        (false, false) => Mode::Infer,
    }
}

/// Tokens that a function takes at once; 1 where it takes any number.
fn window(function: &FunctionDescription) -> usize {
    let tokens = function
        .inputs
        .iter()
        .find(|input| input.name == "hidden_states" || IDS.contains(&input.name.as_str()));
    match tokens.and_then(|input| input.ty.as_multi_array()) {
        Some(array) if array.flexibility == ShapeFlexibility::Fixed => {
            array.shape.get(1).copied().unwrap_or(1)
        }
        _ => 1,
    }
}

/// Positions that a function's mask spans, to tell variants for several contexts apart.
fn context(function: &FunctionDescription) -> usize {
    let mask = function.inputs.iter().find(|input| MASKS.contains(&input.name.as_str()));
    let shape = mask.and_then(|mask| mask.ty.as_multi_array()).map(|array| array.shape.as_slice());
    shape.and_then(<[usize]>::last).copied().unwrap_or(0)
}

struct Search<'a> {
    directory: &'a Path,
    packages: &'a [FoundPackage],
    candidates: Vec<Candidate>,
    manifest: Option<&'a Manifest>,
}

impl Search<'_> {
    fn components(&self) -> Result<Components> {
        if self.packages.is_empty() {
            return Err(self.wrong(
                "has no model packages; expected an embeddings, one or more FFN and an LM head \
                 package, or one that holds the whole model, ending in .mlpackage or .mlmodelc \
                 (unpack .zip files first)"
                    .to_owned(),
            ));
        }
        let whole = self.is_whole();
        let base = self.base_of_layers(whole)?;
        let chunks = self.chunks(whole, &base)?;
        let last = chunks.last().map(|chunk| &chunk.infer.function);
        let predicts = last.is_some_and(|function| {
            function.outputs.iter().all(|output| output.name != "output_hidden_states")
        });
        let mut findings = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            if chunk.prefill.is_none() && chunks.iter().any(|chunk| chunk.prefill.is_some()) {
                findings.push(format!(
                    "chunk {} has no `prefill` that fits the others': prompts run token by token",
                    number + 1
                ));
            }
        }
        Ok(Components {
            embeddings: if whole { None } else { Some(self.only(Role::Embeddings, &base)?) },
            lm_head: if predicts { None } else { Some(self.only(Role::LmHead, &base)?) },
            chunks,
            findings,
        })
    }

    fn wrong(&self, message: String) -> Error {
        Error::language_model(self.directory, message)
    }

    /// Whether the model is the one that takes token ids itself, where both kinds are there.
    fn is_whole(&self) -> bool {
        let has = |wanted: bool| {
            self.candidates
                .iter()
                .any(|c| matches!(c.role, Role::Layers { whole, .. } if whole == wanted))
        };
        match (has(true), has(false)) {
            (true, true) => self.manifest.is_some_and(|manifest| manifest.monolithic),
            (whole, _) => whole,
        }
    }

    fn layers(&self, whole: bool, mode: Mode) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(move |c| c.role == Role::Layers { mode, whole })
    }

    /// Whether `meta.yaml` names a package of this name.
    fn is_named(&self, base: &str) -> bool {
        let Some(manifest) = self.manifest else { return false };
        [
            &manifest.ffn,
            &manifest.rotating,
            &manifest.whole,
            &manifest.embeddings,
            &manifest.lm_head,
        ]
        .into_iter()
        .flatten()
        .any(|name| ChunkName::parse(without_extension(name)).base == base)
    }

    /// Which of several exports of the layers is meant.
    fn base_of_layers(&self, whole: bool) -> Result<Base> {
        let mut bases: BTreeMap<(&str, usize), usize> = BTreeMap::new();
        for candidate in self.layers(whole, Mode::Infer) {
            let siblings =
                bases.entry((candidate.name.base.as_str(), candidate.name.total)).or_default();
            *siblings = candidate.siblings.max(*siblings);
        }
        let wanted_chunks = self.manifest.and_then(|manifest| manifest.num_chunks);
        let rank = |(&(base, total), &siblings): (&(&str, usize), &usize)| {
            (self.is_named(base), wanted_chunks == Some(total), siblings)
        };
        let best = bases.iter().map(rank).max();
        let names: Vec<(&str, usize)> =
            bases.iter().filter(|&entry| Some(rank(entry)) == best).map(|entry| *entry.0).collect();
        match names.as_slice() {
            [(base, total)] => Ok(Base { name: (*base).to_owned(), total: *total }),
            [] => Err(self.missing("FFN")),
            several => {
                let names: Vec<&str> = several.iter().map(|(base, _)| *base).collect();
                Err(self.several("FFN", &names))
            }
        }
    }

    /// All chunks with their functions.
    fn chunks(&self, whole: bool, base: &Base) -> Result<Vec<Chunk>> {
        let infer = self.by_number(whole, Mode::Infer, base, &base.name);
        // `total` is a number in a file's name: only as many lookups as there are files.
        if infer.len() != base.total {
            let missing = (1..=base.total).find(|number| !infer.contains_key(number));
            let name = base.chunk(missing.unwrap_or(base.total));
            return Err(self.wrong(format!(
                "has {} of the model's {} FFN chunks; `{name}` is missing",
                infer.len(),
                base.total
            )));
        }
        let mut others = [Mode::Prefill, Mode::InferRotate].map(|mode| {
            self.base_of_mode(whole, mode, base)
                .map(|name| self.by_number(whole, mode, base, &name))
                .unwrap_or_default()
        });
        let [prefill, infer_rotate] = &mut others;
        Ok(infer
            .into_iter()
            .map(|(number, infer)| Chunk {
                infer,
                prefill: prefill.remove(&number),
                infer_rotate: infer_rotate.remove(&number),
            })
            .collect())
    }

    /// The functions of one mode in the packages of one name. Of variants for several contexts the
    /// longest is taken.
    fn by_number(
        &self,
        whole: bool,
        mode: Mode,
        base: &Base,
        name: &str,
    ) -> BTreeMap<usize, Component> {
        let mut chunks: BTreeMap<usize, Component> = BTreeMap::new();
        let fits = |c: &&Candidate| c.name.base == name && c.name.total == base.total;
        for candidate in self.layers(whole, mode).filter(fits) {
            let new = &candidate.component;
            match chunks.get(&candidate.name.number) {
                Some(known) if context(&known.function) >= context(&new.function) => {}
                _ => drop(chunks.insert(candidate.name.number, new.clone())),
            }
        }
        chunks
    }

    /// The packages with the functions of another mode than `infer`: the same ones, those that
    /// `meta.yaml` names, those named alike, or the only ones.
    fn base_of_mode(&self, whole: bool, mode: Mode, base: &Base) -> Option<String> {
        let bases: BTreeSet<&str> = self
            .layers(whole, mode)
            .filter(|c| c.name.total == base.total)
            .map(|c| c.name.base.as_str())
            .collect();
        let alike = match mode {
            Mode::Prefill => base.name.replace("_FFN", "_prefill"),
            _ => base.name.replace("_FFN", "_FFN_rotate"),
        };
        let known = [base.name.as_str(), alike.as_str()].into_iter().find(|&b| bases.contains(b));
        let named = || bases.iter().copied().find(|base| self.is_named(base));
        let only = || bases.iter().copied().next().filter(|_| bases.len() == 1);
        known.or_else(named).or_else(only).map(str::to_owned)
    }

    /// The only candidate, the one that `meta.yaml` names, or the one named like the layers.
    fn only(&self, role: Role, base: &Base) -> Result<Component> {
        let what = if role == Role::Embeddings { "embeddings" } else { "LM head" };
        let all: Vec<&Candidate> = self.candidates.iter().filter(|c| c.role == role).collect();
        let named = all.iter().copied().filter(|c| self.is_named(&c.name.base)).collect();
        let prefix = base.prefix();
        let alike = all.iter().copied().filter(|c| c.name.base.starts_with(prefix)).collect();
        let choices: [Vec<&Candidate>; 3] = [named, alike, all];
        let Some(choice) = choices.into_iter().find(|choice| !choice.is_empty()) else {
            return Err(self.missing(what));
        };
        match choice.as_slice() {
            [candidate] => Ok(candidate.component.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(|c| c.name.base.as_str()).collect();
                Err(self.several(what, &names))
            }
        }
    }

    fn missing(&self, what: &str) -> Error {
        let unreadable = self.packages.iter().find_map(|package| package.functions.as_ref().err());
        let cause = unreadable
            .map_or_else(String::new, |error| format!("; a package can't be read: {error}"));
        let error = self.wrong(format!(
            "has no {what} package; expected embeddings, FFN and LM head packages as ANEMLL \
             exports them, or one package that takes `input_ids` or `inputIds` and gives logits\
             {cause}"
        ));
        match unreadable {
            Some(cause) => error.caused_by(cause.clone()),
            None => error,
        }
    }

    fn several(&self, what: &str, names: &[&str]) -> Error {
        self.wrong(format!(
            "has several {what} packages, {}; add a meta.yaml that names one, or choose a prefix \
             with PackageNaming::custom",
            list(names)
        ))
    }

    /// Packages that are no component, for people.
    fn unknown(&self) -> impl Iterator<Item = String> {
        self.packages.iter().filter_map(|package| match &package.functions {
            Err(error) => Some(format!("`{}` can't be read: {error}", package.stem)),
            Ok(_) if self.candidates.iter().any(|c| c.component.path == package.path) => None,
            Ok(_) => Some(format!(
                "`{}` has inputs and outputs of no known component and is left out",
                package.stem
            )),
        })
    }
}

/// What the names of a model's FFN packages share.
#[derive(Debug)]
struct Base {
    name: String,
    total: usize,
}

impl Base {
    fn chunk(&self, number: usize) -> String {
        format!("{}_chunk_{number:02}of{:02}", self.name, self.total)
    }

    /// The model's part of the name.
    fn prefix(&self) -> &str {
        ["_FFN", "_prefill", "_monolithic"]
            .iter()
            .find_map(|part| self.name.find(part))
            .and_then(|end| self.name.get(..end))
            .unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests;

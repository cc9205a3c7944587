//! The names that a user of the crate can write, found in its source and held against
//! `public-names.txt`: no name comes or goes unseen. `BLESS=1` rewrites the file.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use syn::{Attribute, Item, UseTree, Visibility};

/// What the file's groups hold: names, and all other names of the rooms and crates listed.
const GROUPS: &[(&str, &[&str], &[&str])] = &[
    (
        "Models",
        &[
            "Package",
            "PackageKind",
            "Model",
            "Body",
            "ClassLabels",
            "KindInWords",
            "Layer",
            "NeuralNetwork",
            "Stage",
            "compile",
            "decompile",
            "IfExists",
        ],
        &[
            "backend",
            "bench",
            "call",
            "compare",
            "inspection",
            "machine",
            "made_up",
            "model",
            "profile",
            "state",
            "coreml_engine",
        ],
    ),
    (
        "Values, descriptions and programs",
        &[],
        &["values", "coreml_format", "candle_core", "image", "serde_json"],
    ),
    ("Language models", &["RecommendedSampling"], &["llm"]),
    (
        "Sessions and what they give",
        &[
            "AsyncTokenStream",
            "CancelToken",
            "FinishReason",
            "Generation",
            "LogProbability",
            "Session",
            "Timings",
            "Token",
            "TokenLogProbabilities",
            "TokenStream",
            "Usage",
        ],
        &[],
    ),
    ("Models by name: hub and caches", &[], &["hub"]),
    ("Configuration", &[], &["config"]),
    (
        "Errors",
        &[
            "Cause",
            "EngineError",
            "ErrorKind",
            "FormatError",
            "HubError",
            "InFile",
            "KernelError",
            "OpError",
            "OperationError",
            "OutOfMemory",
        ],
        &["error"],
    ),
    ("Names of the older crate", &[], &["compat"]),
];

#[test]
fn names_are_those_in_the_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Names::new();
    collect(&Module::root(&directory.join("src")), "candle_coreml", false, &mut names);
    let found = grouped(&names);
    let file = directory.join("public-names.txt");
    if env::var_os("BLESS").is_some() {
        fs::write(&file, found).unwrap();
        return;
    }
    let stated = fs::read_to_string(&file).unwrap_or_default();
    let (new, old) = (paths(&found), paths(&stated));
    let list = |these: &BTreeSet<&str>, those: &BTreeSet<&str>| {
        these.difference(those).map(|name| format!("\n  {name}")).collect::<String>()
    };
    assert!(
        found == stated,
        "the public names are not those in {}\ncame:{}\nwent:{}\n\
         If that is meant, `BLESS=1 cargo test -p candle-coreml --test public_names` rewrites the file.",
        file.display(),
        list(&new, &old),
        list(&old, &new),
    );
}

/// Who depends on this crate alone can name what its functions take and give, also where that is of a
/// crate below or beside it. It is enough that this compiles.
#[test]
fn types_of_other_crates_have_names_here() {
    use candle_coreml::candle_core::{Device, Tensor};
    use candle_coreml::description::{FeatureDescription, FunctionDescription, ModelDescription};
    use candle_coreml::mil::{BlobFileValue, Program};
    use candle_coreml::{
        BlobFile, BlobRecord, BlobView, CoreMLModel, Error, ErrorKind, FeatureValue, FormatError,
        Image, Model, Package, ValueError, Workers,
    };
    use std::sync::Arc;

    let _: fn(&Package, &str) -> Result<Arc<BlobFile>, FormatError> = Package::blob_file;
    let _: fn(&BlobFile, u64) -> Result<BlobRecord, FormatError> = BlobFile::record;
    let _: fn(&Arc<BlobFile>, &BlobFileValue) -> Result<BlobView, FormatError> = BlobFile::tensor;
    let _: fn(&Package) -> Result<&Model, FormatError> = Package::model;
    let _: fn(&Model) -> Option<&Arc<Program>> = Model::program;
    let _: fn(&CoreMLModel) -> &ModelDescription = CoreMLModel::description;
    let _: fn(&CoreMLModel) -> &FunctionDescription = CoreMLModel::function_description;
    let _: fn(&CoreMLModel, &Workers) -> Result<CoreMLModel, Error> = CoreMLModel::with_workers;
    let _: fn(&FunctionDescription) -> &[FeatureDescription] = |function| &function.inputs;
    let _: fn(&FeatureValue) -> Result<&Tensor, ValueError> = FeatureValue::tensor;
    let _: fn(&FeatureValue) -> Result<&Image, ValueError> = FeatureValue::image;
    let _: fn(&Error) -> ErrorKind = Error::kind;
    let _: fn(&Tensor) -> &Device = Tensor::device;
    #[cfg(feature = "llm")]
    let _: fn(&candle_coreml::ChatOptions) -> Option<&candle_coreml::serde_json::Value> =
        |options| options.tools.as_ref();
}

/// Paths that a user can write, with the room or the crate that each comes from.
type Names = BTreeMap<String, String>;

fn paths(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| line.starts_with("candle_coreml::")).collect()
}

/// The names in their groups, as text.
fn grouped(names: &Names) -> String {
    let mut groups = vec![Vec::new(); GROUPS.len()];
    for (path, room) in names {
        let name = path.rsplit("::").next().unwrap();
        let by_name = GROUPS.iter().position(|group| group.1.contains(&name));
        let group = by_name.or_else(|| GROUPS.iter().position(|group| group.2.contains(&&**room)));
        groups[group.unwrap_or_else(|| panic!("`{path}` has no group"))].push(path.as_str());
    }
    let texts = GROUPS.iter().zip(groups).map(|(group, mut paths)| {
        // The short path of a thing before those of modules.
        paths.sort_by_key(|path| (path.matches("::").count(), *path));
        format!("# {}\n\n{}\n", group.0, paths.join("\n"))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// A module of a crate of the workspace.
struct Module {
    /// The crate's source directory.
    source: PathBuf,
    /// The module's path in the crate.
    path: Vec<String>,
}

impl Module {
    fn root(source: &Path) -> Self {
        Module { source: source.to_owned(), path: Vec::new() }
    }

    /// What is in it; `None` if there is no such module.
    fn items(&self) -> Option<Vec<Item>> {
        self.items_of_file().or_else(|| self.items_in_place())
    }

    fn items_of_file(&self) -> Option<Vec<Item>> {
        let base = self.path.iter().fold(self.source.clone(), |base, part| base.join(part));
        let files = match self.path.is_empty() {
            true => vec![base.join("lib.rs")],
            false => vec![base.with_extension("rs"), base.join("mod.rs")],
        };
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
        Some(syn::parse_file(&text).unwrap().items)
    }

    /// Those of a module that stands in the file of the one above it.
    fn items_in_place(&self) -> Option<Vec<Item>> {
        let (name, above) = self.path.split_last()?;
        let above = Module { source: self.source.clone(), path: above.to_vec() };
        above.items()?.into_iter().find_map(|item| match item {
            Item::Mod(module) if module.ident == name => Some(module.content?.1),
            _ => None,
        })
    }

    /// What a path that is written in this module leads to.
    fn follow(&self, path: &[String]) -> Module {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let krate = crates.join(path[0].replace('_', "-")).join("src");
        match path[0].as_str() {
            "crate" => Module { source: self.source.clone(), path: path[1..].to_vec() },
            "self" => self.below(&path[1..]),
            _ if krate.exists() => Module { source: krate, path: path[1..].to_vec() },
            _ => self.below(path),
        }
    }

    fn below(&self, path: &[String]) -> Module {
        Module { source: self.source.clone(), path: [&self.path, path].concat() }
    }

    /// The room of this crate that it lies in, or the other crate.
    fn room(&self) -> String {
        let krate = self.source.parent().unwrap().file_name().unwrap().to_str().unwrap();
        match krate {
            "candle-coreml" => self.path[0].clone(),
            other => other.replace('-', "_"),
        }
    }
}

/// Adds the public names of a module that users write as `prefix`; `older` if that is a path of the
/// older crate.
fn collect(module: &Module, prefix: &str, older: bool, names: &mut Names) {
    for item in module.items().unwrap() {
        let Some((visibility, attributes)) = head(&item) else { continue };
        if !matches!(visibility, Visibility::Public(_)) || has(attributes, "cfg", "test") {
            continue;
        }
        // The older crate's names, where they were, and in the room that has them all.
        let room = matches!(&item, Item::Mod(item) if item.ident == "compat");
        let older = older || room || has(attributes, "doc", "hidden");
        for (name, target) in named(&item, module) {
            let path = format!("{prefix}::{name}");
            let room = if older { "compat".to_owned() } else { target.room() };
            if target.items().is_some() {
                collect(&target, &path, older, names);
            }
            names.insert(path, room);
        }
    }
}

/// The names that an item brings, with what each leads to.
fn named(item: &Item, module: &Module) -> Vec<(String, Module)> {
    let name = match item {
        Item::Use(item) => return used(&item.tree, &[], module),
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return Vec::new(),
    };
    vec![(name.to_string(), module.below(&[name.to_string()]))]
}

fn used(tree: &UseTree, before: &[String], module: &Module) -> Vec<(String, Module)> {
    let with = |name: String| [before, &[name]].concat();
    match tree {
        UseTree::Path(path) => used(&path.tree, &with(path.ident.to_string()), module),
        UseTree::Name(name) if name.ident == "self" => {
            vec![(before[before.len() - 1].clone(), module.follow(before))]
        }
        UseTree::Name(name) => {
            vec![(name.ident.to_string(), module.follow(&with(name.ident.to_string())))]
        }
        UseTree::Rename(name) => {
            vec![(name.rename.to_string(), module.follow(&with(name.ident.to_string())))]
        }
        UseTree::Group(group) => {
            group.items.iter().flat_map(|tree| used(tree, before, module)).collect()
        }
        UseTree::Glob(_) => panic!("a `*` in `pub use` hides names; write them out"),
    }
}

fn head(item: &Item) -> Option<(&Visibility, &[Attribute])> {
    Some(match item {
        Item::Use(item) => (&item.vis, &item.attrs),
        Item::Const(item) => (&item.vis, &item.attrs),
        Item::Enum(item) => (&item.vis, &item.attrs),
        Item::Fn(item) => (&item.vis, &item.attrs),
        Item::Mod(item) => (&item.vis, &item.attrs),
        Item::Static(item) => (&item.vis, &item.attrs),
        Item::Struct(item) => (&item.vis, &item.attrs),
        Item::Trait(item) => (&item.vis, &item.attrs),
        Item::Type(item) => (&item.vis, &item.attrs),
        _ => return None,
    })
}

/// Whether one of the attributes is `name(argument)`.
fn has(attributes: &[Attribute], name: &str, argument: &str) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident(name)
            && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == argument)
    })
}

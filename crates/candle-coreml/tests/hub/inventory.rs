//! Listing, verifying and pruning the cache.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use candle_coreml::hub::{
    Completeness, DownloadEvent, DownloadOptions, OwnCache, verify_download_completeness,
};

use crate::server::{COMMIT, Fault, ID, hash, read_all};
use crate::{NEEDED, Place, WEIGHTS, files};

const NEXT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// The hub has a newer commit, which differs in one file.
fn publish(place: &Place) {
    place.hub.update(|content| {
        content.commit = NEXT.to_owned();
        content.files.insert("meta.yaml".to_owned(), b"new".to_vec());
    });
}

/// What another tool has put into the cache.
fn foreign(place: &Place, model: &str, commit: &str, path: &str, bytes: &[u8]) {
    let root = place.cache().join(model);
    let file = root.join("snapshots").join(commit).join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::create_dir_all(root.join("blobs")).unwrap();
    let blob = root.join("blobs").join(hash(bytes));
    fs::write(&blob, bytes).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(blob, file).unwrap();
    #[cfg(not(unix))]
    fs::copy(blob, file).unwrap();
}

#[test]
fn models_are_listed_with_what_they_lack() {
    let place = Place::new();
    let list = || place.client().cached_models().unwrap();
    assert!(list().is_empty());
    place.download().unwrap();
    publish(&place);
    place.hub.fault("meta.yaml", vec![Fault::Cut(0); 9]);
    place.failure();
    foreign(&place, "models--other--text", COMMIT, "model.safetensors", b"x");
    foreign(&place, "models--other--coreml", COMMIT, "a.mlmodel", b"model");
    foreign(&place, "datasets--other--data", COMMIT, "a.mlmodel", b"data");
    let listed: Vec<_> = list()
        .into_iter()
        .map(|model| (model.id.to_string(), model.commit, model.revisions, model.completeness))
        .collect();
    let all: u64 = NEEDED.iter().map(|path| files()[*path].len() as u64).sum();
    assert_eq!(list()[0].bytes, all);
    let main = vec!["main".to_owned()];
    assert_eq!(
        listed,
        [
            (ID.to_owned(), COMMIT.to_owned(), main, Completeness::Complete),
            (
                ID.to_owned(),
                NEXT.to_owned(),
                vec![],
                Completeness::Incomplete { missing: NEEDED.len() }
            ),
            ("other/coreml".to_owned(), COMMIT.to_owned(), vec![], Completeness::Unknown),
        ]
    );
}

#[test]
fn a_part_that_was_asked_for_is_complete() {
    let place = Place::new();
    let download = |pattern: &str| {
        place.client().download(ID, &DownloadOptions::new().include(pattern)).unwrap();
        place.client().cached_models().unwrap()[0].completeness
    };
    assert_eq!(download("*.yaml"), Completeness::Complete);
    assert_eq!(download("*.json"), Completeness::Complete);
    let snapshot = place.repository().join("snapshots").join(COMMIT);
    fs::remove_file(snapshot.join("meta.yaml")).unwrap();
    let model = &place.client().cached_models().unwrap()[0];
    assert_eq!(model.completeness, Completeness::Incomplete { missing: 1 });
}

#[test]
fn damage_is_found_by_hash() {
    let place = Place::new();
    place.download().unwrap();
    foreign(&place, "models--other--coreml", COMMIT, "a.mlmodel", b"model");
    let client = place.client();
    let verify = || {
        let models = client.cached_models().unwrap();
        models.iter().flat_map(|model| client.verify(model).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(verify(), []);
    let blob = place.repository().join("blobs").join(hash(&files()[WEIGHTS]));
    let mut bytes = files()[WEIGHTS].clone();
    bytes[100_000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let other = place.cache().join("models--other--coreml/blobs").join(hash(b"model"));
    fs::write(&other, b"modem").unwrap();
    fs::remove_file(place.repository().join("snapshots").join(COMMIT).join("meta.yaml")).unwrap();
    let found = verify();
    // The large blob is two files of the model.
    let paths: Vec<&Path> = found.iter().map(|damage| damage.path.as_path()).collect();
    let blob = blob.canonicalize().unwrap();
    assert_eq!(paths[..2], [&*blob, &*blob]);
    assert!(found[0].message.contains("hash") && found[2].message.contains("missing"));
    assert_eq!(paths[3], other.canonicalize().unwrap());
    assert_eq!(paths.len(), 4);
}

#[test]
fn old_commits_and_broken_downloads_can_be_pruned() {
    let place = Place::new();
    place.download().unwrap();
    publish(&place);
    place.download().unwrap();
    place.hub.update(|content| {
        content.commit = "c".repeat(40);
        content.files.insert(WEIGHTS.to_owned(), vec![3; 10_000]);
    });
    place.hub.fault(WEIGHTS, [Fault::Cut(4000), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)]);
    place.failure();
    // Another tool's files, in the oldest commit too.
    foreign(&place, "models--other--coreml", COMMIT, "a.mlmodel", b"model");
    foreign(&place, "models--org--model", COMMIT, "README.md", b"by another tool");
    let before = read_all(&place.cache());

    let prune = place.client().prune(&[], false).unwrap();
    let old = files()["meta.yaml"].len() as u64;
    assert!(prune.bytes >= old + 4000, "{prune:?}");
    assert_eq!(read_all(&place.cache()), before, "nothing goes before it is applied");
    prune.apply().unwrap();

    let snapshots = place.repository().join("snapshots");
    let left: Vec<_> = read_all(&snapshots.join(COMMIT)).into_keys().collect();
    assert_eq!(left, ["README.md"]);
    assert!(!place.blobs().iter().any(|name| name.ends_with(".incomplete")));
    assert!(!place.blobs().contains(&hash(&files()["meta.yaml"])));
    place.hub.update(|content| content.commit = NEXT.to_owned());
    let offline = place.client().offline(true);
    let snapshot = offline.download(ID, &DownloadOptions::new()).unwrap();
    assert_eq!(snapshot.commit, NEXT);
    assert_eq!(fs::read(snapshot.path.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    assert!(place.client().prune(&[], false).unwrap().paths.is_empty());
}

#[test]
fn a_whole_model_can_be_pruned_and_other_tools_keep_theirs() {
    let place = Place::new();
    let weights = files()[WEIGHTS].clone();
    // Another tool has brought a blob that this model uses, and a model of its own.
    foreign(&place, "models--org--model", NEXT, "w.bin", &weights);
    foreign(&place, "models--other--coreml", COMMIT, "a.mlmodel", b"model");
    place.download().unwrap();
    place.client().prune(&["other/coreml"], true).unwrap().apply().unwrap();
    place.client().prune(&[ID], true).unwrap().apply().unwrap();
    assert_eq!(place.blobs(), [hash(&weights)]);
    let left: Vec<_> = read_all(&place.repository().join("snapshots")).into_keys().collect();
    let shared = ["Data/weights/weight.bin", "copy with space #1.bin"]
        .map(|name| format!("{COMMIT}/a.mlpackage/{name}"));
    assert_eq!(left, [&shared[..], &[format!("{NEXT}/w.bin")]].concat());
    assert!(place.cache().join("models--other--coreml/blobs").join(hash(b"model")).exists());
    assert!(place.client().cached(ID, &DownloadOptions::new()).unwrap().is_none());
    // And it can be had again.
    place.assert_has(&place.download().unwrap(), &NEEDED);
}

#[test]
fn nothing_is_pruned_during_a_download() {
    let place = Place::new();
    let client = place.client();
    // The download stands still in its first event until pruning was tried.
    let (started, starts) = channel();
    let (go_on, goes_on) = channel();
    let goes_on = Mutex::new(goes_on);
    let options = DownloadOptions::new().on_event(move |event| {
        if let DownloadEvent::Started { .. } = event {
            started.send(()).unwrap();
            goes_on.lock().unwrap().recv().unwrap();
        }
    });
    std::thread::scope(|scope| {
        let download = scope.spawn(|| client.download(ID, &options).unwrap());
        starts.recv().unwrap();
        let tried = place.client().prune(&[ID], true);
        go_on.send(()).unwrap();
        let message = tried.unwrap_err().to_string();
        assert!(message.contains("being downloaded"), "{message}");
        download.join().unwrap();
    });
}

#[test]
fn only_old_parts_of_our_own_directory_are_cleaned() {
    let directory = tempfile::tempdir().unwrap();
    let own = OwnCache::at(directory.path());
    let model = own.models_dir().join("models--org--model").join(COMMIT);
    let temporary = own.temp_dir().join("x");
    let demo = directory.path().join("demo-0");
    for path in [&model, &temporary, &demo] {
        fs::create_dir_all(path).unwrap();
    }
    assert!(own.cleanup_old_caches(1).unwrap().is_empty());
    let mut removed = own.cleanup_old_caches(0).unwrap();
    removed.sort();
    assert_eq!(removed, [model, temporary]);
    assert!(demo.exists());
}

#[test]
fn missing_files_and_pointers_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let check = |names: &[&str]| {
        verify_download_completeness(directory.path(), names).map_err(|error| error.to_string())
    };
    fs::write(directory.path().join("a"), "a").unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    check(&["a"]).unwrap();
    let message = check(&["a", "empty", "none"]).unwrap_err();
    assert!(message.contains("`empty` and `none`"), "{message}");
    fs::write(directory.path().join("a"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(check(&["a"]).unwrap_err().contains("Git LFS"));
}

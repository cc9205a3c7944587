//! Downloads from a hub on the loopback interface, with everything that goes wrong on the way.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candle_coreml::hub::{DownloadEvent, DownloadOptions, HubClient, HubError};
use candle_coreml::{CancelToken, ErrorKind};

use crate::server::{self, COMMIT, Fault, ID, hash};
use crate::{NEEDED, Place, WEIGHTS, files};

#[test]
fn a_model_lies_in_the_layout_that_other_tools_use() {
    let place = Place::new();
    let snapshot = place.download().unwrap();
    assert_eq!(snapshot, place.repository().join("snapshots").join(COMMIT));
    place.assert_has(&snapshot, &NEEDED);
    assert_eq!(fs::read_to_string(place.repository().join("refs/main")).unwrap(), COMMIT);
    let files = files();
    let mut expected: Vec<String> = NEEDED.iter().map(|path| hash(&files[*path])).collect();
    expected.sort();
    expected.dedup();
    assert_eq!(place.blobs(), expected);
    // Two files of one content are fetched once.
    let seen = |path| place.hub.seen(path).iter().filter(|seen| seen.cdn).count();
    assert_eq!(seen(WEIGHTS) + seen("a.mlpackage/copy with space #1.bin"), 1);
    #[cfg(unix)]
    {
        let link = fs::read_link(snapshot.join(WEIGHTS)).unwrap();
        let blob = hash(&files[WEIGHTS]);
        assert_eq!(link, Path::new("../../../../../blobs").join(blob));
    }
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let place = Place::new();
    place.download().unwrap();
    let before = place.hub.content.lock().unwrap().seen.len();
    place.download().unwrap();
    let seen = place.hub.content.lock().unwrap().seen.split_off(before);
    assert_eq!(seen.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["revision"]);
    // A commit stands for itself: the hub is not asked at all.
    let options = DownloadOptions::new().revision(COMMIT);
    place.client().endpoint("http://127.0.0.1:1").download(ID, &options).unwrap();
}

/// Whether it is complete has to be asked, but of that commit, and nothing else.
#[test]
fn of_a_model_that_others_have_fetched_only_the_list_is_asked_for() {
    let place = Place::new();
    let snapshot = place.download().unwrap();
    fs::remove_dir_all(place.directory.path().join("own")).unwrap();
    place.hub.update(|content| content.seen.clear());
    let ensure = |client: HubClient| client.ensure(ID, &DownloadOptions::new()).unwrap();
    assert_eq!(ensure(place.client()), snapshot);
    assert_eq!(place.hub.content.lock().unwrap().seen, []);
    // Where nothing can be noted, it is asked each time, and without a hub the cache has to do.
    let unwritable = snapshot.join(WEIGHTS).join("own");
    for endpoint in [place.hub.endpoint().as_str(), "http://127.0.0.1:1"] {
        let client = place.client().own_dir(&unwritable).endpoint(endpoint);
        assert_eq!(ensure(client), snapshot);
    }
}

#[test]
fn the_token_is_shown_to_the_hub_alone() {
    let place = Place::new();
    place.hub.update(|content| content.token = Some("secret".to_owned()));
    let message = place.failure();
    assert!(message.contains("no model `org/model`") && message.contains("HF_TOKEN"), "{message}");
    let client = place.client().token(Some("secret".to_owned()));
    assert!(!format!("{client:?}").contains("secret"));
    client.download(ID, &DownloadOptions::new()).unwrap();
    let seen = place.hub.content.lock().unwrap().seen.clone();
    let of_files = |seen: &&server::Seen| seen.path != "revision";
    assert!(seen.iter().filter(of_files).all(|seen| seen.authorized != seen.cdn), "{seen:?}");
    assert!(seen.iter().any(|seen| seen.cdn));
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let place = Place::new();
    place.hub.fault(WEIGHTS, [Fault::Cut(70_000), Fault::Cut(50_000)]);
    place.hub.update(|content| drop(content.files.remove("a.mlpackage/copy with space #1.bin")));
    let snapshot = place.download().unwrap();
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    let ranges: Vec<_> = place
        .hub
        .seen(WEIGHTS)
        .into_iter()
        .filter(|seen| seen.cdn)
        .map(|seen| seen.range)
        .collect();
    let from = |start| Some(format!("bytes={start}-"));
    assert_eq!(ranges, [None, from(70_000), from(120_000)]);
    let small: usize = ["a.mlpackage/Manifest.json", "meta.yaml", "tokenizer.json"]
        .map(|p| files()[p].len())
        .iter()
        .sum();
    assert_eq!(place.hub.content.lock().unwrap().sent, 200_000 + small);
}

#[test]
fn a_later_run_resumes_what_an_earlier_one_left() {
    let place = Place::new();
    place.hub.fault(WEIGHTS, vec![Fault::Cut(30_000), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)]);
    let message = place.failure();
    assert!(message.contains("connection") || message.contains("disconnected"), "{message}");
    // Nothing looks complete.
    assert!(place.client().cached(ID, &DownloadOptions::new()).unwrap().is_none());
    let part = format!("{}.incomplete", hash(&files()[WEIGHTS]));
    assert!(place.blobs().contains(&part));
    place.hub.update(|content| content.seen.clear());
    place.download().unwrap();
    let range = place.hub.seen(WEIGHTS).into_iter().find(|seen| seen.cdn).unwrap().range;
    assert_eq!(range.unwrap(), "bytes=30000-");
    assert!(!place.blobs().contains(&part));
}

#[test]
fn a_part_that_does_not_fit_is_fetched_anew() {
    for damaged in [vec![7; 1000], vec![7; 200_000], vec![7; 300_000]] {
        let place = Place::new();
        let blobs = place.repository().join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        let part = format!("{}.incomplete", hash(&files()[WEIGHTS]));
        fs::write(blobs.join(part), &damaged).unwrap();
        place.hub.fault(WEIGHTS, []);
        place.assert_has(&place.download().unwrap(), &NEEDED);
    }
    // A server that knows no ranges sends all of it.
    let place = Place::new();
    place.hub.fault(WEIGHTS, [Fault::Cut(1000), Fault::NoRange]);
    place.assert_has(&place.download().unwrap(), &NEEDED);
}

#[test]
fn other_bytes_than_listed_never_enter_the_cache() {
    for (fault, expected) in [
        (Fault::Wrong, "expected hash"),
        (Fault::Long, "expected 200000 bytes"),
        (Fault::Short, "after 199999 of 200000 bytes"),
    ] {
        let place = Place::new();
        place.hub.fault(WEIGHTS, vec![fault; 20]);
        let message = place.failure();
        assert!(message.contains(expected), "{message}");
        assert!(!place.blobs().contains(&hash(&files()[WEIGHTS])));
        assert!(!place.repository().join("refs").exists());
        place.hub.update(|content| content.faults.clear());
        place.assert_has(&place.download().unwrap(), &NEEDED);
    }
    let place = Place::new();
    place.hub.update(|content| content.wrong_hash = Some("meta.yaml".to_owned()));
    let message = place.failure();
    assert!(message.contains("`meta.yaml`") && message.contains("ffff"), "{message}");
}

#[test]
fn the_disk_has_to_have_room() {
    let place = Place::new();
    place.hub.update(|content| content.listed_size = Some(1 << 60));
    let message = place.failure();
    assert!(message.contains("make room") && message.contains("1152921504606"), "{message}");
    assert_eq!(place.hub.content.lock().unwrap().sent, 0);
}

#[test]
fn passing_failures_are_waited_for() {
    let place = Place::new();
    let retry = |seconds: &str| vec![("retry-after", seconds.to_owned())];
    place.hub.fault(WEIGHTS, [Fault::Status(429, retry("0")), Fault::Status(503, vec![])]);
    place.hub.fault("revision", [Fault::Status(500, vec![]), Fault::Status(429, retry("0"))]);
    let events = Arc::new(Mutex::new(Vec::new()));
    let record = events.clone();
    let options = DownloadOptions::new().on_event(move |event| {
        if let DownloadEvent::Retrying { path, reason, attempt, attempts, .. } = event {
            let path = path.unwrap_or("list");
            let text = format!("{path} {attempt}/{attempts} {reason}");
            record.lock().unwrap().push(text);
        }
    });
    place.client().download(ID, &options).unwrap();
    let events = events.lock().unwrap();
    let weights = format!("{WEIGHTS} ");
    let expected =
        [("list 2/3 ", "500"), ("list 3/3 ", "429"), (&weights, "429"), (&weights, "503")];
    assert_eq!(events.len(), expected.len());
    for (event, (start, status)) in events.iter().zip(expected) {
        assert!(event.starts_with(start) && event.contains(status), "{events:?}");
    }

    let place = Place::new();
    place.hub.fault(WEIGHTS, vec![Fault::Status(503, vec![]); 9]);
    assert!(place.failure().contains("503"));
    assert_eq!(place.hub.seen(WEIGHTS).iter().filter(|seen| seen.cdn).count(), 3);
    // Nobody waits for an hour.
    let place = Place::new();
    place.hub.fault(WEIGHTS, [Fault::Status(429, retry("3600"))]);
    assert!(place.failure().contains("try again in 3600 s"));
}

#[test]
fn a_slow_hub_is_waited_for_and_a_silent_one_is_not() {
    let place = Place::new();
    place.hub.update(|content| content.pace = Some((20_000, Duration::from_millis(5))));
    let client = place.client().timeout(Duration::from_secs(5));
    client.download(ID, &DownloadOptions::new()).unwrap();

    let place = Place::new();
    place.hub.update(|content| content.pace = Some((20_000, Duration::from_secs(60))));
    let client = place.client().timeout(Duration::from_millis(50));
    let error = client.download(ID, &DownloadOptions::new()).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn a_cancelled_download_ends_and_is_resumed() {
    let place = Place::new();
    let token = CancelToken::new();
    let cancel = token.clone();
    let options = DownloadOptions::new().cancel(token).on_event(move |event| {
        if matches!(event, DownloadEvent::Received { .. }) {
            cancel.cancel();
        }
    });
    let error = place.client().download(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::Stopped), "{error}");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(place.client().cached(ID, &DownloadOptions::new()).unwrap().is_none());
    place.client().download(ID, &DownloadOptions::new()).unwrap();

    // One that is cancelled before it begins asks nothing of the hub.
    let place = Place::new();
    let token = CancelToken::new();
    token.cancel();
    let error = place.client().download(ID, &DownloadOptions::new().cancel(token)).unwrap_err();
    assert!(matches!(error, HubError::Stopped), "{error}");
}

/// The kinds of errors that a server or a binding tells apart.
#[test]
fn errors_have_kinds() {
    let place = Place::new();
    let kind = |place: &Place, id: &str, options: &DownloadOptions| {
        place.client().download(id, options).unwrap_err().kind()
    };
    let main = DownloadOptions::new();
    assert_eq!(kind(&place, "org/modle", &main), ErrorKind::NotFound);
    assert_eq!(kind(&place, ID, &DownloadOptions::new().revision("v2")), ErrorKind::NotFound);
    assert_eq!(kind(&place, "not an id", &main), ErrorKind::InvalidInput);
    let pattern = DownloadOptions::new().include("[");
    let error = place.client().download(ID, &pattern).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(std::error::Error::source(&error).is_some(), "the pattern's error");
    place.hub.update(|content| content.gated = true);
    assert_eq!(kind(&place, ID, &main), ErrorKind::Denied);
}

#[test]
fn refusals_say_what_to_do() {
    let place = Place::new();
    let failure = |id: &str, revision: &str| {
        let options = DownloadOptions::new().revision(revision);
        place.client().download(id, &options).unwrap_err().to_string()
    };
    let message = failure("org/modle", "main");
    assert!(message.contains("no model `org/modle`") && message.contains("spelling"), "{message}");
    assert!(failure(ID, "v2").contains("no revision `v2`"));
    assert!(failure("not an id", "main").contains("`ORG/NAME`"));
    assert!(failure(ID, "../x").contains("no revision"));
    place.hub.update(|content| content.gated = true);
    let message = place.failure();
    assert!(message.contains("accept the terms") && message.contains("HF_TOKEN"), "{message}");
    assert!(message.contains(&format!("{}/org/model", place.hub.endpoint())), "{message}");

    let place = Place::new();
    place
        .hub
        .fault("meta.yaml", [Fault::Status(404, vec![("x-error-code", "EntryNotFound".into())])]);
    let message = place.failure();
    assert!(message.contains("404") && message.contains("meta.yaml"), "{message}");
}

#[test]
fn revisions_have_refs_of_their_own() {
    let place = Place::new();
    for revision in ["v1", "refs/pr/1"] {
        let options = DownloadOptions::new().revision(revision);
        place.client().download(ID, &options).unwrap();
        let file = place.repository().join("refs").join(revision);
        assert_eq!(fs::read_to_string(file).unwrap(), COMMIT);
        assert!(place.client().cached(ID, &options).unwrap().is_some());
    }
    assert!(place.client().cached(ID, &DownloadOptions::new()).unwrap().is_none());
}

#[test]
fn a_cached_model_needs_no_network() {
    let place = Place::new();
    let offline = place.client().offline(true);
    let download = |client: &HubClient| client.download(ID, &DownloadOptions::new());
    let message = download(&offline).unwrap_err().to_string();
    assert!(message.contains("nothing of its revision `main`"), "{message}");
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
    let snapshot = place.download().unwrap();
    assert_eq!(download(&offline).unwrap().path, snapshot);
    // The same when the network is down.
    let down = place.client().endpoint("http://127.0.0.1:1");
    let notes = Arc::new(Mutex::new(Vec::new()));
    let record = notes.clone();
    let options = DownloadOptions::new().on_event(move |event| {
        if let DownloadEvent::Note { message } = event {
            record.lock().unwrap().push(message.clone());
        }
    });
    assert_eq!(down.download(ID, &options).unwrap().path, snapshot);
    assert!(notes.lock().unwrap()[0].contains("using the cache"));
    // What is missing is named.
    fs::remove_file(snapshot.join("meta.yaml")).unwrap();
    let message = download(&down).unwrap_err().to_string();
    assert!(message.contains("`meta.yaml` is missing") && message.contains("reached"), "{message}");
}

#[test]
fn an_update_that_breaks_off_leaves_the_old_model_usable() {
    let place = Place::new();
    let old = place.download().unwrap();
    place.hub.update(|content| {
        content.commit = "b".repeat(40);
        content.files.insert("meta.yaml".to_owned(), b"new".to_vec());
    });
    place.hub.fault("meta.yaml", vec![Fault::Cut(0); 9]);
    place.failure();
    let cached = place.client().cached(ID, &DownloadOptions::new()).unwrap().unwrap();
    assert_eq!(cached.path, old);
    place.hub.update(|content| content.faults.clear());
    let new = place.download().unwrap();
    assert_ne!(new, old);
    assert_eq!(fs::read(new.join("meta.yaml")).unwrap(), b"new");
    // Only what changed was fetched again.
    assert_eq!(place.hub.seen(WEIGHTS).iter().filter(|seen| seen.cdn).count(), 1);
}

#[test]
fn what_other_tools_have_fetched_is_used() {
    let place = Place::new();
    let snapshot = place.repository().join("snapshots").join(COMMIT);
    fs::create_dir_all(place.repository().join("refs")).unwrap();
    fs::write(place.repository().join("refs/main"), COMMIT).unwrap();
    for (path, bytes) in files() {
        let file = snapshot.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    // Offline, whether something is missing can't be told: loading the model will.
    let offline = place.client().offline(true);
    assert_eq!(offline.download(ID, &DownloadOptions::new()).unwrap().path, snapshot);
    // Online, sizes are compared.
    fs::write(snapshot.join("meta.yaml"), "cut").unwrap();
    place.download().unwrap();
    let seen = place.hub.content.lock().unwrap().seen.clone();
    assert_eq!(
        seen.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(),
        ["revision", "meta.yaml"]
    );
    assert_eq!(fs::read(snapshot.join("meta.yaml")).unwrap(), files()["meta.yaml"]);
}

#[test]
fn what_other_tools_have_begun_is_completed() {
    let place = Place::new();
    let snapshot = place.repository().join("snapshots").join(COMMIT);
    fs::create_dir_all(snapshot.join("a.mlpackage")).unwrap();
    fs::create_dir_all(place.repository().join("refs")).unwrap();
    fs::write(place.repository().join("refs/main"), COMMIT).unwrap();
    for path in ["tokenizer.json", "a.mlpackage/Manifest.json"] {
        fs::write(snapshot.join(path), &files()[path]).unwrap();
        let directory = place.client().ensure(ID, &DownloadOptions::new().include("*.json"));
        assert_eq!(directory.unwrap(), snapshot);
    }
    assert!(place.client().cached(ID, &DownloadOptions::new()).unwrap().is_none());
    assert_eq!(place.client().ensure(ID, &DownloadOptions::new()).unwrap(), snapshot);
    place.assert_has(&snapshot, &NEEDED);
}

#[test]
fn patterns_choose_files() {
    let place = Place::new();
    let options = DownloadOptions::new().include("*.json").include("README*");
    let snapshot = place.client().download(ID, &options).unwrap();
    place.assert_has(&snapshot.path, &["README.md", "a.mlpackage/Manifest.json", "tokenizer.json"]);
    assert!(place.client().cached(ID, &options).unwrap().is_some());
    assert!(place.client().cached(ID, &DownloadOptions::new()).unwrap().is_none());
    let message = place
        .client()
        .download(ID, &DownloadOptions::new().include("*.gguf"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("`*.gguf`"), "{message}");
}

#[test]
fn a_directory_keeps_what_it_has() {
    let place = Place::new();
    let target = place.directory.path().join("models/mine");
    fs::create_dir_all(target.join("a.mlpackage")).unwrap();
    for (name, text) in
        [("notes.txt", "mine"), ("a.mlpackage/own.bin", "mine"), ("meta.yaml", "odel_info:\nm")]
    {
        fs::write(target.join(name), text).unwrap();
    }
    fs::write(target.join("tokenizer.json"), &files()["tokenizer.json"]).unwrap();
    let to = || place.client().download_to(ID, &target, &DownloadOptions::new());
    place.hub.fault(WEIGHTS, vec![Fault::Cut(40_000), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)]);
    to().unwrap_err();
    assert!(!target.join(WEIGHTS).exists());
    assert_eq!(to().unwrap(), target);
    assert!(place.hub.seen("tokenizer.json").is_empty(), "it was there");
    let ranges: Vec<_> = place.hub.seen(WEIGHTS).into_iter().map(|seen| seen.range).collect();
    assert!(ranges.contains(&Some("bytes=40000-".to_owned())), "{ranges:?}");
    for (name, text) in [("notes.txt", "mine"), ("a.mlpackage/own.bin", "mine")] {
        assert_eq!(fs::read_to_string(target.join(name)).unwrap(), text);
        fs::remove_file(target.join(name)).unwrap();
    }
    place.assert_has(&target, &NEEDED);
    assert!(!place.cache().exists());
    // Nothing is fetched twice, nor once more when the cache has it.
    let before = place.hub.content.lock().unwrap().sent;
    to().unwrap();
    assert_eq!(place.hub.content.lock().unwrap().sent, before);
    place.download().unwrap();
    let before = place.hub.content.lock().unwrap().sent;
    let other = place.directory.path().join("other");
    place.client().download_to(ID, &other, &DownloadOptions::new()).unwrap();
    place.assert_has(&other, &NEEDED);
    assert_eq!(place.hub.content.lock().unwrap().sent, before);
}

#[test]
fn paths_that_leave_the_repository_are_refused() {
    for path in ["../evil.mlmodel", "/evil.mlmodel", "a/../../evil.mlmodel", "a\\..\\evil.mlmodel"]
    {
        let place = Place::with([(path.to_owned(), b"x".to_vec())].into());
        let message = place.failure();
        assert!(message.contains("no path inside a repository"), "{message}");
        assert!(!place.repository().exists());
    }
}

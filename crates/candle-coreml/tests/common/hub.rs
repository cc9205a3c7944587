//! A hub on the loopback interface: a model's files, large ones on a second server (another port)
//! that stands for the content network, with faults to order.

#![allow(dead_code)] // each test uses a part

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use tokio::runtime::Runtime;

pub const ID: &str = "org/model";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files of this size and more are large ones.
pub const LARGE: usize = 4096;

/// What goes wrong with one request for a file.
#[derive(Clone)]
pub enum Fault {
    /// A status with headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection is cut after this many bytes.
    Cut(usize),
    /// Another content of the same size.
    Wrong,
    /// More bytes than listed.
    Long,
    /// Fewer bytes than listed, properly ended.
    Short,
    /// The whole file, whatever range was asked for.
    NoRange,
}

/// A request for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
    pub authorized: bool,
    /// Whether the content network was asked.
    pub cdn: bool,
}

#[derive(Default)]
pub struct Content {
    pub commit: String,
    pub files: BTreeMap<String, Vec<u8>>,
    pub faults: HashMap<String, VecDeque<Fault>>,
    pub seen: Vec<Seen>,
    /// Bytes of file contents that were sent.
    pub sent: usize,
    /// Bytes of them that have left, or nearly so.
    pub delivered: usize,
    /// Told of each change of `delivered`.
    changed: Arc<Condvar>,
    /// The token without which nothing is given.
    pub token: Option<String>,
    /// Refuses files, though not the list of them, as of a gated model.
    pub gated: bool,
    /// Size of the pieces that files are sent in, and the pause after each.
    pub pace: Option<(usize, Duration)>,
    /// Lists another hash for this file than it has.
    pub wrong_hash: Option<String>,
    /// Lists this size for all large files.
    pub listed_size: Option<u64>,
    cdn: Option<SocketAddr>,
}

type Shared = Arc<Mutex<Content>>;

/// The server; it ends with the value.
pub struct Hub {
    pub content: Shared,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Hub {
    /// Serves these files as the model `org/model`.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let content = Content { commit: COMMIT.to_owned(), files, ..Content::default() };
        let content = Arc::new(Mutex::new(content));
        let serve = |router: Router| {
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            runtime.spawn(async move { axum::serve(listener, router).await });
            address
        };
        let cdn = serve(Router::new().fallback(cdn).with_state(content.clone()));
        content.lock().unwrap().cdn = Some(cdn);
        let address = serve(Router::new().fallback(hub).with_state(content.clone()));
        Hub { content, address, _runtime: runtime }
    }

    /// Serves the files of a directory.
    pub fn of_directory(directory: &Path) -> Self {
        Self::new(read_all(directory))
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Orders faults for the next requests for a file.
    pub fn fault(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.content.lock().unwrap().faults.entry(path.to_owned()).or_default().extend(faults);
    }

    /// Requests for a file so far.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let content = self.content.lock().unwrap();
        content.seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }

    /// Waits until so many bytes of files have been delivered, but not forever.
    pub fn wait_for_delivered(&self, bytes: usize) {
        let content = self.content.lock().unwrap();
        let changed = content.changed.clone();
        let limit = Duration::from_secs(5);
        let waited = changed.wait_timeout_while(content, limit, |now| now.delivered < bytes);
        drop(waited.unwrap());
    }

    pub fn update(&self, change: impl FnOnce(&mut Content)) {
        change(&mut self.content.lock().unwrap());
    }
}

/// All files below a directory by their paths in it.
pub fn read_all(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = read_all(&path).into_iter();
            files.extend(below.map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Git's hash of a small file, SHA-256 of a large one.
pub fn hash(bytes: &[u8]) -> String {
    if bytes.len() >= LARGE { hex(&Sha256::digest(bytes)) } else { git_hash(bytes) }
}

fn git_hash(bytes: &[u8]) -> String {
    hex(&Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()))
}

fn failure(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("x-error-code", code), ("x-error-message", message)]).into_response()
}

async fn hub(State(shared): State<Shared>, request: Request) -> Response {
    let path = percent_decoded(request.uri().path());
    let headers = request.headers();
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut content = shared.lock().unwrap();
    if let Some(token) = &content.token
        && authorization != Some(&format!("Bearer {token}"))
    {
        return failure(401, "RepoNotFound", "Repository not found");
    }
    let model = format!("/api/models/{ID}/");
    if let Some(rest) = path.strip_prefix(&model) {
        return list(&mut content, rest, request.uri().query().unwrap_or_default());
    }
    let Some(rest) = path.strip_prefix(&format!("/{ID}/resolve/")) else {
        return failure(401, "RepoNotFound", "Repository not found");
    };
    let (commit, name) = rest.split_once('/').unwrap();
    assert_eq!(commit, content.commit);
    if content.gated {
        return failure(403, "GatedRepo", "Access to model org/model is restricted");
    }
    let cdn = content.cdn.unwrap();
    let is_large = content.files.get(name).is_some_and(|bytes| bytes.len() >= LARGE);
    if is_large {
        let seen = see(name, headers, false);
        content.seen.push(seen);
        // Hubs redirect to addresses of their own, too.
        let location = match request.uri().query() {
            None => format!("{}?again", request.uri().path()),
            Some(_) => format!("http://{cdn}{}?signature=x%20y", request.uri().path()),
        };
        return (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    }
    send(&shared, &mut content, name, headers, false)
}

async fn cdn(State(shared): State<Shared>, request: Request) -> Response {
    let path = percent_decoded(request.uri().path());
    let name = path.split_once("/resolve/").unwrap().1.split_once('/').unwrap().1;
    send(&shared, &mut shared.lock().unwrap(), name, request.headers(), true)
}

/// The commit of a revision, or the list of files.
fn list(content: &mut Content, rest: &str, query: &str) -> Response {
    if let Some(revision) = rest.strip_prefix("revision/") {
        content.seen.push(Seen {
            path: "revision".into(),
            range: None,
            authorized: false,
            cdn: false,
        });
        if let Some(fault) = content.faults.get_mut("revision").and_then(VecDeque::pop_front) {
            return status(fault);
        }
        return match revision {
            "main" | "v1" | "refs/pr/1" => {
                Body::from(json!({"sha": content.commit}).to_string()).into_response()
            }
            _ => failure(404, "RevisionNotFound", "Invalid rev id"),
        };
    }
    assert_eq!(rest, format!("tree/{}", content.commit));
    // Two pages, to be joined by the header.
    let half = content.files.len().div_ceil(2);
    let files: Vec<_> = content.files.iter().collect();
    let (page, next) = match query.contains("cursor") {
        true => (&files[half..], None),
        false => {
            (&files[..half], Some(format!("</api/models/{ID}/{rest}?cursor=2>; rel=\"next\"")))
        }
    };
    let entries: Vec<_> = page.iter().map(|(path, bytes)| entry(content, path, bytes)).collect();
    let body = serde_json::Value::from(entries).to_string();
    match next {
        Some(next) => ([(header::LINK, next)], body).into_response(),
        None => body.into_response(),
    }
}

fn entry(content: &Content, path: &str, bytes: &[u8]) -> serde_json::Value {
    let mut hash = hash(bytes);
    if content.wrong_hash.as_deref() == Some(path) {
        hash = "f".repeat(hash.len());
    }
    let size = bytes.len();
    if size >= LARGE {
        // The entry's own hash is that of the pointer file.
        let size = content.listed_size.unwrap_or(size as u64);
        let lfs = json!({"oid": hash, "size": size, "pointerSize": 134});
        json!({"type": "file", "path": path, "size": size, "oid": "e".repeat(40), "lfs": lfs})
    } else {
        json!({"type": "file", "path": path, "size": size, "oid": hash})
    }
}

fn see(name: &str, headers: &HeaderMap, cdn: bool) -> Seen {
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let authorized = headers.contains_key(header::AUTHORIZATION);
    Seen { path: name.to_owned(), range, authorized, cdn }
}

fn status(fault: Fault) -> Response {
    let Fault::Status(code, headers) = fault else { panic!("no status") };
    let mut response = StatusCode::from_u16(code).unwrap().into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

fn send(
    shared: &Shared,
    content: &mut Content,
    name: &str,
    headers: &HeaderMap,
    cdn: bool,
) -> Response {
    let seen = see(name, headers, cdn);
    let mut start = seen.range.as_ref().map_or(0, |range| {
        range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse::<usize>().unwrap()
    });
    content.seen.push(seen);
    let Some(mut bytes) = content.files.get(name).cloned() else {
        return failure(404, "EntryNotFound", "Entry not found");
    };
    let fault = content.faults.get_mut(name).and_then(VecDeque::pop_front);
    let mut cut = usize::MAX;
    match fault {
        Some(fault @ Fault::Status(..)) => return status(fault),
        Some(Fault::Cut(after)) => cut = after,
        Some(Fault::Wrong) => bytes.iter_mut().for_each(|byte| *byte = !*byte),
        Some(Fault::Long) => bytes.push(0),
        Some(Fault::Short) => drop(bytes.pop()),
        Some(Fault::NoRange) => start = 0,
        None => {}
    }
    let total = bytes.len();
    if start > total {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let body = Bytes::from(bytes).slice(start..);
    content.sent += body.len().min(cut);
    let builder = Response::builder()
        .header(header::CONTENT_LENGTH, body.len())
        .header(header::ETAG, "\"of the content network\"");
    let builder = match start {
        0 => builder,
        _ => builder
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{total}", total - 1)),
    };
    builder.body(paced(shared.clone(), body, cut, content.pace)).unwrap()
}

/// A body in pieces; after `cut` bytes the connection breaks.
fn paced(shared: Shared, body: Bytes, cut: usize, pace: Option<(usize, Duration)>) -> Body {
    let (piece, pause) = pace.unwrap_or((1 << 16, Duration::ZERO));
    Body::from_stream(stream::unfold(
        (shared, body, cut),
        move |(shared, mut rest, cut)| async move {
            if rest.is_empty() {
                return None;
            }
            if cut == 0 {
                // What was sent before has to leave first.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Some((Err(io::Error::other("cut")), (shared, Bytes::new(), 0)));
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let piece = rest.split_to(piece.min(rest.len()).min(cut));
            {
                let mut content = shared.lock().unwrap();
                content.delivered += piece.len();
                content.changed.notify_all();
            }
            let cut = cut - piece.len();
            Some((Ok(piece), (shared, rest, cut)))
        },
    ))
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

//! Requests: redirects, which never carry the token to another host, and repeated attempts.

use std::io::Read;
use std::net::ToSocketAddrs;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{DownloadEvent, HubError};
use coreml_engine::CancelToken;

const MOST_REDIRECTS: usize = 10;
/// Attempts to reach a hub while the network seems to be off.
const OFFLINE_ATTEMPTS: u32 = 3;
/// The longest wait for a host to be found, and then to accept a connection.
const LONGEST_KNOCK: Duration = Duration::from_secs(10);
/// A hub that asks for a longer pause has to be asked again by hand.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// The longest answer that is read into memory: a list of files, a page at a time.
const LONGEST_TEXT: u64 = 64 << 20;
/// In a path, all but what needs no escape.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How often and after what pause a request is repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Attempts in a row that bring nothing.
    pub(super) attempts: u32,
    /// The first pause; it doubles with each attempt.
    pub(super) pause: Duration,
    /// How long the hub may be silent.
    pub(super) timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            attempts: 6,
            pause: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
        }
    }
}

pub(super) struct Http {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    patience: Patience,
}

/// An attempt that failed.
pub(super) struct Failure {
    pub(super) error: HubError,
    pub(super) outlook: Outlook,
    /// The pause that the hub asked for.
    pub(super) pause: Option<Duration>,
    /// Whether the attempt brought something that stays.
    pub(super) progressed: bool,
}

/// An attempt that is going to be made because one before failed.
pub(super) struct Retry<'a> {
    reason: &'a HubError,
    pause: Duration,
    attempt: u32,
    attempts: u32,
}

impl<'a> Retry<'a> {
    /// The event that tells of it, for a file or for the list of files.
    pub(super) fn event(&self, path: Option<&'a str>) -> DownloadEvent<'a> {
        let Retry { reason, pause, attempt, attempts } = *self;
        DownloadEvent::Retrying { path, reason, pause, attempt, attempts }
    }
}

/// Whether another attempt may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It may.
    Passing,
    /// The network seems to be off: it may come back in a moment, but for longer only what has begun
    /// is worth waiting for.
    Offline,
    /// It will not.
    Final,
}

impl Failure {
    pub(super) fn passing(error: HubError) -> Self {
        Failure { error, outlook: Outlook::Passing, pause: None, progressed: false }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Failure { error, outlook: Outlook::Final, pause: None, progressed: false }
    }
}

impl Http {
    pub(super) fn new(endpoint: &str, token: Option<&str>, patience: Patience) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // Followed here: ureq takes another port for the same host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("candle-coreml/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.timeout.min(LONGEST_KNOCK)))
            .timeout_connect(Some(patience.timeout.min(LONGEST_KNOCK)))
            .timeout_recv_response(Some(patience.timeout))
            .timeout_per_read(Some(patience.timeout))
            .build()
            .new_agent();
        Http { agent, endpoint: endpoint.to_owned(), token: token.map(str::to_owned), patience }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A text from the hub, and the address of the next part if it comes in parts.
    pub(super) fn text(
        &self,
        url: &str,
        stop: &Stop,
        on_retry: &dyn Fn(&Retry<'_>),
    ) -> Result<(String, Option<String>), HubError> {
        self.persist(stop, on_retry, || {
            let response = self.get(url, None)?;
            let next = next_page(response.headers(), url);
            let mut text = String::new();
            let mut body = response.into_body().into_reader().take(LONGEST_TEXT + 1);
            body.read_to_string(&mut text).map_err(|error| {
                Failure::passing(HubError::network(url, error.to_string()).caused_by(error))
            })?;
            if text.len() as u64 > LONGEST_TEXT {
                let message = format!("expected a list of files, got over {LONGEST_TEXT} bytes");
                return Err(HubError::answer(url, message).into());
            }
            Ok((text, next))
        })
    }

    /// One attempt to get what lies at an address from byte `start` on, redirects followed. The
    /// answer has status 200 or, with `start`, perhaps 206 or 416.
    pub(super) fn get(&self, url: &str, start: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut place = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(&place).header("accept-encoding", "identity");
            if let Some(start) = start {
                request = request.header("range", format!("bytes={start}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| self.is_endpoint(&place)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| self.unreachable(&place, error))?;
            match response.status() {
                status if status.is_redirection() => {
                    let location = header(response.headers(), "location").unwrap_or_default();
                    place = redirected(&place, location).ok_or_else(|| {
                        let message = format!("redirects to `{location}`, which is not followed");
                        HubError::answer(&place, message)
                    })?;
                }
                StatusCode::OK => return Ok(response),
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
                    if start.is_some() =>
                {
                    return Ok(response);
                }
                _ => return Err(refused(&place, &response)),
            }
        }
        let message = format!("is redirected more than {MOST_REDIRECTS} times");
        Err(HubError::answer(url, message).into())
    }

    /// Whether an address is the hub's own, by scheme, host and port.
    fn is_endpoint(&self, url: &str) -> bool {
        origin(url).is_some_and(|hub| origin(&self.endpoint) == Some(hub))
    }

    fn unreachable(&self, url: &str, error: ureq::Error) -> Failure {
        let (outlook, message) = match &error {
            ureq::Error::HostNotFound => (Outlook::Offline, unknown_host(url)),
            // The system's error about a name has no number.
            ureq::Error::Io(io) if io.raw_os_error().is_none() && !self.finds_host(url) => {
                (Outlook::Offline, unknown_host(url))
            }
            ureq::Error::Timeout(_) => (outlook(&error), "there was no answer in time".to_owned()),
            _ => (outlook(&error), error.to_string()),
        };
        let error = HubError::network(url, message).caused_by(error);
        Failure { outlook, ..Failure::passing(error) }
    }

    /// Whether the host of an address is known; a proxy looks it up itself.
    fn finds_host(&self, url: &str) -> bool {
        let Some((scheme, authority)) = origin(url) else { return true };
        let port = if scheme == "https" { 443 } else { 80 };
        self.agent.config().proxy().is_some()
            || authority.to_socket_addrs().is_ok()
            || (authority.as_str(), port).to_socket_addrs().is_ok()
    }

    /// Repeats an attempt while its failures may pass, with growing pauses.
    pub(super) fn persist<T>(
        &self,
        stop: &Stop,
        on_retry: &dyn Fn(&Retry<'_>),
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut failed = 0;
        loop {
            if stop.is_stopped() {
                return Err(HubError::Stopped);
            }
            let failure = match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failed = if failure.progressed { 1 } else { failed + 1 };
            let growing = self.patience.pause * (1 << (failed - 1).min(5));
            let pause = failure.pause.unwrap_or(growing);
            let attempts = match failure.outlook {
                Outlook::Passing => self.patience.attempts,
                Outlook::Offline => self.patience.attempts.min(OFFLINE_ATTEMPTS),
                Outlook::Final => 1,
            };
            if failed >= attempts || pause > LONGEST_WAIT {
                return Err(failure.error);
            }
            tracing::debug!(error = %failure.error, ?pause, "trying again");
            on_retry(&Retry { reason: &failure.error, pause, attempt: failed + 1, attempts });
            if stop.wait(pause) {
                return Err(HubError::Stopped);
            }
        }
    }
}

/// Tells the threads of a download that it has failed, or that nobody wants it any more.
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
    cancel: Option<CancelToken>,
}

/// How long a pause lasts before it is asked whether the download is still wanted.
const NAP: Duration = Duration::from_millis(100);

impl Stop {
    pub(super) fn new(cancel: Option<CancelToken>) -> Self {
        Stop { stopped: Mutex::default(), changed: Condvar::default(), cancel }
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_cancelled() || *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelToken::is_cancelled)
    }

    /// Pauses, but for no longer than the download runs; true when it was stopped.
    fn wait(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped && !self.is_cancelled() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.changed.wait_timeout(stopped, left.min(NAP));
            stopped = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A path with all but `/` escaped for an address.
pub(super) fn escape_path(path: &str) -> String {
    path.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// A single part of a path, `/` escaped too.
pub(super) fn escape(part: &str) -> String {
    utf8_percent_encode(part, PATH).to_string()
}

/// Whether another attempt may do better than one that ended so.
fn outlook(error: &ureq::Error) -> Outlook {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    use ureq::Timeout::{Connect, Resolve};
    match error {
        ureq::Error::ConnectionFailed | ureq::Error::Timeout(Resolve | Connect) => Outlook::Offline,
        ureq::Error::Io(error) => match error.kind() {
            ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable => {
                Outlook::Offline
            }
            _ => Outlook::Passing,
        },
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => Outlook::Passing,
        _ => Outlook::Final,
    }
}

fn unknown_host(url: &str) -> String {
    let host = origin(url).map(|origin| origin.1).unwrap_or_default();
    format!("the host `{host}` is not found; is the network up?")
}

fn refused(url: &str, response: &Response<Body>) -> Failure {
    let status = response.status();
    let headers = response.headers();
    let seconds = header(headers, "retry-after").and_then(|value| value.trim().parse().ok());
    let pause = seconds.map(Duration::from_secs);
    let said: Vec<&str> = ["x-error-code", "x-error-message"]
        .iter()
        .filter_map(|name| header(headers, name))
        .collect();
    let message = match (status, pause) {
        (StatusCode::TOO_MANY_REQUESTS, Some(pause)) => {
            format!("too many requests; try again in {} s", pause.as_secs())
        }
        (StatusCode::TOO_MANY_REQUESTS, None) => "too many requests; try again later".to_owned(),
        _ if said.is_empty() => status.canonical_reason().unwrap_or_default().to_owned(),
        _ => said.join(": "),
    };
    let passing = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    let outlook = if passing { Outlook::Passing } else { Outlook::Final };
    let error = HubError::Status { url: url.to_owned(), status: status.as_u16(), message };
    Failure { outlook, pause, ..Failure::passing(error) }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(&str, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.to_lowercase();
    let default = if scheme == "https" { ":443" } else { ":80" };
    Some((scheme, authority.strip_suffix(default).unwrap_or(&authority).to_owned()))
}

/// Where a redirect leads. Not from an encrypted connection to an open one.
fn redirected(from: &str, location: &str) -> Option<String> {
    let (scheme, rest) = from.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let url = if location.is_empty() {
        return None;
    } else if location.contains("://") && !location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let directory = path.rfind('/').map_or("", |end| &path[..end]);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let safe = url.starts_with("https://") || (scheme == "http" && url.starts_with("http://"));
    safe.then_some(url)
}

/// The address of the next part of a list, by the header `Link: <URL>; rel="next"`.
fn next_page(headers: &HeaderMap, url: &str) -> Option<String> {
    let links = header(headers, "link")?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let start = next.find('<')? + 1;
    let end = next.find('>')?;
    redirected(url, next.get(start..end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_as_in_rfc_3986() {
        let from = "https://hub.test/a/b?c=d";
        for (location, expected) in [
            ("https://cdn.test:8/x", Some("https://cdn.test:8/x")),
            ("//cdn.test/x", Some("https://cdn.test/x")),
            ("/x?y=https://z", Some("https://hub.test/x?y=https://z")),
            ("x", Some("https://hub.test/a/x")),
            ("http://hub.test/x", None),
            ("file:///etc/passwd", None),
            ("", None),
        ] {
            assert_eq!(redirected(from, location).as_deref(), expected, "{location}");
        }
        assert_eq!(redirected("http://h", "x").as_deref(), Some("http://h/x"));
    }

    #[test]
    fn the_token_goes_to_the_hub_only() {
        let http = Http::new("https://hub.test", Some("secret"), Patience::default());
        for url in ["https://hub.test/x", "https://HUB.test:443/", "https://hub.test?x"] {
            assert!(http.is_endpoint(url), "{url}");
        }
        let others = [
            "http://hub.test/",
            "https://hub.test:8443/",
            "https://cdn.test/",
            "https://hub.test@x/",
        ];
        for url in
            others.iter().chain(&["https://hub.test.evil/", "https://x/hub.test", "hub.test"])
        {
            assert!(!http.is_endpoint(url), "{url}");
        }
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escape_path("a b/ü#?.bin"), "a%20b/%C3%BC%23%3F.bin");
        assert_eq!(escape("refs/pr/1"), "refs%2Fpr%2F1");
    }

    #[test]
    fn lists_go_on_at_the_next_link() {
        let mut headers = HeaderMap::new();
        headers.insert("link", "</tree?cursor=x>; rel=\"next\"".parse().unwrap());
        let next = next_page(&headers, "https://hub.test/tree");
        assert_eq!(next.as_deref(), Some("https://hub.test/tree?cursor=x"));
    }
}

//! The gate before every door: who asks, which number the request has, and what is noted of it.
//! What a caller may do with which name, the doors ask [`Caller`] themselves.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use mmh_core::ErrorKind;
use tokio::time::Instant;

use crate::metrics::{Counted, Metrics, Way};
use crate::rate::{Client, Left, Rates};
use crate::reply::Refusal;
use crate::server::{Peer, Scheme};
use crate::token::{Caller, Role, Tokens};
use crate::trace::{Trace, Traces};
use crate::watch::{Note, Watch};

/// By which a request is found in the logs of both sides.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a client.
const REQUEST_ID_LEN_MAX: usize = 64;

/// Who is let in, and who hears of it; all doors of a server share one.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
    traces: Traces,
}

#[derive(Debug)]
struct Shared {
    tokens: Tokens,
    read_only: bool,
    watch: Arc<dyn Watch>,
    metrics: Arc<Metrics>,
    /// How many requests each client may send; `None` for any number.
    rates: Option<Rates>,
    /// Of this process, so that its numbers are no other's.
    start: u32,
    requests: AtomicU64,
}

impl Gate {
    /// A gate that knows those tokens; `read_only` lets nobody write, whatever tokens say.
    ///
    /// # Errors
    /// Unavailable without random bytes.
    pub fn new(tokens: Tokens, read_only: bool, watch: Arc<dyn Watch>) -> crate::Result<Self> {
        Self::with_rate(tokens, read_only, watch, None)
    }

    /// As [`Gate::new`], with so many requests a minute for each client: each token's name, and each
    /// address that asks without one.
    ///
    /// # Errors
    /// Unavailable without random bytes.
    pub fn with_rate(
        tokens: Tokens,
        read_only: bool,
        watch: Arc<dyn Watch>,
        rate: Option<NonZeroU32>,
    ) -> crate::Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                tokens,
                read_only,
                watch,
                metrics: Arc::default(),
                rates: rate.map(Rates::new),
                start: u32::from_le_bytes(crate::error::random()?),
                requests: AtomicU64::new(0),
            }),
            traces: Traces::default(),
        })
    }

    /// The same gate, whose requests are traced.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Puts the gate before a door's routes.
    pub(crate) fn before(&self, door: &'static str, router: Router) -> Router {
        router.layer(from_fn_with_state((self.clone(), door), admit))
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// What clients without a token may do.
    pub(crate) fn anonymous(&self) -> Role {
        self.shared.tokens.anonymous()
    }

    /// Whether anybody may change anything.
    pub(crate) fn may_write(&self) -> bool {
        !self.shared.read_only
    }

    /// Whether nobody reads without a token.
    pub(crate) fn is_private(&self) -> bool {
        self.anonymous() == Role::Nobody
    }

    /// Whether there are tokens, so that some callers can be told from others.
    pub(crate) fn has_tokens(&self) -> bool {
        !self.shared.tokens.is_empty()
    }

    /// Whether a caller whose role is `has` may do what takes `needed`.
    ///
    /// # Errors
    /// 401 for those who are not known, 403 for others.
    pub(crate) fn check(&self, caller: &Caller, has: Role, needed: Role) -> Result<(), Refusal> {
        let denied = |text: &str| Err(Refusal::new(ErrorKind::Denied, text));
        match (has, needed) {
            (has, needed) if has >= needed => match self.shared.read_only {
                true if needed > Role::Reader => denied("this server is read-only"),
                _ => Ok(()),
            },
            _ if !caller.known => Err(unknown("a token is needed (MMH_NODE_TOKEN, HF_TOKEN)")),
            (Role::Nobody, _) => denied("this token is for other names"),
            (_, Role::Admin) => denied("this takes a token with the role admin"),
            _ => denied("this token may only read"),
        }
    }

    /// What a client has left, if that is counted at this door: those that ask whether the server
    /// lives are not.
    fn take(&self, door: &str, caller: Option<&Caller>, peer: Option<Peer>) -> Option<Left> {
        let rates = self.shared.rates.as_ref().filter(|_| door != "health")?;
        let named = caller.filter(|caller| caller.known && !caller.name.is_empty());
        let client = match named {
            Some(caller) => Client::Token(Arc::clone(&caller.name)),
            None => Client::at(peer?.0.ip()),
        };
        Some(rates.take(&client, Instant::now()))
    }

    fn id(&self, headers: &HeaderMap) -> HeaderValue {
        let plain = |id: &&HeaderValue| {
            let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_".contains(b);
            (1..=REQUEST_ID_LEN_MAX).contains(&id.len()) && id.as_bytes().iter().all(is_plain)
        };
        if let Some(id) = headers.get(REQUEST_ID).filter(plain) {
            return id.clone();
        }
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:08x}-{number:x}", self.shared.start);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("-"))
    }
}

fn unknown(text: &str) -> Refusal {
    Refusal::with_status(StatusCode::UNAUTHORIZED, ErrorKind::Denied, text)
}

/// Lets in who is known, or anonymous, and tells the watcher how each request was answered.
async fn admit(
    State((gate, door)): State<(Gate, &'static str)>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let trace = gate.traces.begin(door, &request);
    let peer = request.extensions().get::<Peer>().copied();
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_owned(),
    );
    let id = gate.id(request.headers());
    let caller = recognise(&gate, &request);
    let left = gate.take(door, caller.as_ref().ok(), peer);
    let (token, mut response) = match caller {
        _ if left.is_some_and(|left| !left.is_within) => {
            let text = "too many requests; wait as long as Retry-After says";
            let status = StatusCode::TOO_MANY_REQUESTS;
            let refusal = Refusal::with_status(status, ErrorKind::Unavailable, text);
            (String::new(), refusal.into_response())
        }
        Ok(caller) => {
            let token = caller.name.to_string();
            request.extensions_mut().insert(caller);
            let metrics = &gate.shared.metrics;
            let request = request.map(|body| Counted::body(body, metrics, (door, Way::In), None));
            let answer = next.run(request);
            let response = match &trace {
                Some(trace) => trace.within(answer).await,
                None => answer.await,
            };
            (token, response)
        }
        Err(refusal) => (String::new(), refusal.into_response()),
    };
    if let Some(left) = left {
        left.tell(response.headers_mut());
    }
    let (took, status) = (began.elapsed(), response.status().as_u16());
    gate.metrics().answered(door, &method, status, took);
    if let Some(trace) = &trace {
        trace.answered(response.status());
    }
    if let Some(Peer(peer)) = peer {
        gate.shared.watch.note(&Note::Answered {
            peer,
            token,
            method,
            path,
            status,
            took,
            trace: trace.as_ref().map(Trace::id).unwrap_or_default(),
        });
    }
    let metrics = &gate.shared.metrics;
    let mut response = response.map(|body| Counted::body(body, metrics, (door, Way::Out), trace));
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn recognise(gate: &Gate, request: &Request) -> Result<Caller, Refusal> {
    let headers = request.headers();
    let header = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let caller = gate.shared.tokens.caller(header);
    let caller = caller.ok_or_else(|| unknown("nobody knows this token"))?;
    if !caller.known {
        no_web_page(request)?;
    }
    Ok(caller)
}

/// A web page that somebody looks at can send requests to this machine too. It has no token; it
/// names its own site as origin, or, if it gave its site this machine's address (DNS rebinding),
/// that site as host.
fn no_web_page(request: &Request) -> Result<(), Refusal> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    let denied = |text: &str| Err(Refusal::new(ErrorKind::Denied, text));
    let host = text(HOST).unwrap_or_default();
    if let Some(origin) = text(ORIGIN)
        && origin.split_once("://").map(|(_, at)| at) != Some(host)
    {
        return denied("a web page of another site needs a token");
    }
    // Over TLS a browser would have refused this server's certificate for that site.
    let secure = matches!(request.extensions().get(), Some(Scheme("https")));
    let peer = request.extensions().get::<Peer>().filter(|_| !secure);
    let local = peer.is_some_and(|Peer(peer)| peer.ip().is_loopback());
    if local && !is_local(host) {
        return denied("call this machine `localhost`, or show a token");
    }
    Ok(())
}

/// Whether a `Host` is this machine by a name that no site can have.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>().is_ok();
    host.is_empty() || address || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Silent;

    #[test]
    fn only_this_machine_is_local() {
        for local in [
            "",
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:80",
            "hub.localhost",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "example.com",
            "localhost.example.com:80",
            "localhost:x",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }

    fn asked(headers: &[(&str, &str)], peer: &str) -> bool {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        no_web_page(&request).is_ok()
    }

    #[test]
    fn web_pages_of_others_are_not_anonymous() {
        let (host, here) = (("host", "localhost:8080"), "127.0.0.1:5");
        assert!(asked(&[host], here));
        assert!(asked(&[host, ("origin", "http://localhost:8080")], here));
        assert!(!asked(&[host, ("origin", "http://example.com")], here));
        assert!(!asked(&[host, ("origin", "null")], here));
        assert!(!asked(&[("host", "example.com")], here), "rebinding");
        assert!(
            asked(&[("host", "example.com")], "192.0.2.1:5"),
            "its real name"
        );
    }

    #[test]
    fn requests_have_numbers_and_keep_good_ones() {
        let gate = Gate::new(Tokens::none(Role::Reader), false, Arc::new(Silent)).unwrap();
        let mut headers = HeaderMap::new();
        assert_ne!(gate.id(&headers), gate.id(&headers));
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc-1"));
        assert_eq!(gate.id(&headers), "abc-1");
        headers.insert(REQUEST_ID, HeaderValue::from_static("a b"));
        assert_ne!(gate.id(&headers), "a b");
    }

    #[test]
    fn what_is_needed_is_what_is_asked_for() {
        let gate = |read_only| Gate::new(Tokens::none(Role::Reader), read_only, Arc::new(Silent));
        let (open, fixed) = (gate(false).unwrap(), gate(true).unwrap());
        let caller = open.shared.tokens.caller(None).unwrap();
        let status = |gate: &Gate, has, needed| match gate.check(&caller, has, needed) {
            Ok(()) => 200,
            Err(refusal) => refusal.into_response().status().as_u16(),
        };
        assert_eq!(status(&open, Role::Reader, Role::Reader), 200);
        assert_eq!(status(&open, Role::Admin, Role::Writer), 200);
        assert_eq!(status(&open, Role::Reader, Role::Writer), 401);
        assert_eq!(status(&fixed, Role::Admin, Role::Reader), 200);
        assert_eq!(status(&fixed, Role::Admin, Role::Writer), 403);
    }
}

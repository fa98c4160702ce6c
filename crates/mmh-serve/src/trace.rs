//! Spans of requests, as OpenTelemetry has them: one for each request, and some for what it waits for.
//! Where they go is for whoever hands in the tracer; without one nothing is done.
//!
//! What enters a span is written here and nowhere else: methods, paths without queries, statuses,
//! addresses, lengths. No header and no query ever does, for those have the tokens and signatures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use opentelemetry::global::BoxedTracer;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    FutureExt as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceState,
};
use opentelemetry::{Context, ContextGuard, KeyValue};

use crate::metrics::{head, line};
use crate::server::{Peer, Scheme};

/// Methods that are told as they are.
const METHODS: [Method; 9] = [
    Method::CONNECT,
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
    Method::TRACE,
];
/// Bytes of a path that enter a span; spans wait in memory.
const PATH_LEN_MAX: usize = 1024;
/// Bytes of a client's `tracestate`; a longer one is left out, as W3C Trace Context, section 3.3.1.5,
/// lets everybody do.
const STATE_LEN_MAX: usize = 512;

/// What became of spans, counted by whoever exports them.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// A collector has taken them.
    pub exported: AtomicU64,
    /// No collector took them.
    pub failed: AtomicU64,
    /// Too many were waiting.
    pub dropped: AtomicU64,
}

/// Where spans of requests go; by default nowhere.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    on: Option<Arc<On>>,
}

struct On {
    tracer: BoxedTracer,
    propagator: Box<dyn TextMapPropagator + Send + Sync>,
    counts: Arc<SpanCounts>,
}

impl std::fmt::Debug for On {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("On")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Traces {
    /// Spans for that tracer; `propagator` finds in a request's header which span it belongs to.
    #[must_use]
    pub fn new(
        tracer: BoxedTracer,
        propagator: Box<dyn TextMapPropagator + Send + Sync>,
        counts: Arc<SpanCounts>,
    ) -> Self {
        let on = On {
            tracer,
            propagator,
            counts,
        };
        Self {
            on: Some(Arc::new(on)),
        }
    }

    /// Begins the span of a request.
    pub(crate) fn begin(&self, door: &'static str, request: &Request) -> Option<Trace> {
        let on = self.on.as_deref()?;
        let route = request.extensions().get::<MatchedPath>();
        let route = route.map(MatchedPath::as_str);
        let method = method_of(request.method());
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("url.path", shortened(request.uri().path()).to_owned()),
            KeyValue::new("mmh.door", door),
        ];
        if let Some(Scheme(scheme)) = request.extensions().get() {
            attributes.push(KeyValue::new("url.scheme", *scheme));
        }
        if let Some(Peer(peer)) = request.extensions().get() {
            let (address, port) = (peer.ip().to_string(), i64::from(peer.port()));
            attributes.push(KeyValue::new("network.peer.address", address));
            attributes.push(KeyValue::new("network.peer.port", port));
        }
        if let Some(route) = route {
            attributes.push(KeyValue::new("http.route", route.to_owned()));
        }
        let builder = SpanBuilder::from_name(name_of(method, route))
            .with_kind(SpanKind::Server)
            .with_attributes(attributes);
        let parent = parent(on, request.headers());
        let span = builder.start_with_context(&on.tracer, &parent);
        Some(Trace {
            context: parent.with_span(span),
            sent: 0,
        })
    }

    /// Says which route the request has that is worked on; not asked for one that nobody traces.
    pub(crate) fn routed(&self, method: &Method, route: impl FnOnce() -> String) {
        if self.on.is_none() {
            return;
        }
        Context::map_current(|context| {
            if context.span().is_recording() {
                let (method, route) = (method_of(method), route());
                context.span().update_name(name_of(method, Some(&route)));
                context
                    .span()
                    .set_attribute(KeyValue::new("http.route", route));
            }
        });
    }

    /// Begins a step of the request that is worked on; it ends when it is let go.
    pub(crate) fn step(&self, name: &'static str) -> Step {
        let context = self.on.as_deref().and_then(|on| {
            let parent = Context::current();
            // What is done for nobody's request is no part of a trace.
            if !parent.span().span_context().is_valid() {
                return None;
            }
            let span = SpanBuilder::from_name(name).start_with_context(&on.tracer, &parent);
            Some(parent.with_span(span))
        });
        Step { context, bytes: 0 }
    }

    /// The request that is worked on, for a thread that goes on with it.
    pub(crate) fn current(&self) -> Option<Context> {
        self.on.as_ref().map(|_| Context::current())
    }

    /// Lines about spans, as Prometheus reads them; none if nothing is traced.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let Some(on) = &self.on else {
            return out;
        };
        let name = "mmh_spans_total";
        head(&mut out, name, "counter", "Spans, by what became of them.");
        let counts = &on.counts;
        for (what, count) in [
            ("dropped", &counts.dropped),
            ("exported", &counts.exported),
            ("failed", &counts.failed),
        ] {
            let count = count.load(Ordering::Relaxed);
            line(&mut out, name, &format!("result=\"{what}\""), &count);
        }
        out
    }
}

/// The span of a request, which ends when this is dropped: with the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Trace {
    context: Context,
    sent: u64,
}

impl Trace {
    /// Does work as a part of the request.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        work.with_context(self.context.clone()).await
    }

    /// What is done until the guard is dropped is a part of the request.
    pub(crate) fn enter(&self) -> ContextGuard {
        self.context.clone().attach()
    }

    /// The id of the trace, in hex.
    pub(crate) fn id(&self) -> String {
        self.context.span().span_context().trace_id().to_string()
    }

    /// The head of the answer is known.
    pub(crate) fn answered(&self, status: StatusCode) {
        let span = self.context.span();
        let code = i64::from(status.as_u16());
        span.set_attribute(KeyValue::new("http.response.status_code", code));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", code.to_string()));
            span.set_status(Status::error(""));
        }
    }

    /// Bytes of the answer were handed on.
    pub(crate) fn sent(&mut self, len: u64) {
        self.sent += len;
    }

    /// The answer breaks off.
    pub(crate) fn broke(&self) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("error.type", "body"));
        span.set_status(Status::error("the body of the answer broke off"));
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let span = self.context.span();
        let sent = i64::try_from(self.sent).unwrap_or(i64::MAX);
        span.set_attribute(KeyValue::new("http.response.body.size", sent));
        span.end();
    }
}

/// A step of a request, such as one that waits for the store.
#[derive(Debug)]
pub(crate) struct Step {
    context: Option<Context>,
    bytes: u64,
}

impl Step {
    /// Bytes came out of it.
    pub(crate) fn gave(&mut self, len: u64) {
        self.bytes += len;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            if self.bytes > 0 {
                let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
                context
                    .span()
                    .set_attribute(KeyValue::new("mmh.bytes", bytes));
            }
            context.span().end();
        }
    }
}

/// A request's header, as propagators ask for it.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// The span that a request belongs to: the client's, or none.
fn parent(on: &On, headers: &HeaderMap) -> Context {
    // Nothing of what the thread did before.
    let context = on
        .propagator
        .extract_with_context(&Context::new(), &Headers(headers));
    let of = context.span().span_context().clone();
    if of.trace_state().header().len() <= STATE_LEN_MAX {
        return context;
    }
    let (trace, span, flags) = (of.trace_id(), of.span_id(), of.trace_flags());
    let bare = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.with_remote_span_context(bare)
}

fn method_of(method: &Method) -> &str {
    match METHODS.contains(method) {
        true => method.as_str(),
        // What clients may make up is no name of a span.
        false => "_OTHER",
    }
}

fn name_of(method: &str, route: Option<&str>) -> String {
    let method = if method == "_OTHER" { "HTTP" } else { method };
    match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

/// The beginning of a long path. Paths are ASCII.
fn shortened(path: &str) -> &str {
    path.get(..PATH_LEN_MAX).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

    use super::*;
    use crate::metrics::{Counted, Metrics, Way};

    /// Keeps what it is given.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(batch);
            Ok(())
        }
    }

    fn traces() -> (Traces, Kept) {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(kept.clone())
            .build();
        let tracer = BoxedTracer::new(Box::new(provider.tracer("test")));
        let propagator = Box::new(TraceContextPropagator::new());
        (Traces::new(tracer, propagator, Arc::default()), kept)
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    /// The spans that ended.
    fn ended(kept: &Kept) -> Vec<SpanData> {
        std::mem::take(&mut *kept.0.lock().unwrap())
    }

    fn value(span: &SpanData, key: &str) -> Option<String> {
        let mut attributes = span.attributes.iter();
        let found = attributes.find(|attribute| attribute.key.as_str() == key)?;
        Some(found.value.to_string())
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn a_request_and_its_steps_are_spans_of_the_clients_trace() {
        let (traces, kept) = traces();
        let asked = request("GET", "/a/b?token=secret", &[("traceparent", PARENT)]);
        let mut trace = traces.begin("hub", &asked).unwrap();
        assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
        trace
            .within(async {
                traces.routed(&Method::GET, || "/{repo}".to_owned());
                let mut step = traces.step("commit");
                step.gave(3);
            })
            .await;
        trace.answered(StatusCode::SERVICE_UNAVAILABLE);
        trace.sent(7);
        drop(trace);
        let spans = ended(&kept);
        let [step, span] = &spans[..] else {
            panic!("{spans:?}");
        };
        assert_eq!(
            (step.name.as_ref(), span.name.as_ref()),
            ("commit", "GET /{repo}")
        );
        assert_eq!(step.parent_span_id, span.span_context.span_id());
        assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(span.parent_span_is_remote);
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(value(step, "mmh.bytes").as_deref(), Some("3"));
        assert!(matches!(span.status, Status::Error { .. }), "{spans:?}");
        let wanted = [
            ("http.request.method", "GET"),
            ("url.path", "/a/b"),
            ("http.route", "/{repo}"),
            ("http.response.status_code", "503"),
            ("http.response.body.size", "7"),
            ("error.type", "503"),
            ("mmh.door", "hub"),
        ];
        for (key, wanted) in wanted {
            assert_eq!(value(span, key).as_deref(), Some(wanted), "{key}");
        }
        assert!(!format!("{spans:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_span_ends_with_the_body_that_broke_off() {
        let (traces, kept) = traces();
        let trace = traces.begin("hub", &request("GET", "/", &[])).unwrap();
        trace.answered(StatusCode::OK);
        let pieces = [Ok("12345"), Err(std::io::Error::other("damaged"))];
        let body = Body::from_stream(futures::stream::iter(pieces));
        let metrics = Arc::<Metrics>::default();
        let body = Counted::body(body, &metrics, ("hub", Way::Out), Some(trace));
        assert!(ended(&kept).is_empty());
        body.collect().await.unwrap_err();
        let spans = ended(&kept);
        assert!(matches!(spans[0].status, Status::Error { .. }), "{spans:?}");
        let of = |key| value(&spans[0], key);
        assert_eq!(of("http.response.status_code").as_deref(), Some("200"));
        assert_eq!(of("http.response.body.size").as_deref(), Some("5"));
        assert_eq!(of("error.type").as_deref(), Some("body"));
    }

    #[tokio::test]
    async fn what_clients_make_up_is_bounded() {
        let (traces, kept) = traces();
        let long = format!("a={}", "b".repeat(5000));
        let header = [("traceparent", PARENT), ("tracestate", long.as_str())];
        let path = format!("/{}", "x".repeat(5000));
        drop(traces.begin("hub", &request("BREW", &path, &header)));
        drop(traces.begin(
            "hub",
            &request("GET", "/", &[("traceparent", "00-junk-01")]),
        ));
        let spans = ended(&kept);
        assert_eq!(spans[0].name, "HTTP");
        assert_eq!(value(&spans[0], "url.path").unwrap().len(), PATH_LEN_MAX);
        assert_eq!(spans[0].span_context.trace_state().header(), "");
        assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(spans[1].parent_span_id.to_string(), "0000000000000000");
        // A client that is refused is no failure of the server.
        let trace = traces.begin("hub", &request("GET", "/", &[])).unwrap();
        trace.answered(StatusCode::NOT_FOUND);
        drop(trace);
        assert_eq!(ended(&kept)[0].status, Status::Unset);
    }

    #[tokio::test]
    async fn without_a_tracer_and_without_a_request_nothing_is_done() {
        let off = Traces::default();
        assert!(off.begin("hub", &request("GET", "/", &[])).is_none());
        off.routed(&Method::GET, || unreachable!("nobody traces"));
        assert!(off.step("commit").context.is_none() && off.current().is_none());
        assert_eq!(off.text(), "");
        let (traces, kept) = traces();
        drop(traces.step("commit"));
        assert!(ended(&kept).is_empty());
        let on = traces.on.as_ref().unwrap();
        on.counts.dropped.store(3, Ordering::Relaxed);
        let text = traces.text();
        assert!(
            text.contains("mmh_spans_total{result=\"dropped\"} 3\n"),
            "{text}"
        );
    }
}

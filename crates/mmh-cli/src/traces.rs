//! Traces of the server on their way to a collector: OTLP over HTTP, as the variables of
//! OpenTelemetry say. Nothing is traced unless one of them names a collector.
//!
//! A collector that is slow or gone holds nobody up: spans wait in a queue of bounded length, what finds
//! no room there is dropped, and both what was dropped and what failed is counted.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use mmh_serve::{SpanCounts, Traces};
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, InstrumentationScope, Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter as Otlp, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use serde_json::json;
use tokio::runtime::Handle;

use crate::config::Environment;
use crate::failure::Failure;
use crate::output::plain;

/// Where spans go; the second is where all of OpenTelemetry goes.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// How collectors are spoken to.
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
/// The one that is spoken here.
const PROTOCOL: &str = "http/protobuf";
/// How long a collector may take to answer, in milliseconds.
const TIMEOUTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];
const TIMEOUT_MS: u64 = 10_000;
/// How many spans wait at most.
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const QUEUE_LEN: usize = 2048;
/// For what still waits when the server stops.
const FLUSH: Duration = Duration::from_secs(3);

/// The way to a collector.
#[derive(Debug)]
pub(crate) struct Collector {
    provider: SdkTracerProvider,
}

impl Collector {
    /// Hands over what waits, as far as there is time.
    pub(crate) fn close(self) {
        // What did not arrive was counted, and said once.
        self.provider.shutdown_with_timeout(FLUSH).ok();
    }
}

/// The way to the collector that the environment names, if it names one.
///
/// # Errors
/// Invalid for what cannot be meant.
pub(crate) fn open(
    environment: &dyn Environment,
    runtime: &Handle,
    json: bool,
) -> Result<(Traces, Option<Collector>), Failure> {
    let off = || Ok((Traces::default(), None));
    let Some(endpoint) = wanted(environment)? else {
        return off();
    };
    let timeout = first(environment, TIMEOUTS).and_then(|(_, text)| text.parse().ok());
    let timeout = Duration::from_millis(timeout.unwrap_or(TIMEOUT_MS));
    let wrong = |why: String| Failure::invalid(format!("the collector {endpoint}: {why}"));
    let client = Arc::new(mmh_serve::outgoing(timeout).map_err(wrong)?);
    let exporter = Otlp::builder()
        .with_http()
        .with_http_client(OnRuntime {
            client,
            runtime: runtime.clone(),
        })
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let queue = environment.var(QUEUE).and_then(|text| text.parse().ok());
    let queue = queue.filter(|n| *n > 0).unwrap_or(QUEUE_LEN);
    let (counts, waiting) = (Arc::<SpanCounts>::default(), Arc::<AtomicUsize>::default());
    let exporter = Counted {
        inner: exporter,
        counts: Arc::clone(&counts),
        waiting: Arc::clone(&waiting),
        lost: Lost::new(endpoint, json),
    };
    let config = BatchConfigBuilder::default().with_max_queue_size(queue);
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config.build());
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_span_processor(Bounded {
            inner: batches.build(),
            counts: Arc::clone(&counts),
            waiting,
            most: queue,
        })
        .build();
    let scope = InstrumentationScope::builder("mmh").with_version(env!("CARGO_PKG_VERSION"));
    let tracer = BoxedTracer::new(Box::new(provider.tracer_with_scope(scope.build())));
    let propagator = Box::new(TraceContextPropagator::new());
    let traces = Traces::new(tracer, propagator, counts);
    Ok((traces, Some(Collector { provider })))
}

/// The first of two variables that is set.
fn first(
    environment: &dyn Environment,
    names: [&'static str; 2],
) -> Option<(&'static str, String)> {
    let mut set = names.into_iter();
    set.find_map(|name| Some((name, environment.var(name)?)))
}

/// The collector that is meant, without what may be secret in its address; `None` to trace nothing.
fn wanted(environment: &dyn Environment) -> Result<Option<String>, Failure> {
    let disabled = environment.var("OTEL_SDK_DISABLED");
    if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let Some((name, endpoint)) = first(environment, ENDPOINTS) else {
        return Ok(None);
    };
    match environment.var("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(_) => {
            let what = "OTEL_TRACES_EXPORTER: `otlp` and `none` are there";
            return Err(Failure::invalid(what.to_owned()));
        }
    }
    if let Some((name, protocol)) = first(environment, PROTOCOLS)
        && protocol != PROTOCOL
    {
        let what = format!("{name}: collectors are spoken to by {PROTOCOL} only");
        return Err(Failure::invalid(what));
    }
    let refused = || Failure::invalid(format!("{name} begins with http:// or https://"));
    let (scheme, rest) = endpoint.split_once("://").ok_or_else(refused)?;
    if !["http", "https"].contains(&scheme) {
        return Err(refused());
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    Ok(Some(format!("{scheme}://{host}")))
}

/// What the spans are of: `mmh`, if the environment says nothing else.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let name = said.get(&Key::from_static_str("service.name"));
    let named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let own = match named {
        true => Resource::builder(),
        false => Resource::builder().with_service_name("mmh"),
    };
    let version = Key::from_static_str("service.version");
    let own = match said.get(&version) {
        Some(_) => own,
        None => own.with_attribute(KeyValue::new(version, env!("CARGO_PKG_VERSION"))),
    };
    own.build()
}

/// A client of HTTP whose work is done by the runtime, whoever waits for it: batches are sent from a
/// thread of their own.
#[derive(Debug)]
struct OnRuntime {
    client: Arc<dyn HttpClient>,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.client);
        let sent = async move { client.send_bytes(request).await };
        self.runtime.spawn(sent).await?
    }
}

/// Batches with a queue that says what it drops.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    counts: Arc<SpanCounts>,
    /// Spans that were let in and not exported yet: at least as many as are in the queue.
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let more = |n: usize| (n < self.most).then_some(n + 1);
        let order = Ordering::Relaxed;
        match self.waiting.fetch_update(order, order, more) {
            Ok(_) => self.inner.on_end(span),
            Err(_) => {
                self.counts.dropped.fetch_add(1, order);
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter that counts, and says once that spans are lost.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    counts: Arc<SpanCounts>,
    waiting: Arc<AtomicUsize>,
    lost: Lost,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let n = batch.len();
        self.waiting.fetch_sub(n, Ordering::Relaxed);
        let exported = self.inner.export(batch).await;
        let count = match &exported {
            Ok(()) => &self.counts.exported,
            Err(error) => {
                self.lost.say(&error.to_string());
                &self.counts.failed
            }
        };
        count.fetch_add(n as u64, Ordering::Relaxed);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Says once that a collector does not take what it is sent.
#[derive(Debug)]
struct Lost {
    endpoint: String,
    json: bool,
    said: OnceLock<()>,
}

impl Lost {
    fn new(endpoint: String, json: bool) -> Self {
        Self {
            endpoint,
            json,
            said: OnceLock::new(),
        }
    }

    fn say(&self, why: &str) {
        if self.said.set(()).is_err() {
            return;
        }
        let line = match self.json {
            true => {
                let value = json!({ "spans_lost": { "collector": self.endpoint, "reason": why } });
                format!("{value}\n")
            }
            false => format!(
                "spans do not reach the collector {}: {}; that is said once, and mmh_spans_total in \
                 /metrics counts them\n",
                plain(&self.endpoint),
                plain(why)
            ),
        };
        // Nobody is left to hear that standard error is closed.
        anstream::stderr().write_all(line.as_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn wanted_of(pairs: &[(&str, &str)]) -> Result<Option<String>, Failure> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: BTreeMap<String, String> = pairs.iter().map(own).collect();
        wanted(&environment)
    }

    #[test]
    fn only_a_named_collector_is_wanted() {
        let general = (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://k:hush@c.example:4318/p",
        );
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/v1/traces");
        let found = |pairs: &[(&str, &str)]| wanted_of(pairs).unwrap();
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[general]).as_deref(), Some("https://c.example:4318"));
        assert_eq!(found(&[general, of_traces]).as_deref(), Some("http://t:1"));
        for off in [
            ("OTEL_SDK_DISABLED", "True"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert_eq!(found(&[general, off]), None, "{off:?}");
        }
        for wrong in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "t:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://t"),
        ] {
            assert!(wanted_of(&[general, wrong]).is_err(), "{wrong:?}");
        }
        // Of no use to say, but no reason to stop either.
        assert_eq!(found(&[("OTEL_TRACES_EXPORTER", "zipkin")]), None);
    }
}

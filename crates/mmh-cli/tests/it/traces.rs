//! Traces of `mmh serve`: what a collector receives, and what happens without one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::served::Server;
use crate::support::{Scratch, noise};

/// A request, as it came.
struct Came {
    head: String,
    body: Vec<u8>,
}

/// Takes batches of spans, as collectors do, on threads that end with the test.
struct Collector {
    endpoint: String,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let came = Arc::<Mutex<Vec<_>>>::default();
        let shared = Arc::clone(&came);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || collect(stream.unwrap(), &shared));
            }
        });
        Self { endpoint, came }
    }

    fn bodies(&self) -> Vec<ExportTraceServiceRequest> {
        let came = self.came.lock().unwrap();
        let decode = |came: &Came| ExportTraceServiceRequest::decode(&came.body[..]).unwrap();
        came.iter().map(decode).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.bodies().into_iter().flat_map(|b| b.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

/// Answers requests of one connection until it ends.
fn collect(stream: TcpStream, came: &Mutex<Vec<Came>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let lower = head.to_ascii_lowercase();
        let len = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; len.unwrap().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        came.lock().unwrap().push(Came { head, body });
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    }
}

/// The status of an answer, and its body.
fn ask(url: &str, more: &[&str]) -> (String, Vec<u8>) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "-w", "%{stderr}%{http_code}"]);
    let ran = curl.args(more).arg(url).output().unwrap();
    (String::from_utf8(ran.stderr).unwrap(), ran.stdout)
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.clone()?.value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const UNSAMPLED: &str = "1af7651916cd43dd8448eb211c80319c";

/// The span with that name, of all that came.
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut spans = spans.iter();
    let all: Vec<_> = spans.clone().map(|span| &span.name).collect();
    let found = spans.find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in {all:?}"))
}

#[test]
fn a_collector_receives_requests_without_their_secrets() {
    let scratch = Scratch::new();
    let bytes = noise(6_000_000, 1);
    scratch.write("in/w.bin", &bytes);
    scratch.write("in/config.json", b"{}");
    scratch.ok(&["add", "in", "--to", "acme/m"]);
    let token = scratch.ok(&["token", "write", "tokens.txt", "ana"]);
    let token = token.lines().next().unwrap().trim().to_owned();
    assert!(token.len() > 20, "{token}");
    let collector = Collector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        ("OTEL_SERVICE_NAME", "hub-of-tests"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let args = ["--doors", "hub", "--tokens", "tokens.txt", "--requests"];
    let server = Server::start_in(&scratch, &args, &variables);
    let bearer = format!("Authorization: Bearer {token}");
    let parent =
        |trace: &str, flags: &str| format!("traceparent: 00-{trace}-b7ad6b7169203331-{flags}");
    let sampled = parent(TRACE, "01");
    let url = format!("{}/acme/m/resolve/main/w.bin?token=hush-1", server.http);
    let (status, got) = ask(&url, &["-H", &bearer, "-H", &sampled]);
    assert_eq!(status, "200");
    assert!(got == bytes, "other bytes came back");
    let wrong = "Authorization: Bearer hf_hush2hush2hush2hush2";
    let refs = format!("{}/api/models/acme/m/refs", server.http);
    assert_eq!(ask(&refs, &["-H", wrong]).0, "401");
    let aside = parent(UNSAMPLED, "00");
    assert_eq!(ask(&refs, &["-H", &bearer, "-H", &aside]).0, "200");
    let commit = "{\"key\":\"header\",\"value\":{\"summary\":\"s\"}}\n\
                  {\"key\":\"file\",\"value\":{\"path\":\"a\",\"content\":\"aHVzaC0z\",\"encoding\":\"base64\"}}\n";
    let to = format!("{}/api/models/acme/m/commit/main", server.http);
    let (status, said) = ask(&to, &["-H", &bearer, "--data-binary", commit]);
    assert_eq!(status, "200", "{}", String::from_utf8_lossy(&said));
    // What a server cannot read it cannot send.
    std::fs::rename(scratch.path("repo/mmh/packs"), scratch.path("away")).unwrap();
    let lost = format!("{}/acme/m/raw/main/config.json", server.http);
    assert_eq!(ask(&lost, &["-H", &bearer]).0, "500");
    let (_, metrics) = ask(&format!("{}/metrics", server.http), &["-H", &bearer]);
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains("mmh_spans_total{result=\"dropped\"} 0\n"),
        "{metrics}"
    );
    let said = server.stop();

    let spans = collector.spans();
    let read = named(&spans, "GET /{id}/resolve/{revision}/{path}");
    assert_eq!(
        (hex(&read.trace_id), hex(&read.parent_span_id)),
        (TRACE.to_owned(), "b7ad6b7169203331".to_owned())
    );
    assert_eq!(read.kind, SpanKind::Server as i32);
    assert_eq!(
        read.status.as_ref().map_or(0, |status| status.code),
        StatusCode::Unset as i32
    );
    for (key, wanted) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", "6000000"),
        ("http.route", "/{id}/resolve/{revision}/{path}"),
        ("network.peer.address", "127.0.0.1"),
        ("url.path", "/acme/m/resolve/main/w.bin"),
        ("url.scheme", "http"),
    ] {
        assert_eq!(
            text(&read.attributes, key).as_deref(),
            Some(wanted),
            "{key}"
        );
    }
    let (find, decode) = (named(&spans, "find"), named(&spans, "decode"));
    for step in [find, decode] {
        assert_eq!(
            (&step.trace_id, &step.parent_span_id),
            (&read.trace_id, &read.span_id)
        );
        assert!(step.start_time_unix_nano >= read.start_time_unix_nano);
        assert!(step.end_time_unix_nano <= read.end_time_unix_nano);
    }
    assert_eq!(
        text(&decode.attributes, "mmh.bytes").as_deref(),
        Some("6000000")
    );
    // Who is refused, and who cannot be served, are spans too; only the latter is an error.
    let status_of = |name: &str, status: &str| {
        let with = |span: &&Span| {
            let has = text(&span.attributes, "http.response.status_code");
            span.name == name && has.as_deref() == Some(status)
        };
        let found = spans
            .iter()
            .find(with)
            .unwrap_or_else(|| panic!("{name} {status}"));
        found.status.as_ref().map_or(0, |status| status.code)
    };
    assert_eq!(status_of("GET", "401"), StatusCode::Unset as i32);
    let raw = "GET /{id}/raw/{revision}/{path}";
    assert_eq!(status_of(raw, "500"), StatusCode::Error as i32);
    let post = named(&spans, "POST /api/models/{id}/commit/{rest}");
    assert_eq!(named(&spans, "commit").parent_span_id, post.span_id);
    // A client that keeps no trace is not traced here either.
    assert!(spans.iter().all(|span| hex(&span.trace_id) != UNSAMPLED));

    // The log and the trace find each other.
    let lines = said
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let of_read = lines
        .filter(|line| line["request"]["trace"] == TRACE)
        .collect::<Vec<_>>();
    assert_eq!(of_read.len(), 1, "{said}");
    assert_eq!(of_read[0]["request"]["path"], "/acme/m/resolve/main/w.bin");

    let resources = collector
        .bodies()
        .into_iter()
        .flat_map(|b| b.resource_spans);
    for resource in resources.map(|spans| spans.resource.unwrap()) {
        let said = |key| text(&resource.attributes, key);
        assert_eq!(said("service.name").as_deref(), Some("hub-of-tests"));
        assert_eq!(said("deployment.environment.name").as_deref(), Some("test"));
        assert_eq!(
            said("service.version").as_deref(),
            Some(env!("CARGO_PKG_VERSION"))
        );
    }
    let came = collector.came.lock().unwrap();
    for Came { head, body } in &*came {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        for secret in [token.as_str(), "hush", "aHVzaC0z", "Bearer"] {
            let (secret, whole) = (secret.as_bytes(), [head.as_bytes(), body].concat());
            assert!(!whole.windows(secret.len()).any(|part| part == secret));
        }
    }
}

/// A collector that takes connections and never answers, or is not there at all.
#[test]
fn a_dead_collector_holds_nobody_up() {
    let scratch = Scratch::new();
    scratch.write("in/config.json", b"{}");
    scratch.ok(&["add", "in", "--to", "acme/m"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at =
        |listener: &TcpListener| format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let gone = at(&TcpListener::bind("127.0.0.1:0").unwrap());
    for (endpoint, lost) in [(at(&silent), "dropped"), (gone.clone(), "failed")] {
        let variables = [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
        ];
        let server = Server::start_in(&scratch, &["--doors", "hub"], &variables);
        let url = format!("{}/acme/m/resolve/main/config.json", server.http);
        let began = Instant::now();
        for _ in 0..30 {
            assert_eq!(ask(&url, &[]), ("200".to_owned(), b"{}".to_vec()));
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        let count = || {
            let (_, metrics) = ask(&format!("{}/metrics", server.http), &[]);
            let metrics = String::from_utf8(metrics).unwrap();
            let start = format!("mmh_spans_total{{result=\"{lost}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("{metrics}"))
                .parse::<u64>()
                .unwrap()
        };
        while count() == 0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "nothing was {lost}"
            );
        }
        let stopping = Instant::now();
        let said = server.stop();
        assert!(
            stopping.elapsed() < Duration::from_secs(10),
            "{:?}",
            stopping.elapsed()
        );
        let told = said
            .lines()
            .filter(|line| line.contains("spans_lost"))
            .count();
        assert_eq!(told, usize::from(endpoint == gone), "{said}");
    }
}

/// Without a collector there are no traces, and variables that mean nothing here are refused.
#[test]
fn without_a_collector_nothing_is_traced() {
    let scratch = Scratch::new();
    let server = Server::start_in(&scratch, &["--doors", "hub", "--requests"], &[]);
    let parent = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01");
    let (_, metrics) = ask(&format!("{}/metrics", server.http), &["-H", &parent]);
    assert!(
        !String::from_utf8(metrics)
            .unwrap()
            .contains("mmh_spans_total")
    );
    let said = server.stop();
    assert!(said.contains("/metrics") && !said.contains(TRACE), "{said}");
    let mut grpc = scratch.command(&["serve", "--doors", "hub", "--http", "127.0.0.1:0"]);
    grpc.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let ran = crate::support::ran(grpc.output().unwrap());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("http/protobuf"), "{ran:?}");
}

//! What the doors counted, as Prometheus reads it (its text format, version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::trace::Trace;

/// Upper bounds of the buckets of durations, in milliseconds.
const BUCKETS_MS: [u64; 8] = [1, 5, 25, 100, 250, 1000, 5000, 30_000];
/// Methods that have a line of their own.
const METHODS: [&str; 5] = ["DELETE", "GET", "HEAD", "POST", "PUT"];

/// Counts of all doors.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By door, method and status.
    requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    doors: BTreeMap<&'static str, Door>,
}

#[derive(Debug, Default)]
struct Door {
    /// How many took at most as long as each bucket says, but longer than the one before.
    buckets: [u64; BUCKETS_MS.len()],
    answers: u64,
    micros: u64,
    sent: u64,
    received: u64,
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Of a request.
    In,
    /// Of an answer.
    Out,
}

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered, after so long.
    pub(crate) fn answered(&self, door: &'static str, method: &str, status: u16, took: Duration) {
        // What clients may make up is no name of a line.
        let method = METHODS.iter().find(|known| **known == method);
        let method = method.copied().unwrap_or("other");
        let mut counts = self.counts();
        *counts.requests.entry((door, method, status)).or_default() += 1;
        let door = counts.doors.entry(door).or_default();
        let bucket = BUCKETS_MS
            .iter()
            .position(|ms| took <= Duration::from_millis(*ms));
        if let Some(bucket) = bucket.and_then(|at| door.buckets.get_mut(at)) {
            *bucket += 1;
        }
        door.answers += 1;
        door.micros += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }

    fn moved(&self, door: &'static str, way: Way, bytes: u64) {
        let mut counts = self.counts();
        let door = counts.doors.entry(door).or_default();
        match way {
            Way::In => door.received += bytes,
            Way::Out => door.sent += bytes,
        }
    }

    /// All lines about requests.
    pub(crate) fn text(&self) -> String {
        let counts = self.counts();
        let mut out = String::new();
        head(
            &mut out,
            "mmh_requests_total",
            "counter",
            "Requests that were answered.",
        );
        for ((door, method, status), n) in &counts.requests {
            let labels = format!("door=\"{door}\",method=\"{method}\",status=\"{status}\"");
            line(&mut out, "mmh_requests_total", &labels, n);
        }
        let of_doors = |out: &mut String, name: &str, help: &str, of: &dyn Fn(&Door) -> u64| {
            head(out, name, "counter", help);
            for (label, door) in &counts.doors {
                line(out, name, &format!("door=\"{label}\""), &of(door));
            }
        };
        let name = "mmh_received_bytes_total";
        let help = "Bytes of bodies that were received.";
        of_doors(&mut out, name, help, &|door| door.received);
        let name = "mmh_sent_bytes_total";
        let help = "Bytes of bodies that were sent.";
        of_doors(&mut out, name, help, &|door| door.sent);
        let name = "mmh_request_seconds";
        head(
            &mut out,
            name,
            "histogram",
            "Time from a request's head to its answer's.",
        );
        for (label, door) in &counts.doors {
            let (mut below, bucket) = (0, format!("{name}_bucket"));
            for (ms, n) in BUCKETS_MS.iter().zip(&door.buckets) {
                below += n;
                let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
                line(
                    &mut out,
                    &bucket,
                    &format!("door=\"{label}\",le=\"{seconds}\""),
                    &below,
                );
            }
            line(
                &mut out,
                &bucket,
                &format!("door=\"{label}\",le=\"+Inf\""),
                &door.answers,
            );
            let sum = format!("{}.{:06}", door.micros / 1_000_000, door.micros % 1_000_000);
            line(
                &mut out,
                &format!("{name}_sum"),
                &format!("door=\"{label}\""),
                &sum,
            );
            line(
                &mut out,
                &format!("{name}_count"),
                &format!("door=\"{label}\""),
                &door.answers,
            );
        }
        out
    }
}

/// What a figure is.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
}

/// A figure.
pub(crate) fn line(out: &mut String, name: &str, labels: &str, value: &dyn std::fmt::Display) {
    match labels {
        "" => writeln!(out, "{name} {value}").ok(),
        labels => writeln!(out, "{name}{{{labels}}} {value}").ok(),
    };
}

/// A body that counts what goes in or out.
#[derive(Debug)]
pub(crate) struct Counted {
    inner: Body,
    metrics: Arc<Metrics>,
    door: &'static str,
    way: Way,
    /// Ends with the body.
    trace: Option<Trace>,
}

impl Counted {
    pub(crate) fn body(
        inner: Body,
        metrics: &Arc<Metrics>,
        (door, way): (&'static str, Way),
        trace: Option<Trace>,
    ) -> Body {
        let metrics = Arc::clone(metrics);
        Body::new(Self {
            inner,
            metrics,
            door,
            way,
            trace,
        })
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let within = self.trace.as_ref().map(Trace::enter);
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        drop(within);
        let frame = ready!(polled);
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            let len = bytes.len() as u64;
            self.metrics.moved(self.door, self.way, len);
            if let Some(trace) = &mut self.trace {
                trace.sent(len);
            }
        }
        if let (Some(Err(_)), Some(trace)) = (&frame, &self.trace) {
            trace.broke();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn counts_are_told_as_prometheus_reads_them() {
        let metrics = Arc::new(Metrics::default());
        metrics.answered("hub", "GET", 200, Duration::from_micros(1500));
        metrics.answered("hub", "GET", 200, Duration::from_secs(60));
        metrics.answered("hub", "BREW", 404, Duration::ZERO);
        for (text, way) in [("12345", Way::Out), ("123", Way::In)] {
            let body = Counted::body(Body::from(text), &metrics, ("hub", way), None);
            assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
            assert_eq!(body.collect().await.unwrap().to_bytes(), text);
        }
        let text = metrics.text();
        for line in [
            "mmh_requests_total{door=\"hub\",method=\"GET\",status=\"200\"} 2",
            "mmh_requests_total{door=\"hub\",method=\"other\",status=\"404\"} 1",
            "mmh_sent_bytes_total{door=\"hub\"} 5",
            "mmh_received_bytes_total{door=\"hub\"} 3",
            "mmh_request_seconds_bucket{door=\"hub\",le=\"0.001\"} 1",
            "mmh_request_seconds_bucket{door=\"hub\",le=\"0.005\"} 2",
            "mmh_request_seconds_bucket{door=\"hub\",le=\"30.000\"} 2",
            "mmh_request_seconds_bucket{door=\"hub\",le=\"+Inf\"} 3",
            "mmh_request_seconds_sum{door=\"hub\"} 60.001500",
            "# TYPE mmh_request_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}

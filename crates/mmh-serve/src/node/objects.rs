//! Objects: read, list, create, replace, copy, delete.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, RANGE,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use mmh_core::ErrorKind;
use mmh_store::node::Arrival;
use mmh_store::node::wire::{self, Asked};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::{Node, Shared, parameter, room, served, text};
use crate::body::{Incoming, too_long};
use crate::reply::{Refusal, Reply};

/// Bytes that are read of an object, or written of a body, at once.
const WINDOW: u64 = 1 << 20;
/// What is not a pack and at most so long is put in one piece.
const ONE_PIECE: u64 = 8 << 20;
/// Names of one piece of a list.
const NAMES: usize = 256;

/// Reads an object or a range of it.
pub(super) async fn get(
    State(node): Shared,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
) -> Reply {
    let name = Path::from(served(&name)?);
    let len = node.backend.objects().head(&name).await?.size;
    let asked = asked(&headers)?;
    let range = match asked {
        Some(asked) => asked.of(len).ok_or_else(|| beyond(len))?,
        None => 0..len,
    };
    let body = Body::from_stream(windows(
        Arc::clone(node.backend.objects()),
        name,
        range.clone(),
    ));
    let response = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, range.end - range.start);
    let response = match asked {
        Some(_) => response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(CONTENT_RANGE, wire::content_range(&range, len)),
        None => response,
    };
    response.body(body).map_err(fault)
}

/// The range that is asked for, if one is. One of several parts is refused, not ignored.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<Asked>, Refusal> {
    if !headers.contains_key(RANGE) {
        return Ok(None);
    }
    let asked = text(headers, RANGE.as_str()).and_then(Asked::parse);
    let refused =
        || Refusal::invalid("a range is `bytes=first-last`, `bytes=first-` or `bytes=-n`");
    asked.map(Some).ok_or_else(refused)
}

/// Refuses a range behind the end.
pub(super) fn beyond(len: u64) -> Refusal {
    let text = format!("the object has {len} bytes");
    Refusal::with_status(StatusCode::RANGE_NOT_SATISFIABLE, ErrorKind::Invalid, text)
}

pub(super) fn fault(error: axum::http::Error) -> Refusal {
    Refusal::new(ErrorKind::Internal, error.to_string())
}

/// The bytes of an object in pieces, each read when it is wanted. An error breaks the answer off.
pub(super) fn windows(
    objects: Arc<dyn ObjectStore>,
    name: Path,
    range: Range<u64>,
) -> BoxStream<'static, object_store::Result<Bytes>> {
    let read = move |at: u64| {
        let (objects, name) = (Arc::clone(&objects), name.clone());
        let window = at..range.end.min(at + WINDOW);
        async move {
            if window.is_empty() {
                return Ok(None);
            }
            let bytes = objects.get_range(&name, window.clone()).await?;
            Ok(Some((bytes, window.end)))
        }
    };
    futures::stream::try_unfold(range.start, read).boxed()
}

/// Creates or replaces an object.
pub(super) async fn put(
    State(node): Shared,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let name = served(&name)?;
    let mode = match text(&headers, IF_NONE_MATCH.as_str()) {
        Some("*") => PutMode::Create,
        None if !headers.contains_key(IF_NONE_MATCH) && !headers.contains_key(IF_MATCH) => {
            PutMode::Overwrite
        }
        _ => {
            let text = "the only condition is `If-None-Match: *`";
            return Err(Refusal::new(ErrorKind::Unsupported, text));
        }
    };
    let len = match headers.contains_key(CONTENT_LENGTH) {
        true => text(&headers, CONTENT_LENGTH.as_str()).and_then(|len| len.parse::<u64>().ok()),
        false => None,
    };
    let whole = len.is_some_and(|len| len <= ONE_PIECE) && wire::pack_of(name).is_none();
    if mode == PutMode::Create || whole {
        in_one_piece(&node, name, (mode, len), body).await?;
    } else {
        staged(&node, name, len, body).await?;
    }
    Ok(StatusCode::CREATED.into_response())
}

async fn in_one_piece(
    node: &Node,
    name: &str,
    (mode, len): (PutMode, Option<u64>),
    body: Body,
) -> Result<(), Refusal> {
    let len_max = len.unwrap_or(wire::BODY_LEN_MAX);
    if len_max > wire::BODY_LEN_MAX {
        return Err(too_long(wire::BODY_LEN_MAX));
    }
    let _room = room(node, len_max).await?;
    let mut incoming = Incoming::new(body, &node.limits, len_max);
    let (bytes, _) = incoming.gather(usize::MAX).await?;
    let (path, create) = (Path::from(name), mode == PutMode::Create);
    let _step = node.gate.traces().step("put");
    let put = node
        .backend
        .objects()
        .put_opts(&path, bytes.into(), PutOptions::from(mode))
        .await;
    use object_store::Error as E;
    match put {
        Ok(_) => Ok(()),
        Err(E::AlreadyExists { .. } | E::Precondition { .. }) if create => {
            let status = StatusCode::PRECONDITION_FAILED;
            Err(Refusal::with_status(
                status,
                ErrorKind::Conflict,
                "the name is taken",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes in what is long or a pack by way of the staging area.
async fn staged(node: &Node, name: &str, len: Option<u64>, body: Body) -> Result<(), Refusal> {
    if len.is_some_and(|len| len > wire::OBJECT_LEN_MAX) {
        return Err(too_long(wire::OBJECT_LEN_MAX));
    }
    let mut incoming = Incoming::new(body, &node.limits, wire::OBJECT_LEN_MAX);
    let mut arrival = Arrival::begin(&node.backend, name)?;
    let some = usize::try_from(WINDOW).unwrap_or(usize::MAX);
    loop {
        let (bytes, ended) = incoming.gather(some).await?;
        let append = move || {
            let appended = arrival.append(&bytes);
            (arrival, appended)
        };
        let joined = tokio::task::spawn_blocking(append).await;
        let appended;
        (arrival, appended) =
            joined.map_err(|error| Refusal::new(ErrorKind::Internal, error.to_string()))?;
        appended?;
        if ended {
            break;
        }
    }
    let _step = node.gate.traces().step("publish");
    Ok(arrival.publish().await?)
}

/// Deletes an object.
pub(super) async fn delete(State(node): Shared, UrlPath(name): UrlPath<String>) -> Reply {
    let name = served(&name)?;
    node.backend.objects().delete(&Path::from(name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Copies an object, replacing what has the other name.
pub(super) async fn copy(State(node): Shared, RawQuery(query): RawQuery) -> Reply {
    let name = |key| {
        let name = parameter(query.as_deref(), key);
        let missing = || Refusal::invalid(format!("the parameter `{key}` is missing"));
        name.ok_or_else(missing).and_then(served)
    };
    let (from, to) = (Path::from(name("from")?), Path::from(name("to")?));
    node.backend.objects().copy(&from, &to).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists names and lengths below a prefix, in any order, and says how many there were.
pub(super) async fn list(State(node): Shared, RawQuery(query): RawQuery) -> Reply {
    let query = query.as_deref();
    let prefix = parameter(query, "prefix").unwrap_or("mmh");
    if !wire::is_listed(prefix) {
        return Err(Refusal::invalid("no node has objects below such a prefix"));
    }
    let prefix = Path::from(prefix);
    let listed = match parameter(query, "after") {
        Some(after) => {
            let after = Path::from(served(after)?);
            node.backend
                .objects()
                .list_with_offset(Some(&prefix), &after)
        }
        None => node.backend.objects().list(Some(&prefix)),
    };
    let shown = listed.try_filter(|meta| {
        let shown = wire::is_served(meta.location.as_ref());
        async move { shown }
    });
    let state = Some((shown.try_chunks(NAMES).boxed(), 0));
    let lines = futures::stream::try_unfold(state, |state| async move {
        let Some((mut listed, n)) = state else {
            return Ok(None);
        };
        match listed.next().await {
            Some(Ok(some)) => {
                let n = n + some.len() as u64;
                let line =
                    |meta: &object_store::ObjectMeta| wire::line(meta.location.as_ref(), meta.size);
                let text: String = some.iter().map(line).collect();
                Ok(Some((Bytes::from(text), Some((listed, n)))))
            }
            // What was listed before the error is not sent either: the list is not whole.
            Some(Err(error)) => Err(error.1),
            None => Ok(Some((Bytes::from(wire::last_line(n)), None))),
        }
    });
    let response = Response::builder().header(CONTENT_TYPE, "text/plain; charset=utf-8");
    response.body(Body::from_stream(lines)).map_err(fault)
}

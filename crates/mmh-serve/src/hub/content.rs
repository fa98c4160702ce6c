//! Files: whole or a range, decoded on the pool ahead of the socket, each piece compared with its
//! digest before it is sent.

use std::fs::File;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, LINK, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mmh_core::name::RepoName;
use mmh_core::range::RangeSpec;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, FileId};
use mmh_repo::{Piece, Repository};
use tokio::sync::oneshot;

use super::ahead::in_order;
use super::commits::{hex, oid};
use super::fail::{Fail, Outcome, REPO_COMMIT};
use super::mirror::{Fetch, Task};
use super::route::{Route, encode, id_of};
use super::view::Kept;
use super::{Ask, Hub, facts, xet};

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
/// By which a client of Xet asks for the file.
const XET_HASH: HeaderName = HeaderName::from_static("x-xet-hash");
/// The repository's own id of what is served, beside the shorter one.
const SNAPSHOT: HeaderName = HeaderName::from_static("x-mmh-snapshot");

/// Where the bytes of a file come from.
enum Source {
    Store(FileId),
    /// From another hub, as they come.
    Elsewhere(Fetch),
    /// Decoded, from the cache of this machine.
    Disk(Arc<File>),
    /// They are not wanted now.
    Nowhere,
}

/// What is to be done when a file was found, whoever waits for it.
enum After {
    /// It comes from another hub.
    Fetch(Box<Task>),
    /// It is to be in the cache.
    Keep(String, (FileId, u64)),
    /// It is to be known by Xet.
    Cut((RepoName, FileId, u64)),
}

/// A file that was found.
struct Entry {
    from: Source,
    size: u64,
    headers: HeaderMap,
    /// What is sent instead of the file.
    instead: Option<String>,
}

/// `GET` and `HEAD /{id}/resolve/{rev}/{path}`, and `raw` instead of `resolve`.
pub(crate) async fn file(hub: &Arc<Hub>, ask: Ask, route: Route) -> Outcome<Response> {
    let Route::File {
        repo: name,
        rev,
        path,
        raw,
    } = route
    else {
        return Err(Fail::no_route());
    };
    if !ask.method.is_safe() {
        return Err(Fail::no_route());
    }
    hub.may_read(&ask.caller, &name)?;
    let base = format!("{}/api/{}/{}", ask.base, name.family(), id_of(&name));
    let asks_head = ask.method != Method::GET;
    let from_start = match asked_range(&ask.headers) {
        None | Some(RangeSpec::From(0) | RangeSpec::Bounded(0, _)) => true,
        Some(_) => false,
    };
    let (entry, after) = hub
        .apart(move |hub| {
            let _step = hub.gate.traces().step("find");
            let mut after = Vec::new();
            let seen = hub.seen(&name, &rev)?;
            let commit = oid(&seen.found.id);
            let missing = || Fail::no_entry(&path, commit.clone());
            let node = hub.repo.node_in(&seen.found, &path)?.ok_or_else(missing)?;
            let (kept, size) = hub.kept(&seen, &path, &node)?.ok_or_else(missing)?;
            let Node::File { id, size: own, .. } = node else {
                return Err(missing());
            };
            let mut entry = Entry {
                from: Source::Store(id),
                size,
                headers: HeaderMap::new(),
                instead: None,
            };
            if let Kept::Large(sha256) = &kept
                && own != size
            {
                entry.from = match hub.committed(&name, &[*sha256])?.pop().flatten() {
                    Some((id, _)) => Source::Store(id),
                    None if raw || asks_head => Source::Nowhere,
                    None => {
                        let at = hub.commit_there(&seen.found)?;
                        let (fetch, fresh) = hub.fetch(&name, (&at, &path), (sha256, size))?;
                        after.extend(fresh.map(|task| After::Fetch(Box::new(task))));
                        Source::Elsewhere(fetch)
                    }
                };
            }
            let mut stored = None;
            if let Source::Store(id) = entry.from {
                stored = Some(id);
                let file = (id, size);
                let (cached, is_due) = match asks_head {
                    true => (None, false),
                    false => hub.on_disk(file, from_start)?,
                };
                after.extend(is_due.then(|| After::Keep(path.clone(), file)));
                entry.from = cached.map_or(Source::Store(id), Source::Disk);
            }
            entry.describe(&kept, raw);
            entry.say(REPO_COMMIT, &commit);
            entry.say(SNAPSHOT, &seen.found.id.to_string());
            let last = path.rsplit('/').next().unwrap_or_default();
            let shown = format!("inline; filename*=UTF-8''{}", encode(last));
            entry.say(CONTENT_DISPOSITION, &shown);
            if let (Kept::Large(_), Some(id), false) = (&kept, stored, raw) {
                match hub.xet_hash(&name, &id)? {
                    Some(hash) => {
                        entry.say(XET_HASH, &hash.to_string());
                        let auth = format!("<{base}/xet-read-token/{commit}>; rel=\"xet-auth\"");
                        entry.say(LINK, &auth);
                    }
                    None => after.push(After::Cut((name, id, size))),
                }
            }
            Ok((entry, after))
        })
        .await?;
    for after in after {
        match after {
            After::Fetch(task) => hub.run(*task),
            After::Keep(path, file) => hub.keep_on_disk(path, file),
            After::Cut(uncut) => xet::cut_later(hub, uncut),
        }
    }
    serve(hub, &ask, entry)
}

/// A file by its id, for those who know it by a digest.
pub(crate) fn by_id(
    hub: &Arc<Hub>,
    ask: &Ask,
    (id, size): (FileId, u64),
    etag: &str,
) -> Outcome<Response> {
    let mut entry = Entry {
        from: Source::Store(id),
        size,
        headers: HeaderMap::new(),
        instead: None,
    };
    entry.say(ETAG, &format!("\"{etag}\""));
    serve(hub, ask, entry)
}

impl Entry {
    fn say(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(name, value);
        }
    }

    fn describe(&mut self, kept: &Kept, raw: bool) {
        let etag = match kept {
            Kept::Regular(git) => hex(git),
            Kept::Large(sha256) if raw => {
                // What git itself has of it.
                let pointer = facts::pointer(sha256, self.size);
                let etag = hex(&facts::git_blob(pointer.as_bytes()));
                self.instead = Some(pointer);
                etag
            }
            Kept::Large(sha256) => {
                let etag = hex(sha256);
                self.say(LINKED_ETAG, &format!("\"{etag}\""));
                self.say(LINKED_SIZE, &self.size.to_string());
                etag
            }
        };
        self.say(ETAG, &format!("\"{etag}\""));
    }
}

fn serve(hub: &Hub, ask: &Ask, mut entry: Entry) -> Outcome<Response> {
    let size = match &entry.instead {
        Some(text) => text.len() as u64,
        None => entry.size,
    };
    entry.say(ACCEPT_RANGES, "bytes");
    // Nothing that lies here is a page or a script to a browser.
    entry.say(CONTENT_TYPE, "application/octet-stream");
    entry.say(X_CONTENT_TYPE_OPTIONS, "nosniff");
    entry.say(CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    let (mut status, mut range) = (StatusCode::OK, ByteRange::all(size));
    match asked_range(&ask.headers) {
        Some(spec) if ask.method == Method::GET => match spec.resolve(size) {
            Ok(part) => {
                let (start, end) = (part.start, part.end - 1);
                entry.say(CONTENT_RANGE, &format!("bytes {start}-{end}/{size}"));
                (status, range) = (StatusCode::PARTIAL_CONTENT, part);
            }
            Err(_) => {
                entry.say(CONTENT_RANGE, &format!("bytes */{size}"));
                let text = format!("the file has {size} bytes");
                let fail = Fail::new(StatusCode::RANGE_NOT_SATISFIABLE, text);
                let mut response = fail.into_response();
                entry.headers.remove(CONTENT_TYPE);
                response.headers_mut().extend(entry.headers);
                return Ok(response);
            }
        },
        _ => {}
    }
    entry.say(CONTENT_LENGTH, &range.len().to_string());
    let body = match (&ask.method, entry.instead) {
        (&Method::GET, Some(text)) => {
            let part = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            Body::from(Bytes::from(text).slice(part(range.start)..part(range.end)))
        }
        (&Method::GET, None) => match entry.from {
            Source::Store(id) => body(hub, id, range),
            Source::Elsewhere(fetch) => fetch.body(range),
            Source::Disk(file) => match &hub.disk {
                Some(disk) => disk.body(&file, range),
                None => Body::empty(),
            },
            Source::Nowhere => Body::empty(),
        },
        _ => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = entry.headers;
    Ok(response)
}

/// The one range that is asked for; several at once, and what cannot be read, are passed over, as
/// RFC 9110, section 14.2, lets a server do.
pub(crate) fn asked_range(headers: &HeaderMap) -> Option<RangeSpec> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes=")?.trim().parse().ok()
}

fn body(hub: &Hub, id: FileId, range: ByteRange) -> Body {
    Body::from_stream(stream_of(hub, id, range))
}

/// A range of a file. Some pieces are decoded ahead, by the pool; while a client takes nothing, no
/// thread waits for it.
pub(crate) fn stream_of(
    hub: &Hub,
    id: FileId,
    range: ByteRange,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static + use<> {
    let repo = &hub.repo;
    let share = hub.ahead.share(repo.threads());
    let listing = Arc::clone(repo);
    let windows = stream::try_unfold(range, move |range| {
        let repo = Arc::clone(&listing);
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let listed = tokio::task::spawn_blocking(move || repo.pieces(id, range)).await;
            let listed = listed.map_err(std::io::Error::other)?;
            let listed = listed.map_err(std::io::Error::other)?;
            let pieces = stream::iter(listed.pieces).map(Ok::<_, std::io::Error>);
            Ok::<_, std::io::Error>(Some((pieces, listed.rest)))
        }
    });
    let repo = Arc::clone(repo);
    let jobs = windows
        .try_flatten()
        .map_ok(move |piece| decode(Arc::clone(&repo), piece));
    let mut step = hub.gate.traces().step("decode");
    in_order(jobs, share).inspect_ok(move |piece| step.gave(piece.len() as u64))
}

async fn decode(repo: Arc<Repository>, piece: Piece) -> std::io::Result<Bytes> {
    let (tell, told) = oneshot::channel();
    let shared = Arc::clone(&repo);
    repo.spawn(move || {
        // Nobody waits for it any longer.
        if !tell.is_closed() {
            tell.send(piece.read(&shared)).ok();
        }
    });
    let read = told.await.map_err(std::io::Error::other)?;
    let piece = read.map_err(std::io::Error::other)?;
    Ok(piece.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::try_from(text).unwrap());
            asked_range(&headers)
        };
        assert_eq!(read("bytes=0-9"), Some(RangeSpec::Bounded(0, 9)));
        assert_eq!(read("bytes=5-"), Some(RangeSpec::From(5)));
        assert_eq!(read("bytes=-5"), Some(RangeSpec::Suffix(5)));
        for passed in [
            "bytes=0-1,3-4",
            "bytes=9-1",
            "items=0-1",
            "bytes=",
            "bytes=+1-2",
        ] {
            assert_eq!(read(passed), None, "{passed}");
        }
        assert_eq!(asked_range(&HeaderMap::new()), None);
    }
}

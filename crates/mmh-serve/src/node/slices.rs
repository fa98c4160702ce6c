//! Packs in slices, which whoever knows the pack's id can check as they come.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use mmh_core::PackId;
use mmh_store::node::slice::{NODE_LEN, Piece};
use mmh_store::node::wire::{self, Asked};
use mmh_store::node::{Outlined, outline};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::objects::{asked, beyond, fault};
use super::{Node, Shared, served};
use crate::reply::{Refusal, Reply};

/// Bytes of a pack that are read at once: several groups.
const WINDOW: u64 = 1 << 20;

/// Reads a range of a pack's content, with the nodes that prove it.
pub(super) async fn get(
    State(node): Shared,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
) -> Reply {
    let name = served(&name)?;
    let pack = wire::pack_of(name);
    let pack = pack.ok_or_else(|| Refusal::invalid("only packs come in slices"))?;
    let asked = asked(&headers)?.unwrap_or(Asked::From(0));
    let outlined = node.outlined(pack).await?;
    let range = asked
        .of(outlined.file_len)
        .ok_or_else(|| beyond(outlined.file_len))?;
    let content_len = outlined.outline.len();
    let within = range.start.min(content_len)..range.end.min(content_len);
    let pieces: Vec<Piece> = outlined.outline.slice(within).collect();
    let len: u64 = pieces.iter().map(piece_len).sum();
    let body = stream(Arc::clone(node.backend.objects()), Path::from(name), pieces);
    Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, len)
        .header(wire::CONTENT_LEN, content_len)
        .header(wire::OBJECT_LEN, outlined.file_len)
        .body(Body::from_stream(body))
        .map_err(fault)
}

impl Node {
    /// The outline of a pack, computed once and then remembered for a while.
    async fn outlined(&self, pack: PackId) -> Result<Arc<Outlined>, Refusal> {
        if let Some(known) = self.remembered(pack) {
            return Ok(known);
        }
        let _step = self.gate.traces().step("outline");
        let _alone = self.computing.acquire().await;
        // Another request may have computed it meanwhile.
        if let Some(known) = self.remembered(pack) {
            return Ok(known);
        }
        let outlined = outline(&self.backend, pack).await?;
        let mut outlines = self.outlines();
        outlines.len += outlined.outline.size();
        if let Some((_, old)) = outlines.cache.push(pack, Arc::clone(&outlined)) {
            outlines.len -= old.outline.size();
        }
        while outlines.len > self.limits.outlines_len {
            match outlines.cache.pop_lru() {
                Some((_, old)) => outlines.len -= old.outline.size(),
                None => break,
            }
        }
        Ok(outlined)
    }

    fn remembered(&self, pack: PackId) -> Option<Arc<Outlined>> {
        self.outlines().cache.get(&pack).map(Arc::clone)
    }
}

fn piece_len(piece: &Piece) -> u64 {
    match piece {
        Piece::Node(_) => NODE_LEN as u64,
        Piece::Group(bytes) => bytes.end - bytes.start,
    }
}

/// The pieces as they are sent, groups read several at once.
fn stream(
    objects: Arc<dyn ObjectStore>,
    name: Path,
    pieces: Vec<Piece>,
) -> BoxStream<'static, object_store::Result<Bytes>> {
    let end = pieces.iter().rev().find_map(|piece| match piece {
        Piece::Group(bytes) => Some(bytes.end),
        Piece::Node(_) => None,
    });
    let reader = Groups {
        objects,
        name,
        end: end.unwrap_or(0),
        window: 0..0,
        bytes: Bytes::new(),
    };
    let send = |(mut pieces, mut reader): (std::vec::IntoIter<Piece>, Groups)| async move {
        let bytes = match pieces.next() {
            None => return Ok(None),
            Some(Piece::Node(node)) => Bytes::copy_from_slice(&node),
            Some(Piece::Group(bytes)) => reader.read(bytes).await?,
        };
        Ok(Some((bytes, (pieces, reader))))
    };
    futures::stream::try_unfold((pieces.into_iter(), reader), send).boxed()
}

/// Reads groups in order by way of longer windows.
struct Groups {
    objects: Arc<dyn ObjectStore>,
    name: Path,
    /// Where the last one ends.
    end: u64,
    window: Range<u64>,
    bytes: Bytes,
}

impl Groups {
    async fn read(&mut self, group: Range<u64>) -> object_store::Result<Bytes> {
        if group.start < self.window.start || group.end > self.window.end {
            let end = self.end.min(group.start + WINDOW).max(group.end);
            self.window = group.start..end;
            self.bytes = self
                .objects
                .get_range(&self.name, self.window.clone())
                .await?;
        }
        let index = |at: u64| usize::try_from(at - self.window.start).unwrap_or(usize::MAX);
        let (first, last) = (index(group.start), index(group.end));
        // An engine that gave less breaks the answer off.
        let short = || object_store::Error::Generic {
            store: "node",
            source: "the engine gave less than was asked for".into(),
        };
        let fits = first <= last && last <= self.bytes.len();
        fits.then(|| self.bytes.slice(first..last))
            .ok_or_else(short)
    }
}

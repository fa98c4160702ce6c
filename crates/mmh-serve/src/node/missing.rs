//! Which of the chunks that a client names are not here.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use mmh_core::{ChunkId, Digest};
use mmh_store::node::wire::MISSING_MAX;

use super::objects::fault;
use super::{Shared, room};
use crate::body::Incoming;
use crate::reply::{Refusal, Reply};

/// Bytes of an id.
const ID_LEN: usize = 32;

/// Takes sorted ids, and answers with those that are missing, in the same order.
pub(super) async fn post(State(node): Shared, body: Body) -> Reply {
    let len_max = (MISSING_MAX * ID_LEN) as u64;
    let _room = room(&node, len_max).await?;
    let mut incoming = Incoming::new(body, &node.limits, len_max);
    let (bytes, _) = incoming.gather(usize::MAX).await?;
    let (ids, rest) = bytes.as_chunks::<ID_LEN>();
    if !rest.is_empty() || !ids.is_sorted_by(|one, next| one < next) {
        let text = "the body is ids of 32 bytes, sorted, each once";
        return Err(Refusal::invalid(text));
    }
    let id = |bytes: &[u8; ID_LEN]| ChunkId::from_digest(Digest::from_bytes(*bytes));
    let ids: Vec<ChunkId> = ids.iter().map(id).collect();
    let missing = node.store().await?.missing(&ids).await?;
    let bytes: Vec<u8> = missing.iter().flat_map(|id| *id.as_bytes()).collect();
    let response = Response::builder().header(CONTENT_TYPE, "application/octet-stream");
    response.body(Body::from(bytes)).map_err(fault)
}

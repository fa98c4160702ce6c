//! Reconciliation: symbols of the set of chunks, as many as the client cares to read.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use mmh_core::{Digest, ErrorKind};
use mmh_store::Store;
use mmh_store::node::sketch::{KEY_LEN, Sketcher};
use mmh_store::node::wire;
use tokio::sync::mpsc;

use super::objects::fault;
use super::{Node, Shared};
use crate::body::Incoming;
use crate::reply::{Refusal, Reply};

/// Symbols of the first piece: enough for about 60 digests.
const FIRST: usize = 128;
/// Each further piece has one for so many sent before: what is sent in vain is a part of the whole.
const SHARE: u64 = 2;
/// Most symbols of a piece, about 3 MB.
const PIECE_MAX: usize = 1 << 16;

/// Sends the number of chunks, then symbols.
pub(super) async fn post(State(node): Shared, body: Body) -> Reply {
    let mut incoming = Incoming::new(body, &node.limits, KEY_LEN as u64);
    let (key, _) = incoming.gather(KEY_LEN + 1).await?;
    let key: [u8; KEY_LEN] = key[..].try_into().map_err(|_| {
        let text = format!("the body is a key of {KEY_LEN} bytes");
        Refusal::invalid(text)
    })?;
    let set = {
        let _alone = node.computing.acquire().await;
        node.set().await?
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    // Ends when all is sent or nobody reads any more.
    drop(tokio::task::spawn_blocking(move || {
        send(&key, set, &sender)
    }));
    let pieces = futures::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), receiver))
    });
    let response = Response::builder().header(CONTENT_TYPE, "application/octet-stream");
    response
        .body(Body::from_stream(pieces.boxed()))
        .map_err(fault)
}

fn send(key: &[u8; KEY_LEN], set: Vec<Digest>, sender: &mpsc::Sender<Bytes>) {
    let n_set = set.len() as u64;
    let most = wire::symbols_max(n_set);
    let mut sketcher = Sketcher::new(key, set);
    let mut sent = 0;
    let mut piece = n_set.to_le_bytes().to_vec();
    while sent < most {
        let share = usize::try_from(sent / SHARE).unwrap_or(usize::MAX);
        let left = usize::try_from(most - sent).unwrap_or(usize::MAX);
        let n = share.clamp(FIRST, PIECE_MAX).min(left);
        for symbol in sketcher.next(n) {
            piece.extend_from_slice(&symbol.to_bytes());
        }
        sent += n as u64;
        if sender
            .blocking_send(std::mem::take(&mut piece).into())
            .is_err()
        {
            return;
        }
    }
}

impl Node {
    /// The chunks that the index names now.
    async fn set(&self) -> Result<Vec<Digest>, Refusal> {
        Ok(self.store().await?.chunk_set().await?)
    }

    /// The repository, open.
    pub(super) async fn store(&self) -> Result<&Store, Refusal> {
        let open = || Store::open(self.backend.clone(), self.keys.clone());
        let store = self.store.get_or_try_init(open).await;
        // Who is sealed and has no key here cannot tell; clients go by the index then.
        store.map_err(|error| {
            let text = format!("this node cannot read its index: {error}");
            Refusal::new(ErrorKind::Unsupported, text)
        })
    }
}

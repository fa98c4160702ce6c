//! Asking a node how its set of chunks differs from ours.

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mmh_core::ChunkId;
use object_store::Result;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response};

use super::{Node, corrupt, lost};
use crate::error::Error;
use crate::node::sketch::{Difference, KEY_LEN, Peeler, SYMBOL_LEN, Sketcher, Symbol};
use crate::node::wire;
use crate::sync::Peer;

/// What an exchange found.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The difference; `None` if the sets are so different that a list is shorter.
    pub difference: Option<Difference>,
    /// Bytes of symbols that were read.
    pub bytes: u64,
}

impl Node {
    /// One request: the node sends symbols until the difference is known.
    pub(crate) async fn difference(&self, key: [u8; KEY_LEN], ours: Sketcher) -> Result<Exchange> {
        let n_ours = ours.len() as u64;
        let request = || {
            let request = self.request(Method::POST, wire::RECONCILE);
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            request.body(key.to_vec())
        };
        let mut response = self.ask("mmh/index", request).await?;
        let mut buffer = BytesMut::new();
        let mut bytes = 0;
        while buffer.len() < 8 {
            match more(&mut response).await? {
                Some(some) => buffer.extend_from_slice(&some),
                None => return Err(corrupt("an answer without a set")),
            }
        }
        let n_theirs = buffer.split_to(8)[..]
            .try_into()
            .map_or(0, u64::from_le_bytes);
        let most = wire::symbols_max(n_theirs.max(n_ours).min(wire::SET_LEN_MAX as u64));
        let mut state = (Peeler::new(key), ours);
        let mut n_symbols = 0;
        while n_symbols < most {
            let symbols = split_symbols(&mut buffer);
            if symbols.is_empty() {
                match more(&mut response).await? {
                    Some(some) => buffer.extend_from_slice(&some),
                    None => break,
                }
                continue;
            }
            n_symbols += symbols.len() as u64;
            bytes += (symbols.len() * SYMBOL_LEN) as u64;
            // A look at each digest for each piece of an answer: pieces are merged to blocks.
            let known;
            (state, known) = peel(state, symbols).await?;
            if known {
                let difference = Some(state.0.finish());
                return Ok(Exchange { difference, bytes });
            }
        }
        let difference = None;
        Ok(Exchange { difference, bytes })
    }
}

impl Peer for Node {
    fn missing<'a>(
        &'a self,
        ids: &'a [ChunkId],
    ) -> BoxFuture<'a, crate::error::Result<Vec<ChunkId>>> {
        let ask = async move {
            let mut missing = Vec::new();
            for some in ids.chunks(wire::MISSING_MAX) {
                let answer = self.missing_of(some).await;
                missing.extend(answer.map_err(Error::engine(self))?);
            }
            Ok(missing)
        };
        ask.boxed()
    }
}

impl Node {
    /// Which of these sorted chunks the node lacks, in one request.
    async fn missing_of(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        let body: Bytes = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        let request = || {
            let request = self.request(Method::POST, wire::MISSING);
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            request.body(body.clone())
        };
        let mut response = self.ask("mmh/index", request).await?;
        let mut answer = BytesMut::new();
        while let Some(some) = more(&mut response).await? {
            answer.extend_from_slice(&some);
            if answer.len() > body.len() {
                return Err(corrupt("more chunks are missing than were asked after"));
            }
        }
        let (missing, rest) = answer.as_chunks::<32>();
        let mut asked = ids.iter();
        let named = |id: &[u8; 32]| asked.find(|asked| asked.as_bytes() == id).copied();
        let missing: Option<Vec<ChunkId>> = missing.iter().map(named).collect();
        let missing = missing.filter(|_| rest.is_empty());
        missing.ok_or_else(|| corrupt("chunks are missing that were not asked after"))
    }
}

type State = (Peeler, Sketcher);

/// Takes symbols in, on a thread for computing.
async fn peel((mut peeler, mut ours): State, theirs: Vec<Symbol>) -> Result<(State, bool)> {
    let job = move || {
        let here = ours.next(theirs.len());
        let known = peeler.push(&theirs, &here);
        ((peeler, ours), known)
    };
    let (state, known) = tokio::task::spawn_blocking(job).await?;
    Ok((state, known.map_err(corrupt)?))
}

/// The whole symbols of what came.
fn split_symbols(buffer: &mut BytesMut) -> Vec<Symbol> {
    let whole = buffer.split_to(buffer.len() / SYMBOL_LEN * SYMBOL_LEN);
    let symbols = whole.as_chunks::<SYMBOL_LEN>().0.iter();
    symbols.map(Symbol::from_bytes).collect()
}

async fn more(response: &mut Response) -> Result<Option<Bytes>> {
    response.chunk().await.map_err(|error| lost(&error))
}

//! The door for other nodes: a repository's objects as they are, slices of packs, reconciliation.
//!
//! It needs no key of a sealed repository, but for reconciliation, which reads the index.

mod missing;
mod objects;
mod reconcile;
mod slices;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{get, post};
use axum::{Extension, Router};
use lru::LruCache;
use mmh_core::{ErrorKind, PackId};
use mmh_store::node::{Outlined, wire};
use mmh_store::{Backend, OpenOptions, Store};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::gate::Gate;
use crate::limits::Limits;
use crate::reply::{Refusal, Reply};
use crate::token::{Caller, Role};

/// Units in which memory for bodies is given out.
const BODY_UNIT: u64 = 4 << 10;
/// Outlines that are remembered at most, however small.
const OUTLINES_MAX: NonZeroUsize = NonZeroUsize::new(1 << 16).expect("not zero");

/// How the repository is opened when its index is needed: with keys, if it is sealed.
pub type Keys = OpenOptions;

/// A repository as a node serves it.
#[derive(Debug)]
pub struct Node {
    backend: Backend,
    gate: Gate,
    limits: Limits,
    keys: Keys,
    /// Opened when it is first needed.
    store: OnceCell<Store>,
    /// Room for bodies in memory, in units of [`BODY_UNIT`].
    room: Arc<Semaphore>,
    /// Reconciliations and outlines, which compute, go one after the other.
    computing: Semaphore,
    outlines: Mutex<Outlines>,
}

#[derive(Debug)]
struct Outlines {
    cache: LruCache<PackId, Arc<Outlined>>,
    len: u64,
}

impl Node {
    /// A node over the repository in that place, which need not be one yet.
    #[must_use]
    pub fn new(backend: Backend, gate: &Gate, limits: Limits, keys: Keys) -> Self {
        let units = usize::try_from(limits.bodies_len.max(wire::BODY_LEN_MAX) / BODY_UNIT);
        let room = units
            .unwrap_or(Semaphore::MAX_PERMITS)
            .min(Semaphore::MAX_PERMITS);
        Self {
            backend,
            gate: gate.clone(),
            limits,
            keys,
            store: OnceCell::new(),
            room: Arc::new(Semaphore::new(room)),
            computing: Semaphore::new(1),
            outlines: Mutex::new(Outlines {
                cache: LruCache::new(OUTLINES_MAX),
                len: 0,
            }),
        }
    }

    /// What it answers.
    pub fn router(self) -> Router {
        let node = Arc::new(self);
        let objects = get(objects::get).put(objects::put).delete(objects::delete);
        let gate = node.gate.clone();
        let router = Router::new()
            .route(&format!("{}{{*name}}", wire::OBJECTS), objects)
            .route(&format!("{}{{*name}}", wire::SLICES), get(slices::get))
            .route(wire::LIST, get(objects::list))
            .route(wire::COPY, post(objects::copy))
            .route(wire::MISSING, post(missing::post))
            .route(wire::RECONCILE, post(reconcile::post))
            .layer(from_fn_with_state(Arc::clone(&node), admit))
            .with_state(node);
        gate.before("node", router)
    }

    fn outlines(&self) -> std::sync::MutexGuard<'_, Outlines> {
        self.outlines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room in memory for a body of so many bytes, for as long as the permit lives.
async fn room(node: &Node, len: u64) -> Result<SemaphorePermit<'_>, Refusal> {
    let units = u32::try_from(len.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX);
    let room = node.room.acquire_many(units).await;
    room.map_err(|_| Refusal::new(ErrorKind::Unavailable, "the node is stopping"))
}

/// The handlers' view of a node.
type Shared = State<Arc<Node>>;

/// Lets in who may: whoever sees objects as they are sees all of them, so tokens for some names
/// only do not count here.
async fn admit(
    State(node): Shared,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Reply {
    // These ask, though they are POSTs.
    let asks = [wire::MISSING, wire::RECONCILE].contains(&request.uri().path());
    let reads = request.method().is_safe() || asks;
    let needed = if reads { Role::Reader } else { Role::Writer };
    node.gate.check(&caller, caller.everywhere(), needed)?;
    Ok(next.run(request).await)
}

/// The object's name, if nodes serve it.
fn served(name: &str) -> Result<&str, Refusal> {
    let refused = || Refusal::invalid("no node has an object of such a name");
    wire::is_served(name).then_some(name).ok_or_else(refused)
}

/// A header's text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The value of a parameter of the query. Names of objects need no escapes.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_name() {
        let query = Some("from=mmh/a&to=mmh/b&x");
        assert_eq!(parameter(query, "to"), Some("mmh/b"));
        assert_eq!(parameter(query, "x"), None);
        assert_eq!(parameter(None, "to"), None);
    }

    #[test]
    fn names_outside_are_refused() {
        assert_eq!(served("mmh/config").unwrap(), "mmh/config");
        served("mmh/../../etc/passwd").unwrap_err();
        served("mmh/staging/x").unwrap_err();
    }
}

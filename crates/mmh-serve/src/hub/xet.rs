//! Xet (<https://huggingface.co/docs/xet>): tokens, xorbs and shards that come, and what of both is here
//! already; files by their hash, as ranges of xorbs.
//!
//! Clients remember for weeks which xorbs an address of a server has, and rely on it. So an address of
//! a name is changed when something of what was sent to it cannot be found any more.

mod download;
mod keep;
mod known;
mod later;
mod records;
mod shard;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use mmh_core::name::RepoName;
use mmh_core::tree::Node;
use mmh_core::{FileId, SnapshotId};
use mmh_repo::refs::Resolved;
use mmh_xet::{XORB_LEN_MAX, XetHash};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::commits::{hex, unhex};
use super::fail::{Fail, Outcome};
use super::route::id_of;
use super::uploads::{Address, of_xet};
use super::{Ask, Hub, json_of, whole_body};
use crate::token::{ANONYMOUS, Role};

pub(crate) use keep::Came;
pub(crate) use known::Index;
pub(crate) use later::{Later, cut_later};
pub(crate) use records::Records;

const CAS_URL: HeaderName = HeaderName::from_static("x-xet-cas-url");
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-xet-access-token");
const EXPIRATION: HeaderName = HeaderName::from_static("x-xet-token-expiration");

/// After that a client asks for a token again.
const TOKEN_KEPT: Duration = Duration::from_secs(15 * 60);
/// Most bytes of a xorb as it is sent: all raw, with the heads of chunks and a footer.
const XORB_BODY_MAX: u64 = XORB_LEN_MAX as u64 + (1 << 20);
/// Xorbs, and shards, that are in memory at the same time.
const AT_ONCE: usize = 4;
/// How often it is looked which files of a name are gone.
const SWEPT_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Bounds what is in memory.
#[derive(Debug)]
pub(crate) struct AtOnce {
    xorbs: Semaphore,
    shards: Arc<Semaphore>,
    /// When each name's records were looked through.
    swept: Mutex<BTreeMap<RepoName, u64>>,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self {
            xorbs: Semaphore::new(AT_ONCE),
            shards: Arc::new(Semaphore::new(AT_ONCE)),
            swept: Mutex::default(),
        }
    }
}

impl AtOnce {
    async fn shard(&self) -> Outcome<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.shards).acquire_owned().await;
        place.map_err(|error| Fail::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
    }

    /// Whether a name's turn has come; it has not again before it is due again.
    fn is_due(&self, name: &RepoName, now_ms: u64) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let every = u64::try_from(SWEPT_EVERY.as_millis()).unwrap_or(u64::MAX);
        swept.retain(|_, at| at.saturating_add(every) > now_ms);
        let is_due = !swept.contains_key(name);
        if is_due {
            swept.insert(name.clone(), now_ms);
        }
        is_due
    }
}

/// The place of a name's xorbs, and of all else that the protocol has, as clients call it.
fn address_url(ask: &Ask, name: &RepoName, address: &Address) -> String {
    let (base, family, id) = (&ask.base, name.family(), id_of(name));
    format!("{base}/api/{family}/{id}/xet/{}", hex(address))
}

/// `GET /api/{family}/{id}/xet-{read|write}-token/{rev}`: where xorbs are, and with which token. It is
/// the one that the caller has, so it may what that one may, and no longer.
pub(crate) async fn token(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, rev): (RepoName, String),
    role: Role,
) -> Outcome<Response> {
    hub.may(&ask.caller, &name, role)?;
    if role == Role::Writer {
        // Nobody waits for it.
        let hub = Arc::clone(hub);
        tokio::task::spawn_blocking(move || hub.sweep_next());
    }
    hub.apart(move |hub| {
        if role == Role::Reader {
            hub.resolved(&name, &rev)?;
        } else if hub.repo.tips(&name)?.is_empty() {
            return Err(Fail::no_repo());
        } else {
            hub.uploads.end_xorbs()?;
        }
        let url = address_url(&ask, &name, &hub.uploads.address(&name)?);
        let until = Duration::from_millis(hub.uploads.now_ms()) + TOKEN_KEPT;
        let until = until.as_secs();
        let own = ask.headers.get(AUTHORIZATION).filter(|_| ask.caller.known);
        let own = own.and_then(|header| header.to_str().ok()?.split_once(' '));
        let own = own.map_or(ANONYMOUS, |(_, token)| token.trim());
        let said = json!({ "casUrl": url, "exp": until, "accessToken": own });
        let mut response = json_of(&said);
        for (header, value) in [
            (CAS_URL, url.as_str()),
            (ACCESS_TOKEN, own),
            (EXPIRATION, &until.to_string()),
            (CACHE_CONTROL, "no-store"),
        ] {
            let value = HeaderValue::try_from(value);
            let value = value.map_err(|_| Fail::invalid("this token fits into no header"))?;
            response.headers_mut().insert(header, value);
        }
        Ok(response)
    })
    .await
}

/// What comes to the address of a token.
pub(crate) async fn door(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, rest): (RepoName, Vec<String>),
    body: Body,
) -> Outcome<Response> {
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let (address, rest) = rest.split_first().ok_or_else(Fail::no_route)?;
    let address = unhex::<16>(address).ok_or_else(Fail::no_route)?;
    let hash_of = |text: &str| text.parse::<XetHash>().map_err(of_xet);
    let version = |text: &str| if text == "v1" { 1 } else { 2 };
    match (&ask.method, rest) {
        (&Method::GET, [v @ ("v1" | "v2"), "reconstructions", hash]) => {
            let wanted = (version(v), hash_of(hash)?);
            download::reconstruction(hub, ask, (name, address), wanted).await
        }
        (&Method::GET | &Method::HEAD, ["xorbs", hash]) => {
            let hash = hash_of(hash)?;
            download::xorb(hub, ask, name, hash).await
        }
        // The specification has another prefix than the client.
        (&Method::GET, ["v1", "chunks", "default" | "default-merkledb", hash]) => {
            let hash = hash_of(hash)?;
            download::chunk(hub, ask, name, hash).await
        }
        (&Method::POST, ["v1", "xorbs", "default" | "default-merkledb", hash]) => {
            hub.may(&ask.caller, &name, Role::Writer)?;
            xorb(hub, name, hash_of(hash)?, body).await
        }
        (&Method::POST, [v @ ("v1" | "v2"), "shards"]) => {
            hub.may(&ask.caller, &name, Role::Writer)?;
            let whose = (ask, name, address);
            match version(v) {
                1 => shard::v1(hub, whose, body).await,
                _ => shard::v2(hub, whose, body).await,
            }
        }
        (&Method::POST, ["v1", "telemetry"]) => Ok(StatusCode::OK.into_response()),
        _ => Err(Fail::no_route()),
    }
}

async fn xorb(hub: &Arc<Hub>, name: RepoName, hash: XetHash, body: Body) -> Outcome<Response> {
    let place = hub.at_once.xorbs.acquire().await;
    let _place =
        place.map_err(|error| Fail::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let bytes = whole_body(hub, body, XORB_BODY_MAX).await?;
    let put = move |hub: &Hub| hub.uploads.xorbs(&name).put(&bytes, hash);
    let is_new = hub.apart(put).await?;
    Ok(json_of(&json!({ "was_inserted": is_new })))
}

impl Hub {
    /// The hash by which a file can be fetched, if it can.
    pub(crate) fn xet_hash(&self, name: &RepoName, file: &FileId) -> Outcome<Option<XetHash>> {
        match Records::of(&self.repo, name)? {
            Some(records) => Ok(records.hash_of(file)?),
            None => Ok(None),
        }
    }

    /// Remembers which chunks the large files of a commit are made of, and lets go of what was sent
    /// for them. Without it they could not be fetched by Xet until they are read for that: nothing to
    /// refuse a commit for that is done.
    pub(crate) fn keep_records(
        &self,
        name: &RepoName,
        id: &SnapshotId,
        large: &[(&str, [u8; 32])],
    ) {
        let Ok(snapshot) = self.repo.snapshot(*id) else {
            return;
        };
        let found = Resolved {
            id: *id,
            snapshot,
            by: None,
        };
        let came = |(path, sha256): &(&str, [u8; 32])| {
            let list = self.uploads.leaves(name, sha256);
            let node = self.repo.node_in(&found, path).ok()??;
            let Node::File { id: file, size, .. } = node else {
                return None;
            };
            (list.exists() && size > 0).then_some(Came { file, size, list })
        };
        let came: Vec<Came> = large.iter().filter_map(came).collect();
        let xorbs = self.uploads.xorbs(name);
        let n_chunks = |hash: &XetHash| xorbs.n_chunks(hash);
        let now_ms = self.uploads.now_ms();
        if !came.is_empty()
            && let Ok(whole) = keep::keep(&self.repo, name, &came, &n_chunks, now_ms)
        {
            whole.iter().for_each(|hash| xorbs.done(hash));
        }
    }

    /// Lets go of records of files that were gone long enough: of one name, whose turn it is.
    fn sweep_next(&self) {
        let now_ms = self.uploads.now_ms();
        let Ok(refs) = self.repo.refs() else {
            return;
        };
        let mut notes = refs.refs.keys().filter(|name| name.is_note(records::DOOR));
        let due = notes.find(|note| self.at_once.is_due(&note.repo, now_ms));
        if let Some(note) = due.filter(|_| self.gate.may_write()) {
            // What cannot be done now is done another day.
            keep::sweep(&self.repo, &note.repo, now_ms).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_turn_once_a_day() {
        let at_once = AtOnce::default();
        let [a, b] = ["acme/a", "acme/b"].map(|name| name.parse::<RepoName>().unwrap());
        let day = u64::try_from(SWEPT_EVERY.as_millis()).unwrap();
        assert!(at_once.is_due(&a, 5) && at_once.is_due(&b, 6));
        for at in [5, day, day + 4] {
            assert!(!at_once.is_due(&a, at), "{at}");
        }
        assert!(at_once.is_due(&a, day + 5) && !at_once.is_due(&b, day + 5));
        assert!(at_once.is_due(&b, day + 6));
    }
}

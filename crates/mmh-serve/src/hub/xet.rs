//! Uploads by the Xet protocol (<https://huggingface.co/docs/xet>): a token, xorbs, and shards that
//! say which files they are. Each file is put together at once and is then an upload like any other.
//!
//! Clients remember for weeks which xorbs an address of a server has, and rely on it. So every token
//! comes with an address of its own, whose xorbs are there for as long as the upload goes on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use mmh_core::name::RepoName;
use mmh_xet::{SHARD_LEN_MAX, Shard, XORB_LEN_MAX, XetHash};
use serde_json::json;
use tokio::sync::Semaphore;

use super::commits::{hex, unhex};
use super::fail::{Fail, Outcome};
use super::route::id_of;
use super::uploads::of_xet;
use super::{Ask, Hub, json_of, whole_body};
use crate::error::random;
use crate::token::Role;

const CAS_URL: HeaderName = HeaderName::from_static("x-xet-cas-url");
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-xet-access-token");
const EXPIRATION: HeaderName = HeaderName::from_static("x-xet-token-expiration");

/// After that a client asks for a token again. It uses the address of the first one for all that it
/// began by then, so this is less than sessions are kept.
const TOKEN_KEPT: Duration = Duration::from_secs(15 * 60);
/// Most bytes of a xorb as it is sent: all raw, with the heads of chunks and a footer.
const XORB_BODY_MAX: u64 = XORB_LEN_MAX as u64 + (1 << 20);
/// Xorbs, and shards, that are in memory at the same time.
const AT_ONCE: usize = 4;

/// Bounds what is in memory.
#[derive(Debug)]
pub(crate) struct AtOnce {
    xorbs: Semaphore,
    shards: Semaphore,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self {
            xorbs: Semaphore::new(AT_ONCE),
            shards: Semaphore::new(AT_ONCE),
        }
    }
}

/// `GET /api/{family}/{id}/xet-write-token/{rev}`: where xorbs go, and with which token. It is the
/// one that the caller has, so it may what that one may, and no longer.
pub(crate) async fn token(hub: &Arc<Hub>, ask: Ask, name: RepoName) -> Outcome<Response> {
    hub.may(&ask.caller, &name, Role::Writer)?;
    hub.apart(move |hub| {
        if hub.repo.tips(&name)?.is_empty() {
            return Err(Fail::no_repo());
        }
        hub.uploads.end_sessions()?;
        let session = random::<16>();
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let session = session.map_err(|error| Fail::new(unavailable, error.to_string()))?;
        let (base, family, id) = (&ask.base, name.family(), id_of(&name));
        let url = format!("{base}/api/{family}/{id}/xet/{}", hex(&session));
        let until = Duration::from_millis(hub.uploads.now_ms()) + TOKEN_KEPT;
        let until = until.as_secs();
        let own = ask.headers.get(AUTHORIZATION).filter(|_| ask.caller.known);
        let own = own.and_then(|header| header.to_str().ok()?.split_once(' '));
        let own = own.map_or("anonymous", |(_, token)| token.trim());
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
    hub.may(&ask.caller, &name, Role::Writer)?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let (session, rest) = rest.split_first().ok_or_else(Fail::no_route)?;
    let session = unhex::<16>(session).ok_or_else(Fail::no_route)?;
    match (&ask.method, rest) {
        // The specification has another prefix than the client.
        (&Method::POST, ["v1", "xorbs", "default" | "default-merkledb", hash]) => {
            let hash = hash.parse::<XetHash>().map_err(of_xet)?;
            xorb(hub, (name, session), hash, body).await
        }
        (&Method::POST, ["v1", "shards"]) => shard(hub, (name, session), body).await,
        (&Method::POST, ["v1", "telemetry"]) => Ok(StatusCode::OK.into_response()),
        // Among others: chunks of other files, which is answered with "not known".
        _ => Err(Fail::no_route()),
    }
}

async fn xorb(
    hub: &Arc<Hub>,
    (name, session): (RepoName, [u8; 16]),
    hash: XetHash,
    body: Body,
) -> Outcome<Response> {
    let _place = place(&hub.at_once.xorbs).await?;
    let bytes = whole_body(hub, body, XORB_BODY_MAX).await?;
    let put = move |hub: &Hub| hub.uploads.session(&name, &session).put(&bytes, hash);
    let is_new = hub.apart(put).await?;
    Ok(json_of(&json!({ "was_inserted": is_new })))
}

async fn shard(
    hub: &Arc<Hub>,
    (name, session): (RepoName, [u8; 16]),
    body: Body,
) -> Outcome<Response> {
    let _place = place(&hub.at_once.shards).await?;
    let bytes = whole_body(hub, body, SHARD_LEN_MAX as u64).await?;
    hub.apart(move |hub| {
        let shard = Shard::read(&bytes).map_err(of_xet)?;
        drop(bytes);
        for xorb in &shard.xorbs {
            xorb.verify().map_err(of_xet)?;
        }
        let session = hub.uploads.session(&name, &session);
        shard
            .files
            .iter()
            .try_for_each(|file| session.assemble(file))
    })
    .await?;
    Ok(json_of(&json!({ "result": 1 })))
}

async fn place(of: &Semaphore) -> Outcome<tokio::sync::SemaphorePermit<'_>> {
    let place = of.acquire().await;
    place.map_err(|error| Fail::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

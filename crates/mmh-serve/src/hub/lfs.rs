//! Large files on their way in and out as git-lfs has it (its batch API, transfer `basic`), which
//! clients of hubs use too: each file is asked for or offered by its SHA-256.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use mmh_core::FileId;
use mmh_core::name::RepoName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::commits::unhex;
use super::fail::{Fail, Outcome};
use super::route::page_of;
use super::{Ask, Hub, content, json_body, json_of};
use crate::body::Incoming;
use crate::token::Role;

/// Most files of a batch.
const OBJECTS_MAX: usize = 1000;
/// Bytes of an upload that are written at once.
const PIECE_LEN: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Batch {
    operation: String,
    #[serde(default)]
    transfers: Vec<String>,
    objects: Vec<Object>,
    #[serde(default)]
    hash_algo: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Object {
    oid: String,
    size: u64,
}

/// A name without the name's own part: what is asked of a name's large files.
pub(crate) async fn door(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, what): (RepoName, String),
    body: Body,
) -> Outcome<Response> {
    match (what.as_str(), &ask.method) {
        ("batch", &Method::POST) => batch(hub, ask, name, body).await,
        ("verify", &Method::POST) => verify(hub, ask, name, body).await,
        (oid, method) => {
            let sha256 = unhex::<32>(oid).ok_or_else(Fail::no_route)?;
            match *method {
                Method::PUT => put(hub, ask, (name, sha256), body).await,
                _ if method.is_safe() => get(hub, ask, name, sha256).await,
                _ => Err(Fail::no_route()),
            }
        }
    }
}

async fn batch(hub: &Arc<Hub>, ask: Ask, name: RepoName, body: Body) -> Outcome<Response> {
    hub.may_read(&ask.caller, &name)?;
    let batch: Batch = json_body(hub, body).await?;
    if batch.hash_algo.is_some_and(|algo| algo != "sha256") {
        return Err(Fail::invalid("files are known by sha256 here"));
    }
    if batch.objects.len() > OBJECTS_MAX {
        let text = format!("more than {OBJECTS_MAX} files; ask in parts");
        return Err(Fail::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    if !(batch.transfers.is_empty() || batch.transfers.iter().any(|t| t == "basic")) {
        return Err(Fail::invalid("only the transfer `basic` is spoken here"));
    }
    let uploads = match batch.operation.as_str() {
        "upload" => true,
        "download" => false,
        _ => return Err(Fail::invalid("the operation is upload or download")),
    };
    if uploads {
        hub.may(&ask.caller, &name, Role::Writer)?;
    }
    let answer = hub.apart(move |hub| {
        if hub.repo.tips(&name)?.is_empty() {
            return Err(Fail::no_repo(name.short()));
        }
        let digests = batch.objects.iter().map(|object| unhex::<32>(&object.oid));
        let digests = digests.collect::<Option<Vec<_>>>();
        let digests = digests.ok_or_else(|| Fail::invalid("an oid is no sha256"))?;
        let there = hub.committed(&name, &digests)?;
        let mut objects = Vec::new();
        for ((object, sha256), there) in batch.objects.iter().zip(&digests).zip(there) {
            let there = there.is_some_and(|(_, size)| size == object.size);
            let came = || {
                hub.uploads
                    .find(&name, sha256)
                    .is_some_and(|(_, n)| n == object.size)
            };
            let mut said = json!({ "oid": object.oid, "size": object.size });
            match uploads {
                true if !there && !came() => said["actions"] = upload(hub, &ask, &name, object),
                false if there => {
                    let href = format!("{}/{}", place(&ask, &name), object.oid);
                    said["actions"] = json!({ "download": { "href": href } });
                }
                false => said["error"] = json!({ "code": 404, "message": "there is none" }),
                true => {}
            }
            objects.push(said);
        }
        Ok(json_of(&json!({
            "transfer": "basic", "objects": objects, "hash_algo": "sha256",
        })))
    });
    let mut answer = answer.await?;
    let kind = HeaderValue::from_static("application/vnd.git-lfs+json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(answer)
}

fn place(ask: &Ask, name: &RepoName) -> String {
    format!("{}/{}.git/info/lfs/objects", ask.base, page_of(name))
}

fn upload(hub: &Hub, ask: &Ask, name: &RepoName, object: &Object) -> Value {
    let (oid, size) = (&object.oid, object.size);
    let (until, by) = hub.uploads.sign(name, &signed(oid, size));
    let place = place(ask, name);
    json!({
        "upload": { "href": format!("{place}/{oid}?size={size}&until={until}&by={by}") },
        "verify": { "href": format!("{place}/verify") },
    })
}

fn signed(oid: &str, size: u64) -> String {
    format!("upload {oid} {size}")
}

/// Takes an upload in: by the address that a batch gave, or with a token.
async fn put(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, sha256): (RepoName, [u8; 32]),
    body: Body,
) -> Outcome<Response> {
    let number = |key: &str| ask.get(key).and_then(|text| text.parse::<u64>().ok());
    let length = ask
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let size = number("size").or(length);
    let size = size.ok_or_else(|| Fail::new(StatusCode::LENGTH_REQUIRED, "how long is it?"))?;
    let oid = super::commits::hex(&sha256);
    let by_address = match (number("until"), ask.get("by")) {
        (Some(until), Some(by)) => {
            let good = hub.uploads.is_signed(&name, &signed(&oid, size), until, by);
            good && hub.gate.may_write()
        }
        _ => false,
    };
    if !by_address {
        hub.may(&ask.caller, &name, Role::Writer)?;
    }
    if length.is_some_and(|length| length != size) {
        return Err(Fail::invalid(
            "the upload has another length than it was said to have",
        ));
    }
    let mut arriving = hub.apart(move |hub| hub.uploads.arrive(size)).await?;
    let mut incoming = Incoming::new(body, &hub.limits, size);
    loop {
        let (bytes, ended) = incoming.gather(PIECE_LEN).await?;
        let write = move |_: &Hub| {
            arriving.write(&bytes)?;
            Ok(arriving)
        };
        arriving = hub.apart(write).await?;
        if ended {
            break;
        }
    }
    hub.apart(move |hub| arriving.finish(&hub.uploads, &name, &sha256))
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// Whether an upload came.
async fn verify(hub: &Arc<Hub>, ask: Ask, name: RepoName, body: Body) -> Outcome<Response> {
    let object: Object = json_body(hub, body).await?;
    let sha256 = unhex::<32>(&object.oid).ok_or_else(|| Fail::invalid("the oid is no sha256"))?;
    // Clients ask without their token; who knows the digest learns no more than that it is here.
    let open = ask.caller.with_name(&name) == Role::Nobody;
    hub.apart(move |hub| {
        let came = hub.uploads.find(&name, &sha256).map(|(_, size)| size);
        let there = match came {
            None if !open => hub
                .committed(&name, &[sha256])?
                .pop()
                .flatten()
                .map(|(_, n)| n),
            came => came,
        };
        match there {
            Some(size) if size == object.size => Ok(StatusCode::OK.into_response()),
            _ => Err(Fail::new(StatusCode::NOT_FOUND, "no such file came")),
        }
    })
    .await
}

async fn get(hub: &Arc<Hub>, ask: Ask, name: RepoName, sha256: [u8; 32]) -> Outcome<Response> {
    hub.may_read(&ask.caller, &name)?;
    let found = hub
        .apart(move |hub| Ok(hub.committed(&name, &[sha256])?.pop().flatten()))
        .await?;
    let found = found.ok_or_else(|| Fail::new(StatusCode::NOT_FOUND, "there is no such file"))?;
    content::by_id(hub, &ask, found, &super::commits::hex(&sha256))
}

impl Hub {
    /// Files with those digests in what the name's branches and tags hold now.
    pub(crate) fn committed(
        &self,
        name: &RepoName,
        wanted: &[[u8; 32]],
    ) -> Outcome<Vec<Option<(FileId, u64)>>> {
        let mut found = vec![None; wanted.len()];
        for tip in self.repo.tips(name)? {
            if found.iter().all(Option::is_some) {
                break;
            }
            let resolved = match self.repo.resolve_known(name, tip) {
                Ok(resolved) => resolved,
                // Not signed as the rules demand: not to be copied from.
                Err(error) if error.kind() == mmh_core::ErrorKind::Denied => continue,
                Err(error) => return Err(error.into()),
            };
            let files = self.facts.by_sha256(&self.repo, &resolved)?;
            for (place, wanted) in found.iter_mut().zip(wanted) {
                *place = place.or_else(|| files.get(wanted).copied());
            }
        }
        Ok(found)
    }
}

//! Large files on their way in and out as git-lfs has it (its batch API, transfer `basic`), which
//! clients of hubs use too: each file is asked for or offered by its SHA-256. Long ones come in parts
//! (`multipart`, as clients of hubs have it) if the client can.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use mmh_core::FileId;
use mmh_core::name::RepoName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::commits::{hex, unhex};
use super::fail::{Fail, Outcome};
use super::route::page_of;
use super::uploads::Whole;
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
                Method::PUT if ask.get("part").is_some() => {
                    part(hub, ask, (name, sha256), body).await
                }
                Method::PUT => put(hub, ask, (name, sha256), body).await,
                Method::POST => join(hub, ask, (name, sha256), body).await,
                Method::HEAD if ask.get("part").is_some() => {
                    part_head(hub, ask, (name, sha256)).await
                }
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
    let spoken = |transfer: &String| ["basic", "multipart"].contains(&transfer.as_str());
    if !(batch.transfers.is_empty() || batch.transfers.iter().any(spoken)) {
        let text = "only the transfers `basic` and `multipart` are spoken here";
        return Err(Fail::invalid(text));
    }
    let uploads = match batch.operation.as_str() {
        "upload" => true,
        "download" => false,
        _ => return Err(Fail::invalid("the operation is upload or download")),
    };
    if uploads {
        hub.may(&ask.caller, &name, Role::Writer)?;
    }
    let parts = uploads && batch.transfers.iter().any(|t| t == "multipart");
    let answer = hub.apart(move |hub| {
        hub.there(&name)?;
        let digests = batch.objects.iter().map(|object| unhex::<32>(&object.oid));
        let digests = digests.collect::<Option<Vec<_>>>();
        let digests = digests.ok_or_else(|| Fail::invalid("an oid is no sha256"))?;
        let there = hub.committed(&name, &digests)?;
        let (mut objects, mut any_parts) = (Vec::new(), false);
        for ((object, sha256), there) in batch.objects.iter().zip(&digests).zip(there) {
            let there = there.is_some_and(|(_, size)| size == object.size);
            let came = || {
                hub.uploads
                    .find(&name, sha256)
                    .is_some_and(|(_, n)| n == object.size)
            };
            let mut said = json!({ "oid": object.oid, "size": object.size });
            match uploads {
                true if !there && !came() => {
                    let cut = hub.uploads.cut(object.size).filter(|_| parts);
                    any_parts |= cut.is_some();
                    said["actions"] = upload(hub, &ask, (&name, object), cut);
                }
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
            "transfer": if any_parts { "multipart" } else { "basic" }, "objects": objects, "hash_algo": "sha256",
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

/// Where an upload goes: whole, or each part of it.
fn upload(
    hub: &Hub,
    ask: &Ask,
    (name, object): (&RepoName, &Object),
    cut: Option<(u64, u64)>,
) -> Value {
    let (oid, size) = (&object.oid, object.size);
    let (until, by) = hub.uploads.sign(name, &signed(oid, size));
    let place = place(ask, name);
    let href = format!("{place}/{oid}?size={size}&until={until}&by={by}");
    let mut upload = json!({ "href": href });
    if let Some((part_len, count)) = cut {
        // Clients take what is a number for a part's, and its value for its address.
        let mut header = serde_json::Map::new();
        header.insert("chunk_size".to_owned(), part_len.to_string().into());
        for n in 1..=count {
            header.insert(format!("{n:05}"), format!("{href}&part={n}").into());
        }
        upload["header"] = header.into();
    }
    json!({ "upload": upload, "verify": { "href": format!("{place}/verify") } })
}

fn signed(oid: &str, size: u64) -> String {
    format!("upload {oid} {size}")
}

/// Whether a caller may upload what an address says: whoever has one that a batch gave, or a token.
fn may_upload(hub: &Hub, ask: &Ask, name: &RepoName, (oid, size): (&str, u64)) -> Outcome<()> {
    if let (Some(until), Some(by)) = (ask.number("until"), ask.get("by"))
        && hub.uploads.is_signed(name, &signed(oid, size), until, by)
        && hub.gate.may_write()
    {
        return Ok(());
    }
    hub.may(&ask.caller, name, Role::Writer)
}

/// What an address says of an upload in parts: its length and the number of the part.
fn of_part(hub: &Hub, ask: &Ask, name: &RepoName, sha256: &[u8; 32]) -> Outcome<(u64, u64)> {
    let (Some(size), Some(n)) = (ask.number("size"), ask.number("part")) else {
        return Err(Fail::invalid("which part, of how many bytes?"));
    };
    may_upload(hub, ask, name, (&hex(sha256), size))?;
    Ok((size, n))
}

/// Takes a part in.
async fn part(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, sha256): (RepoName, [u8; 32]),
    body: Body,
) -> Outcome<Response> {
    let (len, n) = of_part(hub, &ask, &name, &sha256)?;
    let begin = move |hub: &Hub| {
        let (name, sha256) = (&name, &sha256);
        hub.uploads.part(&Whole { name, sha256, len }, n)
    };
    let mut part = hub.apart(begin).await?;
    let mut incoming = Incoming::new(body, &hub.limits, part.len());
    loop {
        let (bytes, ended) = incoming.gather(PIECE_LEN).await?;
        let write = move |_: &Hub| part.write(&bytes).map(|()| part);
        part = hub.apart(write).await?;
        if ended {
            break;
        }
    }
    let digest = hub.apart(move |_| part.finish()).await?;
    Ok(([(ETAG, format!("\"{digest}\""))], ()).into_response())
}

/// Whether a part came, and its digest: who was broken off need not send it again.
async fn part_head(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, sha256): (RepoName, [u8; 32]),
) -> Outcome<Response> {
    let (len, n) = of_part(hub, &ask, &name, &sha256)?;
    hub.apart(move |hub| {
        let (name, sha256) = (&name, &sha256);
        let came = hub.uploads.came(&Whole { name, sha256, len }, n);
        let missing = || Fail::new(StatusCode::NOT_FOUND, "this part did not come");
        let (len, digest) = came.ok_or_else(missing)?;
        let head = [
            (ETAG, format!("\"{digest}\"")),
            (CONTENT_LENGTH, len.to_string()),
        ];
        Ok((head, ()).into_response())
    })
    .await
}

/// Which parts a client sent.
#[derive(Debug, Deserialize)]
struct Sent {
    parts: Vec<SentPart>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentPart {
    part_number: u64,
    etag: String,
}

/// All parts were sent: puts them together, and compares the digest of the whole.
async fn join(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, sha256): (RepoName, [u8; 32]),
    body: Body,
) -> Outcome<Response> {
    let size = ask.number("size");
    let len = size.ok_or_else(|| Fail::new(StatusCode::LENGTH_REQUIRED, "how long is it?"))?;
    may_upload(hub, &ask, &name, (&hex(&sha256), len))?;
    let sent: Sent = json_body(hub, body).await?;
    hub.apart(move |hub| {
        let bare = |part: SentPart| (part.part_number, part.etag.trim_matches('"').to_owned());
        let digests: Vec<_> = sent.parts.into_iter().map(bare).collect();
        let (name, sha256) = (&name, &sha256);
        hub.uploads.join(&Whole { name, sha256, len }, &digests)?;
        Ok(json_of(&json!({})))
    })
    .await
}

/// Takes an upload in: by the address that a batch gave, or with a token.
async fn put(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, sha256): (RepoName, [u8; 32]),
    body: Body,
) -> Outcome<Response> {
    let length = ask
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let size = ask.number("size").or(length);
    let size = size.ok_or_else(|| Fail::new(StatusCode::LENGTH_REQUIRED, "how long is it?"))?;
    may_upload(hub, &ask, &name, (&hex(&sha256), size))?;
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
    hub.apart(move |hub| {
        // Clients ask without their token; who knows the digest learns no more than that it is here.
        let open = hub.role(&ask.caller, &name)? == Role::Nobody;
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
    content::by_id(hub, &ask, found, &hex(&sha256))
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

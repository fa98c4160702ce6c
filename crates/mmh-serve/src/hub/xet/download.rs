//! Downloads by Xet: which chunks of which xorbs make up a range of a file, and ranges of those xorbs,
//! which are not stored but made as they are sent.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mmh_core::ByteRange;
use mmh_core::name::RepoName;
use mmh_xet::{Piece, Plan, VirtualXorb, XetHash};
use serde_json::json;

use super::known::unknown;
use super::records::{Records, Run};
use super::{address_url, of_xet};
use crate::hub::content::{asked_range, stream_of};
use crate::hub::fail::{Fail, Outcome};
use crate::hub::uploads::Address;
use crate::hub::{Ask, Hub, json_of};

/// Most bytes of a file that are planned at once; clients ask for some hundred megabytes.
const PLAN_LEN_MAX: u64 = 256 << 30;

/// `GET …/v1|v2/reconstructions/{file}`.
pub(crate) async fn reconstruction(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, address): (RepoName, Address),
    (version, file): (u8, XetHash),
) -> Outcome<Response> {
    hub.apart(move |hub| {
        hub.may_have(&ask.caller, &name)?;
        let missing = || unknown(&format!("file {file}"));
        let records = Records::of(&hub.repo, &name)?.ok_or_else(missing)?;
        let made = records.made(&file)?.ok_or_else(missing)?;
        let range = match asked_range(&ask.headers) {
            Some(spec) => spec.resolve(made.size).map_err(|_| beyond(made.size))?,
            None => ByteRange::all(made.size),
        };
        if range.len() > PLAN_LEN_MAX {
            let text = format!("ask for at most {PLAN_LEN_MAX} bytes at once");
            return Err(Fail::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let mut failed = None;
        let plan = Plan::new(&made.terms(), range, &mut |xorb| {
            let read = match records.run(xorb) {
                Ok(run) => run.map(|run| run.as_xorb()).transpose()?,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            };
            let read = read.ok_or(mmh_xet::Error::UnknownXorb(*xorb))?;
            Ok(Arc::new(read))
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let plan = plan.map_err(|error| inconsistent(&error))?;
        let place = address_url(&ask, &name, &address);
        let url = |xorb: &XetHash| {
            let (until, by) = hub.uploads.sign(&name, &signed(xorb));
            format!("{place}/xorbs/{xorb}?until={until}&by={by}")
        };
        let said = match version {
            1 => serde_json::to_value(plan.v1(&url)),
            _ => serde_json::to_value(plan.v2(&url)),
        };
        let said = said.map_err(|error| inconsistent(&error))?;
        Ok(json_of(&said))
    })
    .await
}

fn inconsistent(error: &dyn std::fmt::Display) -> Fail {
    let text = format!("records of Xet do not fit together: {error}");
    Fail::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn beyond(len: u64) -> Fail {
    let text = format!("there are {len} bytes");
    Fail::new(StatusCode::RANGE_NOT_SATISFIABLE, text)
}

/// What the address of a xorb is signed for.
fn signed(xorb: &XetHash) -> String {
    format!("xorb {xorb}")
}

/// `GET …/xorbs/{xorb}`, with a token or by an address that a reconstruction gave.
pub(crate) async fn xorb(
    hub: &Arc<Hub>,
    ask: Ask,
    name: RepoName,
    xorb: XetHash,
) -> Outcome<Response> {
    let by_address = match (ask.number("until"), ask.get("by")) {
        (Some(until), Some(by)) => hub.uploads.is_signed(&name, &signed(&xorb), until, by),
        _ => false,
    };
    let missing = move || unknown(&format!("xorb {xorb}"));
    let (run, known, ask) = hub
        .apart(move |hub| {
            let denied = |fail: Fail| match ask.get("by") {
                // Clients ask for another address then.
                Some(_) => Fail::new(StatusCode::FORBIDDEN, "this address is good no longer"),
                None => fail,
            };
            if !by_address {
                hub.may_have(&ask.caller, &name).map_err(denied)?;
            }
            let records = Records::of(&hub.repo, &name)?.ok_or_else(missing)?;
            let run = records.run(&xorb)?.ok_or_else(missing)?;
            let known = run.as_xorb().map_err(|error| inconsistent(&error))?;
            Ok((run, known, ask))
        })
        .await?;
    send(hub, &ask, &run, &known)
}

fn send(hub: &Hub, ask: &Ask, run: &Run, xorb: &VirtualXorb) -> Outcome<Response> {
    let len = xorb.len();
    let (status, range) = match asked_range(&ask.headers) {
        Some(spec) => match spec.resolve(len) {
            Ok(range) => (StatusCode::PARTIAL_CONTENT, range),
            Err(_) => {
                let mut response = beyond(len).into_response();
                say(&mut response, CONTENT_RANGE, &format!("bytes */{len}"));
                return Ok(response);
            }
        },
        None => (StatusCode::OK, ByteRange::all(len)),
    };
    let pieces: VecDeque<Piece> = xorb.pieces(range).map_err(of_xet)?.into();
    let raw = |piece: &Piece| match piece {
        Piece::Raw(range) => Some(*range),
        Piece::Head(_) => None,
    };
    let (first, last) = (
        pieces.iter().find_map(raw),
        pieces.iter().rev().find_map(raw),
    );
    let body = match ask.method {
        Method::HEAD => Body::empty(),
        _ => {
            let (start, end) = (first.map_or(0, |r| r.start), last.map_or(0, |r| r.end));
            let of_file = ByteRange {
                start: run.at + start,
                end: run.at + end,
            };
            Body::from_stream(framed(stream_of(hub, run.file, of_file), pieces))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    say(&mut response, ACCEPT_RANGES, "bytes");
    say(&mut response, CONTENT_TYPE, "application/octet-stream");
    say(&mut response, CONTENT_LENGTH, &range.len().to_string());
    say(&mut response, CACHE_CONTROL, "private");
    if status == StatusCode::PARTIAL_CONTENT {
        let (start, end) = (range.start, range.end - 1);
        let said = format!("bytes {start}-{end}/{len}");
        say(&mut response, CONTENT_RANGE, &said);
    }
    Ok(response)
}

fn say(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Puts the heads of chunks between their bytes, which come in pieces of any length.
fn framed(
    raw: impl stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    mut pieces: VecDeque<Piece>,
) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let mut begun = Vec::new();
    heads(&mut pieces, &mut begun);
    let rest = raw.map_ok(move |bytes| {
        let all = between(&mut pieces, bytes);
        stream::iter(all.into_iter().map(Ok))
    });
    stream::iter(begun.into_iter().map(Ok)).chain(rest.try_flatten())
}

/// Takes the heads that come next.
fn heads(pieces: &mut VecDeque<Piece>, out: &mut Vec<Bytes>) {
    while let Some(Piece::Head(_)) = pieces.front() {
        if let Some(Piece::Head(head)) = pieces.pop_front() {
            out.push(head.into());
        }
    }
}

/// The next raw bytes with the heads between and behind them.
fn between(pieces: &mut VecDeque<Piece>, mut bytes: Bytes) -> Vec<Bytes> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let Some(Piece::Raw(range)) = pieces.front_mut() else {
            break;
        };
        let n = usize::try_from(range.len()).map_or(bytes.len(), |len| len.min(bytes.len()));
        out.push(bytes.split_to(n));
        range.start += n as u64;
        if range.is_empty() {
            pieces.pop_front();
            heads(pieces, &mut out);
        }
    }
    out
}

/// `GET …/v1/chunks/{prefix}/{chunk}`: a shard with the xorb that a chunk is in and those behind it in
/// its file, if the caller may read one. Hashes of chunks are given as they are: who gets them could
/// read the chunks.
pub(crate) async fn chunk(
    hub: &Arc<Hub>,
    ask: Ask,
    name: RepoName,
    chunk: XetHash,
) -> Outcome<Response> {
    let found = hub.apart(move |hub| {
        hub.may_have(&ask.caller, &name)?;
        super::shard::of_chunk(hub, (&ask.caller, &name), &chunk)
    });
    match found.await? {
        Some(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            say(&mut response, CONTENT_TYPE, "application/octet-stream");
            Ok(response)
        }
        None => Err(unknown(&json!(chunk).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the raw bytes come, what is sent is the range of the xorb.
        #[test]
        fn heads_stand_between_pieces_of_any_length(
            lens in prop::collection::vec(1u32..40, 1..12),
            cuts: [u64; 2],
            step in 1usize..50,
        ) {
            let xorb = VirtualXorb::new(lens.iter().copied()).unwrap();
            let raw: Vec<u8> = (0..lens.iter().sum::<u32>()).map(|n| (n % 251) as u8).collect();
            let at = |n: u64| usize::try_from(n).unwrap();
            let whole: Vec<u8> = xorb.pieces(ByteRange::all(xorb.len())).unwrap().into_iter()
                .flat_map(|piece| match piece {
                    Piece::Head(head) => head,
                    Piece::Raw(r) => raw[at(r.start)..at(r.end)].to_vec(),
                })
                .collect();
            let [a, b] = cuts.map(|cut| cut % (xorb.len() + 1));
            let range = ByteRange { start: a.min(b), end: a.max(b) };
            let pieces = xorb.pieces(range).unwrap();
            let bytes: Vec<u8> = pieces.iter()
                .flat_map(|piece| match piece {
                    Piece::Head(_) => Vec::new(),
                    Piece::Raw(r) => raw[at(r.start)..at(r.end)].to_vec(),
                })
                .collect();
            let come = bytes.chunks(step).map(|c| Ok(Bytes::copy_from_slice(c))).collect::<Vec<_>>();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let sent = framed(stream::iter(come), pieces.into());
            let sent: Vec<Bytes> = runtime.block_on(sent.try_collect()).unwrap();
            prop_assert_eq!(sent.concat(), &whole[at(range.start)..at(range.end)]);
        }
    }
}

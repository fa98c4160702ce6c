//! Shards: those that clients send are put together to files at once, and those that they ask for say
//! which xorbs are here already.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::future::{self, BoxFuture, Either};
use futures::stream;
use lru::LruCache;
use mmh_core::name::RepoName;
use mmh_xet::{Chunk, FileInfo, SHARD_LEN_MAX, Shard, Tree, Validity, XetHash, XorbInfo};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, interval};

use super::known::Source;
use super::of_xet;
use super::records::Records;
use crate::hub::fail::{Fail, Outcome};
use crate::hub::uploads::{Address, Referred};
use crate::hub::{Ask, Hub, json_of, whole_body};
use crate::token::Caller;

/// Xorbs that are held open for one file, each with at most 330 KB of memory.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");
/// A file's chunks have at least so many bytes on average, so that what is remembered of them is little.
/// Clients make none below 8 KiB but the last of a file.
const MEAN_LEN_MIN: u64 = 1 << 10;
/// Chunks that a file may always have.
const CHUNKS_FREE: u64 = 16;
/// How often a client hears that its files are still being put together. It gives up after a minute.
const BEAT: Duration = Duration::from_secs(10);
/// Most xorbs of a shard that is given out: 4 GiB of a file.
const GIVEN_MAX: usize = 64;
/// How long a shard that is given out may be relied on.
const GIVEN_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A shard that came, and who sent it.
struct Came {
    caller: Caller,
    name: RepoName,
    address: Address,
    files: Vec<FileInfo>,
    /// Bytes of files that were put together.
    done: Arc<AtomicU64>,
}

async fn read(
    hub: &Arc<Hub>,
    (ask, name, address): (Ask, RepoName, Address),
    body: Body,
) -> Outcome<(Came, OwnedSemaphorePermit)> {
    let place = hub.at_once.shard().await?;
    let bytes = whole_body(hub, body, SHARD_LEN_MAX as u64).await?;
    let read = move |_: &Hub| {
        let shard = Shard::read(&bytes).map_err(of_xet)?;
        for xorb in &shard.xorbs {
            xorb.verify().map_err(of_xet)?;
        }
        Ok(shard.files)
    };
    let files = hub.apart(read).await?;
    let came = Came {
        caller: ask.caller,
        name,
        address,
        files,
        done: Arc::default(),
    };
    Ok((came, place))
}

/// `POST …/v1/shards`.
pub(crate) async fn v1(
    hub: &Arc<Hub>,
    whose: (Ask, RepoName, Address),
    body: Body,
) -> Outcome<Response> {
    let (came, _place) = read(hub, whose, body).await?;
    hub.apart(move |hub| assemble_all(hub, &came)).await?;
    Ok(json_of(&json!({ "result": 1 })))
}

/// A shard that is worked on while its client hears of it.
struct Working {
    work: BoxFuture<'static, Outcome<()>>,
    beat: Interval,
    done: Arc<AtomicU64>,
    total: u64,
    _place: OwnedSemaphorePermit,
}

/// `POST …/v2/shards`: lines of JSON until the files are there.
pub(crate) async fn v2(
    hub: &Arc<Hub>,
    whose: (Ask, RepoName, Address),
    body: Body,
) -> Outcome<Response> {
    let (came, place) = read(hub, whose, body).await?;
    let (done, hub) = (Arc::clone(&came.done), Arc::clone(hub));
    let total = came.files.iter().map(FileInfo::len).sum();
    let work = async move { hub.apart(move |hub| assemble_all(hub, &came)).await };
    let working = Working {
        work: Box::pin(work),
        beat: interval(BEAT),
        done,
        total,
        _place: place,
    };
    let lines = stream::unfold(Some(working), |working| async {
        let mut working = working?;
        let ended = {
            let beat = Box::pin(working.beat.tick());
            match future::select(working.work.as_mut(), beat).await {
                Either::Left((done, _)) => Some(done),
                Either::Right(_) => None,
            }
        };
        if let Some(done) = ended {
            return Some((line(&last(done)), None));
        }
        let verified = working.done.load(Ordering::Relaxed);
        let total = working.total;
        let said = json!({ "type": "validating", "verified": verified, "total": total });
        Some((line(&said), Some(working)))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

fn line(value: &Value) -> std::io::Result<Bytes> {
    Ok(format!("{value}\n").into())
}

/// What a client hears in the end.
fn last(done: Outcome<()>) -> Value {
    match done {
        Ok(()) => json!({ "type": "result" }),
        Err(fail) => json!({
            "type": "error", "message": fail.text,
            "retryable": fail.status == StatusCode::SERVICE_UNAVAILABLE,
        }),
    }
}

fn assemble_all(hub: &Hub, came: &Came) -> Outcome<()> {
    let _step = hub.gate.traces().step("assemble");
    came.files
        .iter()
        .try_for_each(|file| assemble(hub, came, file))
}

/// Puts a file together, compares all that is said of it with its chunks, and keeps it as an upload of
/// its SHA-256.
fn assemble(hub: &Hub, came: &Came, file: &FileInfo) -> Outcome<()> {
    let sha256 = file.sha256;
    let sha256 = sha256.ok_or_else(|| Fail::invalid("a file comes without its SHA-256"))?;
    let chunks = file.segments.iter().map(|s| s.chunks.len() as u64);
    if chunks.sum::<u64>() > CHUNKS_FREE + file.len() / MEAN_LEN_MIN {
        let text = format!("chunks have less than {MEAN_LEN_MIN} bytes on average");
        return Err(Fail::invalid(text));
    }
    let told = file.segments.iter().map(|segment| Referred {
        xorb: segment.xorb,
        chunks: segment.chunks.clone(),
    });
    let told: Vec<Referred> = told.collect();
    let mut arriving = hub.uploads.arrive_as(file.len(), Some(&told))?;
    let mut tree = Tree::default();
    let mut opened: LruCache<XetHash, Source> = LruCache::new(OPEN_MAX);
    for segment in &file.segments {
        let known = opened.get(&segment.xorb);
        if !known.is_some_and(|source| source.has(&segment.chunks)) {
            let source = hub.source((&came.caller, &came.name), segment)?;
            let Some(source) = source else {
                // Whoever believes that it is here asks for another address the next time.
                hub.uploads.give_up(&came.name, &came.address);
                return Err(of_xet(mmh_xet::Error::UnknownXorb(segment.xorb)));
            };
            opened.put(segment.xorb, source);
        }
        let Some(source) = opened.get_mut(&segment.xorb) else {
            continue;
        };
        if !source.has(&segment.chunks) && source.is_part() {
            hub.uploads.give_up(&came.name, &came.address);
        }
        let run = segment.run(source.leaves()).map_err(of_xet)?;
        if run.iter().any(|leaf| leaf.1 == 0) {
            return Err(of_xet(mmh_xet::Error::UnknownXorb(segment.xorb)));
        }
        for leaf in run {
            tree.push(*leaf);
            arriving.leaf(leaf)?;
        }
        source.copy(&hub.repo, segment, &mut |bytes| {
            came.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            arriving.write(bytes)
        })?;
    }
    let found = tree.file_hash();
    if found != file.hash {
        let text = format!("the file has the hash {found}, not {}", file.hash);
        return Err(Fail::invalid(text));
    }
    arriving.finish(&hub.uploads, &came.name, &sha256)
}

/// A shard with the xorb that a chunk is in, and those behind it in its file.
pub(crate) fn of_chunk(
    hub: &Hub,
    whose: (&Caller, &RepoName),
    chunk: &XetHash,
) -> Outcome<Option<Vec<u8>>> {
    let Some((name, first)) = hub.shared(whose, chunk)? else {
        return Ok(None);
    };
    let Some(records) = Records::of(&hub.repo, &name)? else {
        return Ok(None);
    };
    let Some(run) = records.run(&first)? else {
        return Ok(None);
    };
    let of_file = match records.hash_of(&run.file)? {
        Some(hash) => records.made(&hash)?,
        None => None,
    };
    let of_file = of_file.map(|made| made.xorbs).unwrap_or_default();
    let behind = of_file.iter().map(|xorb| xorb.hash);
    let behind = behind.skip_while(|hash| *hash != first).skip(1);
    let mut shard = Shard::default();
    let mut given = std::collections::BTreeSet::new();
    for hash in std::iter::once(first).chain(behind).take(GIVEN_MAX) {
        let run = match given.insert(hash) {
            true => records.run(&hash)?,
            false => None,
        };
        let Some(run) = run else {
            continue;
        };
        let len = run.as_xorb().map_err(of_xet)?.len();
        let chunk = |(hash, len): &mmh_xet::Leaf| Chunk {
            hash: *hash,
            raw_len: u32::try_from(*len).unwrap_or(u32::MAX),
            shared: hash.is_shared(),
        };
        shard.xorbs.push(XorbInfo {
            hash,
            chunks: run.leaves.iter().map(chunk).collect(),
            packed_len: u32::try_from(len).unwrap_or(u32::MAX),
        });
    }
    let created_s = hub.uploads.now_ms() / 1000;
    shard.validity = Some(Validity {
        created_s,
        expires_s: created_s + GIVEN_KEPT.as_secs(),
    });
    Ok(Some(shard.write()))
}

//! Reconstructions: which chunks of which xorbs make up a range of a file, and where to fetch them.
//!
//! Specification, "CAS API", Get Reconstruction. Version 1 calls what is to be fetched `fetch_info`,
//! version 2 `xorbs`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use mmh_core::ByteRange;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::hash::XetHash;
use crate::virtual_xorb::VirtualXorb;

/// A run of chunks of one xorb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The xorb.
    pub xorb: XetHash,
    /// Its chunks.
    pub chunks: Range<u32>,
    /// Their raw length in bytes.
    pub raw_len: u64,
}

/// How to get a range of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the first chunk that come before the range.
    pub skip: u64,
    /// The chunks, in order.
    pub terms: Vec<Term>,
    /// What to fetch of each xorb: runs of chunks with the bytes that they are, in order, none of
    /// which touch.
    pub fetches: BTreeMap<XetHash, Vec<Fetch>>,
}

/// A run of chunks of a xorb, and the bytes of it that they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The chunks.
    pub chunks: Range<u32>,
    /// Their bytes, heads included.
    pub bytes: ByteRange,
}

impl Plan {
    /// Plans a range of the file that `file` makes up, from the lengths that `xorb` knows.
    ///
    /// # Errors
    /// Malformed for a range outside the file, or terms that do not fit their xorbs; those of `xorb`.
    pub fn new(
        file: &[Term],
        range: ByteRange,
        xorb: &mut dyn FnMut(&XetHash) -> Result<Arc<VirtualXorb>>,
    ) -> Result<Self> {
        let len = file.iter().try_fold(0u64, |n, t| n.checked_add(t.raw_len));
        let len = len.ok_or_else(|| Error::malformed("file", "its length overflows"))?;
        let range = range
            .within(len)
            .map_err(|error| Error::malformed("range of a file", error.to_string()))?;
        let (mut plan, mut at) = (Self::default(), 0);
        for term in file {
            let (start, end) = (at, at + term.raw_len);
            at = end;
            let part = ByteRange {
                start: range.start.max(start),
                end: range.end.min(end),
            };
            if part.is_empty() {
                continue;
            }
            let known = xorb(&term.xorb)?;
            let within = ByteRange {
                start: part.start - start,
                end: part.end - start,
            };
            let (skip, part) = trim(term, within, &known)?;
            if plan.terms.is_empty() {
                plan.skip = skip;
            }
            let bytes = known.bytes(&part.chunks)?;
            let fetches = plan.fetches.entry(part.xorb).or_default();
            fetches.push(Fetch {
                chunks: part.chunks.clone(),
                bytes,
            });
            plan.terms.push(part);
        }
        plan.fetches.values_mut().for_each(join);
        Ok(plan)
    }

    /// The answer of version 1, with the address to fetch a xorb from.
    #[must_use]
    pub fn v1(&self, url: &dyn Fn(&XetHash) -> String) -> impl Serialize {
        let fetch = |xorb: &XetHash, one: &Fetch| FetchV1 {
            range: (&one.chunks).into(),
            url: url(xorb),
            url_range: (&one.bytes).into(),
        };
        AnswerV1 {
            offset_into_first_range: self.skip,
            terms: self.terms(),
            fetch_info: self.each_fetch(&fetch),
        }
    }

    /// The answer of version 2: one address for each range, because clients do not ask for several
    /// ranges at once unless they are told to.
    #[must_use]
    pub fn v2(&self, url: &dyn Fn(&XetHash) -> String) -> impl Serialize {
        let fetch = |xorb: &XetHash, one: &Fetch| FetchV2 {
            url: url(xorb),
            ranges: [RangeV2 {
                chunks: (&one.chunks).into(),
                bytes: (&one.bytes).into(),
            }],
        };
        AnswerV2 {
            offset_into_first_range: self.skip,
            terms: self.terms(),
            xorbs: self.each_fetch(&fetch),
        }
    }

    fn terms(&self) -> Vec<TermJson> {
        let json = |term: &Term| TermJson {
            hash: term.xorb,
            unpacked_length: term.raw_len,
            range: (&term.chunks).into(),
        };
        self.terms.iter().map(json).collect()
    }

    fn each_fetch<T>(&self, fetch: &dyn Fn(&XetHash, &Fetch) -> T) -> BTreeMap<XetHash, Vec<T>> {
        let of = |(xorb, list): (&XetHash, &Vec<Fetch>)| {
            let fetches = list.iter().map(|one| fetch(xorb, one)).collect();
            (*xorb, fetches)
        };
        self.fetches.iter().map(of).collect()
    }
}

/// The chunks of a term that have the bytes `within` it, and how many bytes come before those.
fn trim(term: &Term, within: ByteRange, xorb: &VirtualXorb) -> Result<(u64, Term)> {
    let raw = xorb.raw(&term.chunks)?;
    if raw.len() != term.raw_len {
        let reason = format!("its chunks have {} bytes, not {}", raw.len(), term.raw_len);
        return Err(Error::malformed("reference to a xorb", reason));
    }
    let first = xorb.chunk_at(raw.start + within.start);
    let last = xorb.chunk_at(raw.start + within.end - 1);
    let chunks = first..last + 1;
    let kept = xorb.raw(&chunks)?;
    let skip = raw.start + within.start - kept.start;
    let (xorb, raw_len) = (term.xorb, kept.len());
    Ok((
        skip,
        Term {
            xorb,
            chunks,
            raw_len,
        },
    ))
}

/// Makes one run of those that touch.
fn join(runs: &mut Vec<Fetch>) {
    runs.sort_by_key(|run| (run.chunks.start, run.chunks.end));
    runs.dedup_by(|next, last| {
        let touches = next.chunks.start <= last.chunks.end;
        if touches && next.chunks.end > last.chunks.end {
            last.chunks.end = next.chunks.end;
            last.bytes.end = next.bytes.end;
        }
        touches
    });
}

#[derive(Serialize)]
struct AnswerV1 {
    offset_into_first_range: u64,
    terms: Vec<TermJson>,
    fetch_info: BTreeMap<XetHash, Vec<FetchV1>>,
}

#[derive(Serialize)]
struct AnswerV2 {
    offset_into_first_range: u64,
    terms: Vec<TermJson>,
    xorbs: BTreeMap<XetHash, Vec<FetchV2>>,
}

#[derive(Serialize)]
struct TermJson {
    hash: XetHash,
    unpacked_length: u64,
    range: Chunks,
}

#[derive(Serialize)]
struct FetchV1 {
    range: Chunks,
    url: String,
    url_range: Bytes,
}

#[derive(Serialize)]
struct FetchV2 {
    url: String,
    ranges: [RangeV2; 1],
}

#[derive(Serialize)]
struct RangeV2 {
    chunks: Chunks,
    bytes: Bytes,
}

/// From the first to one after the last.
#[derive(Serialize)]
struct Chunks {
    start: u32,
    end: u32,
}

/// From the first to the last, as in HTTP.
#[derive(Serialize)]
struct Bytes {
    start: u64,
    end: u64,
}

impl From<&Range<u32>> for Chunks {
    fn from(range: &Range<u32>) -> Self {
        let (start, end) = (range.start, range.end);
        Self { start, end }
    }
}

impl From<&ByteRange> for Bytes {
    fn from(range: &ByteRange) -> Self {
        // Chunks are not empty.
        let (start, end) = (range.start, range.end.saturating_sub(1));
        Self { start, end }
    }
}

#[cfg(test)]
mod tests;

//! Reading shards.

use crate::chunker::CHUNK_LEN_MAX;
use crate::error::{Error, Result};
use crate::hash::XetHash;
use crate::read::Reader;
use crate::xorb::{XORB_CHUNKS_MAX, XORB_LEN_MAX};

use super::{
    Chunk, END, FOOTER_LEN, FOOTER_VERSION, FileInfo, HEAD_VERSION, RECORD_LEN, SHARD_LEN_MAX,
    SHARED, Segment, Shard, TAG, Validity, WITH_RANGES, WITH_SHA256, XorbInfo,
};

impl Shard {
    /// Reads a shard, with or without tables and footer. Whether its hashes are right is for
    /// [`FileInfo::verify`] and [`XorbInfo::verify`]. Takes memory for about twice its length.
    ///
    /// # Errors
    /// Malformed; Unsupported for another version, or for chunks whose hashes are made with a key.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("shard", bytes);
        if bytes.len() > SHARD_LEN_MAX {
            return Err(reader.bad(format!("it is longer than {SHARD_LEN_MAX} bytes")));
        }
        let footer_len = read_head(&mut reader)?;
        let mut shard = Self::default();
        while let Some(file) = read_file(&mut reader)? {
            shard.files.push(file);
        }
        while let Some(xorb) = read_xorb(&mut reader)? {
            shard.xorbs.push(xorb);
        }
        if footer_len > 0 {
            shard.validity = Some(read_footer(reader)?);
        }
        Ok(shard)
    }
}

fn unsupported(reason: String) -> Error {
    let what = "shard";
    Error::Unsupported { what, reason }
}

/// The length of the footer.
fn read_head(reader: &mut Reader<'_>) -> Result<u64> {
    if reader.take(TAG.len())? != TAG {
        return Err(reader.bad("it does not begin like one"));
    }
    let (version, footer_len) = (reader.u64()?, reader.u64()?);
    if version != HEAD_VERSION {
        return Err(unsupported(format!("version {version}")));
    }
    match footer_len {
        0 => Ok(0),
        len if len == FOOTER_LEN as u64 => Ok(len),
        len => Err(unsupported(format!("a footer of {len} bytes"))),
    }
}

/// The number of records, if the rest of the bytes may hold so many.
fn count(reader: &Reader<'_>, n: u32, records_each: usize) -> Result<usize> {
    let n = n as usize;
    let most = reader.rest().len() / RECORD_LEN / records_each;
    match n <= most {
        true => Ok(n),
        false => Err(reader.bad(format!("{n} records where {most} have room"))),
    }
}

/// The next file; nothing at the section's end.
fn read_file(reader: &mut Reader<'_>) -> Result<Option<FileInfo>> {
    let hash = reader.hash()?;
    let (flags, n, _) = (reader.u32()?, reader.u32()?, reader.u64()?);
    if hash == END {
        return Ok(None);
    }
    let with_ranges = flags & WITH_RANGES != 0;
    let n = count(reader, n, 1 + usize::from(with_ranges))?;
    let mut segments: Vec<Segment> = (0..n)
        .map(|_| read_segment(reader))
        .collect::<Result<_>>()?;
    if with_ranges {
        for segment in &mut segments {
            segment.range_hash = Some(read_lone(reader)?);
        }
    }
    let sha256 = match flags & WITH_SHA256 {
        0 => None,
        _ => Some(turn(read_lone(reader)?)),
    };
    Ok(Some(FileInfo {
        hash,
        segments,
        sha256,
    }))
}

fn read_segment(reader: &mut Reader<'_>) -> Result<Segment> {
    let xorb = reader.hash()?;
    let (_flags, raw_len) = (reader.u32()?, reader.u32()?);
    let chunks = reader.u32()?..reader.u32()?;
    let fits = chunks.end as usize <= XORB_CHUNKS_MAX && raw_len as usize <= XORB_LEN_MAX;
    if chunks.is_empty() || raw_len == 0 || !fits {
        let (start, end) = (chunks.start, chunks.end);
        return Err(reader.bad(format!(
            "{raw_len} bytes in chunks {start} to {end} of a xorb"
        )));
    }
    Ok(Segment {
        xorb,
        chunks,
        raw_len,
        range_hash: None,
    })
}

/// A record with a hash and nothing else.
fn read_lone(reader: &mut Reader<'_>) -> Result<XetHash> {
    let hash = reader.hash()?;
    reader.take(RECORD_LEN - 32)?;
    Ok(hash)
}

/// Digests of other kinds are written so that they read plainly as text of a hash.
pub(super) fn turn(hash: XetHash) -> [u8; 32] {
    let mut bytes = *hash.as_bytes();
    bytes.chunks_mut(8).for_each(<[u8]>::reverse);
    bytes
}

/// The next xorb; nothing at the section's end.
fn read_xorb(reader: &mut Reader<'_>) -> Result<Option<XorbInfo>> {
    let hash = reader.hash()?;
    let (_flags, n) = (reader.u32()?, reader.u32()?);
    let (raw_len, packed_len) = (reader.u32()?, reader.u32()?);
    if hash == END {
        return Ok(None);
    }
    let n = count(reader, n, 1)?;
    if n == 0 || n > XORB_CHUNKS_MAX || raw_len as usize > XORB_LEN_MAX {
        return Err(reader.bad(format!("a xorb with {n} chunks and {raw_len} bytes")));
    }
    let (mut chunks, mut end) = (Vec::with_capacity(n), 0);
    for _ in 0..n {
        let chunk = read_chunk(reader, end)?;
        // Less than 8192 times 128 KiB.
        end += chunk.raw_len;
        chunks.push(chunk);
    }
    if end != raw_len {
        return Err(reader.bad(format!("a xorb's chunks have {end} bytes, not {raw_len}")));
    }
    Ok(Some(XorbInfo {
        hash,
        chunks,
        packed_len,
    }))
}

fn read_chunk(reader: &mut Reader<'_>, expected: u32) -> Result<Chunk> {
    let hash = reader.hash()?;
    let (start, raw_len) = (reader.u32()?, reader.u32()?);
    let (flags, _) = (reader.u32()?, reader.u32()?);
    if start != expected || raw_len == 0 || raw_len as usize > CHUNK_LEN_MAX {
        return Err(reader.bad(format!("a chunk of {raw_len} bytes at {start} of a xorb")));
    }
    Ok(Chunk {
        hash,
        raw_len,
        shared: flags & SHARED != 0,
    })
}

fn read_footer(mut reader: Reader<'_>) -> Result<Validity> {
    let tables = reader.rest().len().checked_sub(FOOTER_LEN);
    let tables = tables.ok_or_else(|| reader.bad("its footer is missing"))?;
    reader.take(tables)?;
    let version = reader.u64()?;
    if version != FOOTER_VERSION {
        return Err(unsupported(format!("version {version} of the footer")));
    }
    // Where the tables are.
    reader.take(8 * 8)?;
    if reader.hash()? != XetHash::default() {
        return Err(unsupported(
            "hashes of chunks are made with a key".to_owned(),
        ));
    }
    Ok(Validity {
        created_s: reader.u64()?,
        expires_s: reader.u64()?,
    })
}

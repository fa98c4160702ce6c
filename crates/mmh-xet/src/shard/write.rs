//! Writing shards, byte for byte as the protocol's own library does.

use crate::hash::XetHash;

use super::read::turn;
use super::{
    Chunk, END, FOOTER_LEN, FOOTER_VERSION, FileInfo, HEAD_VERSION, RECORD_LEN, SHARED, Segment,
    Shard, TAG, Validity, WITH_RANGES, WITH_SHA256, XorbInfo,
};

/// Entries of a table: the first bytes of a hash, and where it is.
type Table = Vec<(u64, Vec<u32>)>;

impl Shard {
    /// The shard's bytes: with tables and a footer if it has a validity, else without.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let footer_len = self.validity.map_or(0, |_| FOOTER_LEN as u64);
        let mut out = TAG.to_vec();
        out.extend(HEAD_VERSION.to_le_bytes());
        out.extend(footer_len.to_le_bytes());
        let mut files: Vec<&FileInfo> = self.files.iter().collect();
        files.sort_by_key(|file| file.hash.order());
        let mut xorbs: Vec<&XorbInfo> = self.xorbs.iter().collect();
        xorbs.sort_by_key(|xorb| xorb.hash.order());
        let (mut file_table, mut xorb_table, mut chunk_table) =
            (Table::new(), Table::new(), Table::new());
        let files_at = out.len();
        for file in &files {
            let row = row(&out, files_at);
            file_table.push((file.hash.first(), vec![row]));
            write_file(&mut out, file);
        }
        record(&mut out, &END, [0; 4]);
        let xorbs_at = out.len();
        for xorb in &xorbs {
            let row = row(&out, xorbs_at);
            xorb_table.push((xorb.hash.first(), vec![row]));
            let places = xorb.chunks.iter().zip(0u32..);
            chunk_table.extend(places.map(|(chunk, i)| (chunk.hash.first(), vec![row, i])));
            write_xorb(&mut out, xorb);
        }
        record(&mut out, &END, [0; 4]);
        chunk_table.sort_by_key(|(first, _)| *first);
        if let Some(validity) = self.validity {
            let offsets = [files_at, xorbs_at];
            let tables = [file_table, xorb_table, chunk_table];
            self.write_rest(&mut out, offsets, &tables, validity);
        }
        out
    }

    fn write_rest(
        &self,
        out: &mut Vec<u8>,
        offsets: [usize; 2],
        tables: &[Table; 3],
        validity: Validity,
    ) {
        let mut numbers = vec![FOOTER_VERSION];
        numbers.extend(offsets.map(|at| at as u64));
        for table in tables {
            numbers.extend([out.len() as u64, table.len() as u64]);
            for (first, place) in table {
                out.extend(first.to_le_bytes());
                out.extend(place.iter().flat_map(|n| n.to_le_bytes()));
            }
        }
        let footer_at = out.len() as u64;
        // No key.
        numbers.extend([0; 4]);
        numbers.extend([validity.created_s, validity.expires_s]);
        numbers.extend([0; 6]);
        let packed: u64 = self.xorbs.iter().map(|x| u64::from(x.packed_len)).sum();
        let materialized: u64 = self.files.iter().map(FileInfo::len).sum();
        let stored: u64 = self.xorbs.iter().map(|x| u64::from(x.raw_len())).sum();
        numbers.extend([packed, materialized, stored, footer_at]);
        out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    }
}

impl XorbInfo {
    /// The sum of its chunks, which the limits of a xorb keep below 4 GiB.
    fn raw_len(&self) -> u32 {
        let add = |sum: u32, chunk: &Chunk| sum.saturating_add(chunk.raw_len);
        self.chunks.iter().fold(0, add)
    }
}

/// The number of the record that comes next in a section.
fn row(out: &[u8], section_at: usize) -> u32 {
    n32((out.len() - section_at) / RECORD_LEN)
}

/// A count of records, of which no shard within its limits has more.
fn n32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn record(out: &mut Vec<u8>, hash: &XetHash, numbers: [u32; 4]) {
    out.extend(hash.as_bytes());
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}

fn write_file(out: &mut Vec<u8>, file: &FileInfo) {
    let hashes: Option<Vec<XetHash>> = file.segments.iter().map(|s| s.range_hash).collect();
    let hashes = hashes.filter(|hashes| !hashes.is_empty());
    let ranges = hashes.as_ref().map_or(0, |_| WITH_RANGES);
    let sha256 = file.sha256.map_or(0, |_| WITH_SHA256);
    let n = n32(file.segments.len());
    record(out, &file.hash, [ranges | sha256, n, 0, 0]);
    for Segment {
        xorb,
        chunks,
        raw_len,
        ..
    } in &file.segments
    {
        record(out, xorb, [0, *raw_len, chunks.start, chunks.end]);
    }
    for hash in hashes.iter().flatten() {
        record(out, hash, [0; 4]);
    }
    if let Some(sha256) = file.sha256 {
        let turned = XetHash::from_bytes(turn(XetHash::from_bytes(sha256)));
        record(out, &turned, [0; 4]);
    }
}

fn write_xorb(out: &mut Vec<u8>, xorb: &XorbInfo) {
    let n = n32(xorb.chunks.len());
    record(out, &xorb.hash, [0, n, xorb.raw_len(), xorb.packed_len]);
    let mut start = 0u32;
    for chunk in &xorb.chunks {
        let flags = if chunk.shared { SHARED } else { 0 };
        record(out, &chunk.hash, [start, chunk.raw_len, flags, 0]);
        start = start.saturating_add(chunk.raw_len);
    }
}

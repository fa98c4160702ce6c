//! A file's way through all formats: a client cuts and packs it, a server checks what it is told and
//! keeps lengths only, and a client puts ranges of the file together again from virtual xorbs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mmh_core::ByteRange;
use mmh_xet::{
    Chunk, Chunker, Error, FileInfo, Leaf, Piece, Plan, Result, Scheme, Segment, Shard, Term,
    VirtualXorb, XetHash, Xorb, XorbInfo, XorbWriter, file_hash, range_hash,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::golden::noise;

/// What a client sends.
struct Upload {
    xorbs: Vec<(XetHash, Vec<u8>)>,
    shard: Vec<u8>,
    file: XetHash,
    /// Raw bytes of chunks that the server did not know.
    new_len: usize,
}

/// A client that remembers where chunks are.
#[derive(Default)]
struct Client {
    known: BTreeMap<XetHash, (XetHash, u32)>,
    /// Most chunks of a xorb, small so that files have several.
    xorb_chunks: usize,
}

impl Client {
    fn upload(&mut self, bytes: &[u8], scheme: Scheme) -> Upload {
        let (mut chunker, mut chunks) = (Chunker::default(), Vec::new());
        chunker.push(bytes, &mut |chunk| chunks.push(chunk.to_vec()));
        chunker.finish(&mut |chunk| chunks.push(chunk.to_vec()));
        let leaves: Vec<Leaf> = chunks
            .iter()
            .map(|raw| (XetHash::of_chunk(raw), raw.len() as u64))
            .collect();
        let mut seen = BTreeSet::new();
        let is_new = |hash: &XetHash| !self.known.contains_key(hash);
        let new: Vec<&Vec<u8>> = chunks
            .iter()
            .zip(&leaves)
            .filter(|(_, leaf)| is_new(&leaf.0) && seen.insert(leaf.0))
            .map(|(raw, _)| raw)
            .collect();
        let new_len = new.iter().map(|raw| raw.len()).sum();
        let (mut xorbs, mut infos) = (Vec::new(), Vec::new());
        for run in new.chunks(self.xorb_chunks) {
            let mut writer = XorbWriter::default();
            assert!(run.iter().all(|raw| writer.push(raw, scheme)));
            let (xorb, body) = writer.finish(false);
            for (span, i) in xorb.spans().iter().zip(0..) {
                self.known.insert(span.hash, (xorb.hash(), i));
            }
            infos.push(info(&xorb, body.len()));
            xorbs.push((xorb.hash(), body));
        }
        let file = file_hash(&leaves);
        let shard = Shard {
            files: vec![FileInfo {
                hash: file,
                segments: self.segments(&leaves),
                sha256: Some([7; 32]),
            }],
            xorbs: infos,
            validity: None,
        };
        Upload {
            xorbs,
            shard: shard.write(),
            file,
            new_len,
        }
    }

    /// Chunks that follow each other in a xorb are one segment.
    fn segments(&self, leaves: &[Leaf]) -> Vec<Segment> {
        let mut segments: Vec<(Segment, Vec<XetHash>)> = Vec::new();
        for (hash, len) in leaves {
            let (xorb, at) = self.known[hash];
            let raw_len = u32::try_from(*len).unwrap();
            match segments.last_mut() {
                Some((last, hashes)) if last.xorb == xorb && last.chunks.end == at => {
                    last.chunks.end += 1;
                    last.raw_len += raw_len;
                    hashes.push(*hash);
                }
                _ => {
                    let segment = Segment {
                        xorb,
                        chunks: at..at + 1,
                        raw_len,
                        range_hash: None,
                    };
                    segments.push((segment, vec![*hash]));
                }
            }
        }
        let sealed = segments.into_iter().map(|(mut segment, hashes)| {
            segment.range_hash = Some(range_hash(&hashes));
            segment
        });
        sealed.collect()
    }
}

fn info(xorb: &Xorb, packed_len: usize) -> XorbInfo {
    let chunk = |leaf: Leaf| Chunk {
        hash: leaf.0,
        raw_len: u32::try_from(leaf.1).unwrap(),
        shared: leaf.0.is_shared(),
    };
    XorbInfo {
        hash: xorb.hash(),
        chunks: xorb.spans().iter().map(|s| chunk(s.leaf())).collect(),
        packed_len: u32::try_from(packed_len).unwrap(),
    }
}

/// A server: of xorbs it keeps what they consist of, and their raw bytes, as if these lay in a store.
#[derive(Default)]
struct Server {
    xorbs: BTreeMap<XetHash, (Vec<Leaf>, Vec<u8>)>,
    files: BTreeMap<XetHash, Vec<Term>>,
}

impl Server {
    fn take_xorb(&mut self, claimed: XetHash, body: &[u8]) -> Result<()> {
        let xorb = Xorb::read_claimed(body, claimed)?;
        let mut raw = Vec::new();
        for span in xorb.spans() {
            raw.extend(span.unpack(body)?);
        }
        let leaves = xorb.spans().iter().map(|span| span.leaf()).collect();
        self.xorbs.insert(claimed, (leaves, raw));
        Ok(())
    }

    fn take_shard(&mut self, body: &[u8]) -> Result<()> {
        let shard = Shard::read(body)?;
        let known = |hash: &XetHash| {
            let found = self.xorbs.get(hash).map(|(leaves, _)| leaves.as_slice());
            found.ok_or(Error::UnknownXorb(*hash))
        };
        for xorb in &shard.xorbs {
            xorb.verify()?;
            assert_eq!(xorb.leaves(), known(&xorb.hash)?);
        }
        for file in &shard.files {
            file.verify(&known)?;
        }
        for file in shard.files {
            let term = |s: Segment| Term {
                xorb: s.xorb,
                chunks: s.chunks,
                raw_len: s.raw_len.into(),
            };
            let terms = file.segments.into_iter().map(term).collect();
            self.files.insert(file.hash, terms);
        }
        Ok(())
    }

    fn virtual_xorb(&self, hash: &XetHash) -> Result<Arc<VirtualXorb>> {
        let (leaves, _) = self.xorbs.get(hash).ok_or(Error::UnknownXorb(*hash))?;
        let lens = leaves.iter().map(|leaf| u32::try_from(leaf.1).unwrap());
        Ok(Arc::new(VirtualXorb::new(lens)?))
    }

    fn answer(&self, file: &XetHash, range: ByteRange) -> Result<[Value; 2]> {
        let plan = Plan::new(&self.files[file], range, &mut |xorb| {
            self.virtual_xorb(xorb)
        })?;
        let url = |xorb: &XetHash| xorb.to_string();
        let v1 = serde_json::to_value(plan.v1(&url)).unwrap();
        Ok([v1, serde_json::to_value(plan.v2(&url)).unwrap()])
    }

    /// Bytes `start` to `end`, the last included, of a xorb by its address.
    fn fetch(&self, url: &str, start: u64, end: u64) -> Vec<u8> {
        let hash: XetHash = url.parse().unwrap();
        let range = ByteRange {
            start,
            end: end + 1,
        };
        let pieces = self.virtual_xorb(&hash).unwrap().pieces(range).unwrap();
        let raw = &self.xorbs[&hash].1;
        let at = |n: u64| usize::try_from(n).unwrap();
        let bytes = pieces.into_iter().flat_map(|piece| match piece {
            Piece::Head(head) => head,
            Piece::Raw(range) => raw[at(range.start)..at(range.end)].to_vec(),
        });
        bytes.collect()
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// What a client makes of an answer: it fetches each run, reads it as a xorb, and takes from it the
/// chunks that a term names.
fn download(server: &Server, answer: &Value, is_v2: bool, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for term in answer["terms"].as_array().unwrap() {
        let hash = term["hash"].as_str().unwrap();
        let [start, end] = ["start", "end"].map(|key| number(&term["range"][key]));
        let fetches = match is_v2 {
            true => &answer["xorbs"][hash],
            false => &answer["fetch_info"][hash],
        };
        let runs = fetches.as_array().unwrap().iter().map(|fetch| {
            let (chunks, range) = match is_v2 {
                true => (&fetch["ranges"][0]["chunks"], &fetch["ranges"][0]["bytes"]),
                false => (&fetch["range"], &fetch["url_range"]),
            };
            let url = fetch["url"].as_str().unwrap();
            (number(&chunks["start"]), number(&chunks["end"]), url, range)
        });
        let mut holding = runs.filter(|(from, upto, ..)| *from <= start && end <= *upto);
        let (from, _, url, range) = holding.next().expect("each term can be fetched");
        let body = server.fetch(url, number(&range["start"]), number(&range["end"]));
        let run = Xorb::read(&body).unwrap();
        let [skip, n] = [start - from, end - start].map(|n| usize::try_from(n).unwrap());
        let before = bytes.len();
        for span in run.spans().iter().skip(skip).take(n) {
            bytes.extend(span.unpack(&body).unwrap());
        }
        assert_eq!(
            (bytes.len() - before) as u64,
            number(&term["unpacked_length"])
        );
    }
    let skip = usize::try_from(number(&answer["offset_into_first_range"])).unwrap();
    bytes.drain(..skip);
    bytes.truncate(len);
    bytes
}

fn send(server: &mut Server, upload: &Upload) {
    for (hash, body) in &upload.xorbs {
        server.take_xorb(*hash, body).unwrap();
    }
    server.take_shard(&upload.shard).unwrap();
}

/// Floats that pack well, then noise.
fn content(len: usize) -> Vec<u8> {
    let floats = (0..u16::MAX).flat_map(|i| f32::from(i).to_le_bytes());
    let mut bytes: Vec<u8> = floats.take(len / 2).collect();
    bytes.extend(noise(5, len - bytes.len()));
    bytes
}

fn client() -> Client {
    Client {
        xorb_chunks: 5,
        ..Client::default()
    }
}

#[test]
fn a_file_comes_back_by_both_versions() {
    for scheme in [Scheme::None, Scheme::Lz4, Scheme::Bg4Lz4] {
        let (mut server, bytes) = (Server::default(), content(900_000));
        let upload = client().upload(&bytes, scheme);
        assert!(upload.xorbs.len() > 1);
        assert_eq!(upload.new_len, bytes.len());
        send(&mut server, &upload);
        let [v1, v2] = server
            .answer(&upload.file, ByteRange::all(900_000))
            .unwrap();
        assert!(download(&server, &v1, false, bytes.len()) == bytes);
        assert!(download(&server, &v2, true, bytes.len()) == bytes);
    }
}

/// Forty bytes put into the middle cost the chunk that they are in.
#[test]
fn an_insertion_costs_little() {
    let (mut server, mut client, mut bytes) = (Server::default(), client(), noise(9, 3 << 20));
    send(&mut server, &client.upload(&bytes, Scheme::Lz4));
    bytes.splice(1_000_000..1_000_000, [1; 40]);
    let upload = client.upload(&bytes, Scheme::Lz4);
    assert!(upload.new_len < 3 * (128 << 10), "{}", upload.new_len);
    send(&mut server, &upload);
    let len = bytes.len() as u64;
    let [v1, _] = server.answer(&upload.file, ByteRange::all(len)).unwrap();
    assert!(download(&server, &v1, false, bytes.len()) == bytes);
    // And the same again costs nothing.
    let again = client.upload(&bytes, Scheme::Lz4);
    assert_eq!((again.new_len, again.xorbs.len()), (0, 0));
    server.take_shard(&again.shard).unwrap();
}

/// A file of the same chunk over and over refers to it over and over.
#[test]
fn repeated_chunks_are_sent_once() {
    let (mut server, bytes) = (Server::default(), vec![0xff; 1 << 20]);
    let upload = client().upload(&bytes, Scheme::Lz4);
    assert_eq!(upload.new_len, 128 << 10);
    send(&mut server, &upload);
    let [v1, v2] = server
        .answer(&upload.file, ByteRange::all(1 << 20))
        .unwrap();
    assert_eq!(v1["terms"].as_array().unwrap().len(), 8);
    assert!(download(&server, &v1, false, bytes.len()) == bytes);
    assert!(download(&server, &v2, true, bytes.len()) == bytes);
}

#[test]
fn lying_clients_are_refused() {
    let (mut server, bytes) = (Server::default(), content(300_000));
    let upload = client().upload(&bytes, Scheme::Bg4Lz4);
    let early = server.take_shard(&upload.shard).unwrap_err();
    assert!(matches!(early, Error::UnknownXorb(_)), "{early}");
    let (hash, body) = &upload.xorbs[0];
    let lie = server.take_xorb(upload.file, body).unwrap_err();
    assert!(matches!(lie, Error::WrongHash { .. }), "{lie}");
    let mut changed = body.clone();
    changed[8] ^= 1;
    server.take_xorb(*hash, &changed).unwrap_err();
    assert!(server.xorbs.is_empty());
    for (hash, body) in &upload.xorbs {
        server.take_xorb(*hash, body).unwrap();
    }
    // Another file's hash over the same chunks.
    let mut shard = Shard::read(&upload.shard).unwrap();
    shard.files[0].hash = *hash;
    let lie = server.take_shard(&shard.write()).unwrap_err();
    assert!(
        matches!(lie, Error::WrongHash { what: "file", .. }),
        "{lie}"
    );
    assert!(server.files.is_empty());
    server.take_shard(&upload.shard).unwrap();
}

#[test]
fn an_empty_file_has_no_chunk() {
    let mut server = Server::default();
    let upload = client().upload(&[], Scheme::Lz4);
    assert_eq!((upload.file, upload.xorbs.len()), (XetHash::default(), 0));
    send(&mut server, &upload);
    let [v1, v2] = server.answer(&upload.file, ByteRange::all(0)).unwrap();
    for answer in [v1, v2] {
        assert_eq!(answer["terms"], serde_json::json!([]));
        assert_eq!(answer["offset_into_first_range"], 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any range of a file that was changed in between comes back.
    #[test]
    fn ranges_come_back(cuts in prop::array::uniform2(0usize..400_000), at in 0usize..400_000) {
        let (mut server, mut client, mut bytes) = (Server::default(), client(), content(400_000));
        send(&mut server, &client.upload(&bytes, Scheme::Lz4));
        bytes.splice(at..at, *b"inserted");
        let upload = client.upload(&bytes, Scheme::Lz4);
        send(&mut server, &upload);
        let (start, end) = (cuts[0].min(cuts[1]), cuts[0].max(cuts[1]) + 1);
        let range = ByteRange { start: start as u64, end: end as u64 };
        let [v1, v2] = server.answer(&upload.file, range).unwrap();
        prop_assert!(download(&server, &v1, false, end - start) == bytes[start..end]);
        prop_assert!(download(&server, &v2, true, end - start) == bytes[start..end]);
    }
}

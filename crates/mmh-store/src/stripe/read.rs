//! Reading objects of a stripe: from data shards alone if they are whole, else made again from
//! others.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures::future::join_all;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt, Result};

use super::layout::{Layout, Row};
use super::shard::{
    Head, SHARD_HEAD_LEN, SHARD_PIECE_LEN, SHARD_START_LEN, file_len, file_range, object_tag,
    to_usize,
};
use super::{Stripe, is_fixed, shard_path};

/// Why a shard cannot be had.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its store is not there.
    Lost,
    /// Its store has no such shard.
    Missing,
    /// It is not what was written.
    Bad(String),
    /// Its store does not answer.
    Engine(object_store::Error),
}

/// An object that is there.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name, length and age.
    pub meta: ObjectMeta,
    /// All of it, if it is short and copied.
    pub bytes: Option<Bytes>,
}

/// A failure of a stripe as a whole, for callers of its engine.
pub(super) fn failure(kind: io::ErrorKind, what: impl Into<String>) -> object_store::Error {
    object_store::Error::Generic {
        store: "stripe",
        source: Box::new(io::Error::new(kind, what.into())),
    }
}

pub(super) fn not_found(name: &str) -> object_store::Error {
    object_store::Error::NotFound {
        path: name.to_owned(),
        source: "no store of the stripe has it".into(),
    }
}

/// What to tell of faults that together are too many.
pub(super) fn beyond(name: &str, faults: Vec<Fault>) -> object_store::Error {
    let mut bad = None;
    for fault in faults {
        match fault {
            Fault::Engine(error) => return error,
            Fault::Bad(reason) => bad = Some(reason),
            Fault::Lost | Fault::Missing => {}
        }
    }
    match bad {
        Some(reason) => {
            let what = format!("too few shards of {name} are whole: {reason}");
            failure(io::ErrorKind::InvalidData, what)
        }
        None => not_found(name),
    }
}

impl Stripe {
    /// The head that the shard of this number has.
    pub(super) fn head(&self, name: &str, layout: &Layout, number: usize) -> Head {
        let byte = |n: usize| u8::try_from(n).expect("a stripe has at most 32 stores");
        Head {
            data: byte(layout.data),
            parity: byte(layout.parity),
            number: byte(number),
            len: layout.len,
            object: object_tag(self.repository(), name),
        }
    }

    /// Bytes of the file of a shard; fewer if it ends before.
    async fn fetch(
        &self,
        number: usize,
        name: &str,
        range: Range<u64>,
    ) -> std::result::Result<(Bytes, ObjectMeta), Fault> {
        let Ok(backend) = &self.members[number].backend else {
            return Err(Fault::Lost);
        };
        let path = shard_path(name).ok_or(Fault::Missing)?;
        let (len, end) = (range.end - range.start, range.end);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let got = match backend.objects().get_opts(&path, options).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Err(Fault::Missing),
            // Engines differ in what they say beyond the end; the length decides.
            Err(error) => {
                return Err(match backend.objects().head(&path).await {
                    Ok(meta) if meta.size < end => self.bad(number, name, "it is cut off"),
                    _ => Fault::Engine(error),
                });
            }
        };
        let (meta, sent) = (got.meta.clone(), got.range.clone());
        if sent.end.saturating_sub(sent.start) > len {
            return Err(Fault::Bad("more was sent than was asked for".to_owned()));
        }
        let bytes = got.bytes().await.map_err(Fault::Engine)?;
        Ok((bytes, meta))
    }

    /// Reads and checks the beginning of a shard.
    pub(super) async fn start(
        &self,
        number: usize,
        name: &str,
    ) -> std::result::Result<Found, Fault> {
        let wanted = match self.layout(name, 0).data {
            1 => SHARD_START_LEN,
            _ => SHARD_HEAD_LEN as u64,
        };
        let (file, mut meta) = self.fetch(number, name, 0..wanted).await?;
        let bad = |reason: &str| self.bad(number, name, reason);
        let head = Head::parse(&file).map_err(bad)?;
        let layout = self.layout(name, head.len);
        if head != self.head(name, &layout, number) {
            return Err(bad("it is another shard"));
        }
        if meta.size != file_len(layout.payload_len(number)) {
            return Err(bad("it has another length"));
        }
        let short = layout.data == 1 && head.len <= SHARD_PIECE_LEN;
        let bytes = match short {
            true => {
                let pieces = file.get(SHARD_HEAD_LEN..).unwrap_or_default();
                let piece = head.open_pieces(pieces, &(0..head.len));
                Some(
                    piece
                        .ok_or_else(|| bad("a checksum does not match"))?
                        .into(),
                )
            }
            false => None,
        };
        meta.location = name.into();
        meta.size = head.len;
        Ok(Found { meta, bytes })
    }

    fn bad(&self, number: usize, name: &str, reason: &str) -> Fault {
        self.met_damage().insert((name.to_owned(), number));
        Fault::Bad(format!("on {}: {reason}", self.members[number].place))
    }

    /// Looks for an object; `None` if too few shards of it are there for one that was acknowledged.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>> {
        let needed = self.layout(name, 0).data;
        let order = self.order(name);
        let (first, rest) = order.split_at(needed);
        let (mut found, mut n_good, mut faults): (Option<Found>, _, _) = (None, 0, Vec::new());
        for numbers in [first, rest] {
            let starts = numbers.iter().map(|number| self.start(*number, name));
            for start in join_all(starts).await {
                match (start, &found) {
                    (Ok(one), Some(before)) if one.meta.size != before.meta.size => {
                        faults.push(Fault::Bad("shards have different lengths".to_owned()));
                    }
                    (Ok(one), _) => {
                        n_good += 1;
                        found.get_or_insert(one);
                    }
                    (Err(fault), _) => faults.push(fault),
                }
            }
            if n_good >= needed {
                return Ok(found);
            }
        }
        let maybe = |fault: &&Fault| matches!(fault, Fault::Bad(_) | Fault::Engine(_));
        match n_good + faults.iter().filter(maybe).count() >= needed {
            true => Err(beyond(name, faults)),
            false => Ok(None),
        }
    }

    /// Like [`Stripe::find`], but may remember the length of what never changes.
    pub(super) async fn find_for_reading(&self, name: &str) -> Result<Found> {
        if let Some(meta) = self.metas().get(name) {
            let meta = meta.clone();
            return Ok(Found { meta, bytes: None });
        }
        let found = self.find(name).await?.ok_or_else(|| not_found(name))?;
        if is_fixed(name) {
            self.metas().put(name.to_owned(), found.meta.clone());
        }
        Ok(found)
    }

    /// Reads and checks a range of the payload of a shard.
    pub(super) async fn payload(
        &self,
        number: usize,
        name: &str,
        layout: &Layout,
        range: Range<u64>,
    ) -> std::result::Result<Vec<u8>, Fault> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let at = file_range(&range, layout.payload_len(number));
        let (file, _) = self.fetch(number, name, at.clone()).await?;
        let head = self.head(name, layout, number);
        let whole = file.len() as u64 == at.end - at.start;
        let opened = whole.then(|| head.open_pieces(&file, &range)).flatten();
        opened.ok_or_else(|| self.bad(number, name, "a checksum does not match"))
    }

    /// Reads a range of an object of this length.
    pub(super) async fn read(&self, name: &str, len: u64, range: Range<u64>) -> Result<Bytes> {
        let layout = self.layout(name, len);
        if layout.data > 1 {
            return self.read_coded(name, &layout, range).await;
        }
        let mut faults = Vec::new();
        for number in self.order(name) {
            match self.payload(number, name, &layout, range.clone()).await {
                Ok(bytes) => return Ok(bytes.into()),
                Err(fault) => faults.push(fault),
            }
        }
        Err(beyond(name, faults))
    }

    /// Like [`Stripe::read`], with zeros for what too little is left of.
    pub(super) async fn read_rest(&self, name: &str, len: u64, range: Range<u64>) -> Result<Bytes> {
        let is_damage = |error: &object_store::Error| {
            let kind = crate::error::kind_of_engine(error);
            kind == mmh_core::ErrorKind::Corrupt
        };
        match self.read(name, len, range.clone()).await {
            Err(error) if is_damage(&error) => {}
            read => return read,
        }
        let mut out = Vec::with_capacity(to_usize(range.end - range.start));
        let mut at = range.start;
        while at < range.end {
            let end = (at + SHARD_PIECE_LEN).min(range.end);
            match self.read(name, len, at..end).await {
                Ok(bytes) => out.extend_from_slice(&bytes),
                Err(error) if is_damage(&error) => out.resize(out.len() + to_usize(end - at), 0),
                Err(error) => return Err(error),
            }
            at = end;
        }
        Ok(out.into())
    }

    async fn read_coded(&self, name: &str, layout: &Layout, range: Range<u64>) -> Result<Bytes> {
        let extents = layout.extents(&range);
        // In the payload of each shard the extents lie one behind the other.
        let mut spans: BTreeMap<usize, Range<u64>> = BTreeMap::new();
        for extent in &extents {
            let at = layout.row(extent.row).at;
            let (start, end) = (at + extent.block.start, at + extent.block.end);
            let span = spans.entry(extent.number).or_insert(start..end);
            span.end = end;
        }
        let read = spans.iter().map(|(number, span)| async move {
            let bytes = self.payload(*number, name, layout, span.clone()).await;
            (*number, bytes)
        });
        let (mut there, mut gone, mut faults) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for (number, bytes) in join_all(read).await {
            match bytes {
                Ok(bytes) => drop(there.insert(number, bytes)),
                Err(fault) => {
                    gone.insert(number);
                    faults.push(fault);
                }
            }
        }
        let mut made: BTreeMap<(u64, usize), (u64, Vec<u8>)> = BTreeMap::new();
        for (row, window) in windows(layout, &extents, &gone) {
            let blocks = self
                .restore(name, layout, (row, &window), (&gone, &mut faults))
                .await?;
            for (number, block) in blocks {
                made.insert((row, number), (window.start, block));
            }
        }
        let mut out = Vec::with_capacity(to_usize(range.end - range.start));
        for extent in extents {
            let (start, bytes) = match there.get(&extent.number) {
                Some(bytes) => {
                    let at = layout.row(extent.row).at + extent.block.start;
                    (at - spans[&extent.number].start, bytes)
                }
                None => {
                    let made = made.get(&(extent.row, extent.number));
                    let (at, bytes) = made.ok_or_else(|| not_found(name))?;
                    (extent.block.start - at, bytes)
                }
            };
            let end = start + extent.block.end - extent.block.start;
            out.extend_from_slice(&bytes[to_usize(start)..to_usize(end)]);
        }
        Ok(out.into())
    }

    /// Makes a window of the blocks of a row again that are gone.
    async fn restore(
        &self,
        name: &str,
        layout: &Layout,
        (no, window): (u64, &Range<u64>),
        (gone, faults): (&BTreeSet<usize>, &mut Vec<Fault>),
    ) -> Result<Vec<(usize, Vec<u8>)>> {
        let row = layout.row(no);
        let mut given = Vec::new();
        let mut left = (0..layout.n()).filter(|number| !gone.contains(number));
        while given.len() < layout.data {
            let some: Vec<usize> = left.by_ref().take(layout.data - given.len()).collect();
            if some.is_empty() {
                return Err(beyond(name, std::mem::take(faults)));
            }
            let read = some.into_iter().map(|number| async move {
                let block = self.block(number, name, (layout, &row), window).await;
                block.map(|block| (number, block))
            });
            for block in join_all(read).await {
                match block {
                    Ok(block) => given.push(block),
                    Err(fault) => faults.push(fault),
                }
            }
        }
        let layout = *layout;
        let made = tokio::task::spawn_blocking(move || layout.decode(&given)).await?;
        made.map_err(|error| failure(io::ErrorKind::Other, error.to_string()))
    }

    /// A window of a block, with the zeros that are not stored.
    async fn block(
        &self,
        number: usize,
        name: &str,
        (layout, row): (&Layout, &Row),
        window: &Range<u64>,
    ) -> std::result::Result<Vec<u8>, Fault> {
        let stored = layout.stored_len(row, number);
        let end = window.end.min(stored).max(window.start);
        let range = row.at + window.start..row.at + end;
        let mut block = self.payload(number, name, layout, range).await?;
        block.resize(to_usize(window.end - window.start), 0);
        Ok(block)
    }
}

/// For each row with extents on shards that are gone the part of its blocks that holds them all,
/// in whole pieces.
fn windows(
    layout: &Layout,
    extents: &[super::layout::Extent],
    gone: &BTreeSet<usize>,
) -> BTreeMap<u64, Range<u64>> {
    let mut windows: BTreeMap<u64, Range<u64>> = BTreeMap::new();
    for extent in extents
        .iter()
        .filter(|extent| gone.contains(&extent.number))
    {
        let end = extent.block.end.next_multiple_of(SHARD_PIECE_LEN);
        let start = extent.block.start / SHARD_PIECE_LEN * SHARD_PIECE_LEN;
        let end = end.min(layout.row(extent.row).block_len);
        let window = windows.entry(extent.row).or_insert(start..end);
        *window = window.start.min(start)..window.end.max(end);
    }
    windows
}

//! Symbols of at most 32 kinds, coded by an engine in blocks, with a distribution for each class.

use std::ops::Range;

use super::blob::{put_blob, read_blob};
use super::segments::{Segments, blocks, n_blocks};
use crate::cluster::{Clusters, Histogram};
use crate::entropy::{
    Alphabet, CLASSES_MAX, Classes, DecodeSet, EncodeSet, Engine, Kernels, LANES, Levels,
    put_tables, read_tables,
};
use crate::error::{Error, Result, corrupt};
use crate::input::{Input, put_sized, put_varint};
use crate::zstd::{Packer, Unpacker};

/// The smallest alphabet with `n` symbols.
pub(crate) fn alphabet_of(n: usize) -> Alphabet {
    if n <= Alphabet::Sixteen.size() {
        Alphabet::Sixteen
    } else {
        Alphabet::ThirtyTwo
    }
}

/// Counts the symbols of each segment.
pub(crate) fn histograms(symbols: &[u8], segments: Segments, kernels: &Kernels) -> Vec<Histogram> {
    segments
        .ranges(symbols.len())
        .map(|range| (kernels.count)(&symbols[range]))
        .collect()
}

/// Symbols, and the classes of their segments.
#[derive(Debug)]
pub(crate) struct Classified<'a> {
    pub(crate) symbols: &'a [u8],
    pub(crate) alphabet: Alphabet,
    pub(crate) segments: Segments,
    pub(crate) clusters: &'a Clusters,
}

/// Appends symbols, each segment with its class.
pub(crate) fn put_symbols(
    engine: &dyn Engine,
    plane: &Classified<'_>,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) -> Result<()> {
    let Classified {
        symbols,
        alphabet,
        segments,
        clusters,
    } = *plane;
    put_varint(out, clusters.levels.len());
    put_sized(out, &put_tables(&clusters.levels, alphabet));
    if clusters.levels.len() > 1 {
        segments.put(out);
        put_blob(&clusters.ids, packer, out)?;
    }
    let groups = segments.spread(&clusters.ids, symbols.len());
    let set = EncodeSet::new(&clusters.levels, alphabet);
    put_blocks(engine, &set, Classes::Groups(&groups), symbols, out)
}

/// Fills `symbols` from what [`put_symbols`] wrote.
pub(crate) fn read_symbols(
    engine: &dyn Engine,
    input: &mut Input<'_>,
    alphabet: Alphabet,
    unpacker: &mut Unpacker,
    symbols: &mut [u8],
) -> Result<()> {
    let coded = CodedSymbols::read(input, alphabet, unpacker, symbols.len())?;
    for (i, block) in blocks(symbols.len()).enumerate() {
        coded.block(engine, i, block.clone(), &mut symbols[block])?;
    }
    Ok(())
}

/// What [`put_symbols`] wrote, its blocks not decoded yet.
#[derive(Debug)]
pub(crate) struct CodedSymbols<'a> {
    set: DecodeSet,
    groups: Vec<u8>,
    blocks: Vec<&'a [u8]>,
}

impl<'a> CodedSymbols<'a> {
    /// Reads everything but the blocks, of which it notes where they lie; `n` symbols are coded.
    pub(crate) fn read(
        input: &mut Input<'a>,
        alphabet: Alphabet,
        unpacker: &mut Unpacker,
        n: usize,
    ) -> Result<Self> {
        let set = read_set(input, alphabet)?;
        let groups = if set.tables.len() > 1 {
            let segments = Segments::read(input)?;
            let ids = read_blob(input, segments.count(n), unpacker)?;
            segments.spread(&ids, n)
        } else {
            vec![0; n.div_ceil(LANES)]
        };
        let blocks = split_blocks(input, n)?;
        Ok(Self {
            set,
            groups,
            blocks,
        })
    }

    /// Whether a block could have a symbol from `n_values` on.
    pub(crate) fn may_exceed(&self, n_values: usize) -> bool {
        let mut tables = self.set.tables.iter();
        tables.any(|table| {
            let mut entries = table.entries.as_flattened().iter();
            entries.any(|entry| entry >> 20 > 0 && usize::from(entry.to_le_bytes()[0]) >= n_values)
        })
    }

    /// The set, the classes of the groups of block `i`, which has these of all symbols, and the block.
    pub(crate) fn parts(&self, i: usize, range: Range<usize>) -> (&DecodeSet, &[u8], &[u8]) {
        let groups = &self.groups[range.start / LANES..range.end.div_ceil(LANES)];
        (&self.set, groups, self.blocks[i])
    }

    /// Decodes block `i`, which has these of all symbols.
    pub(crate) fn block(
        &self,
        engine: &dyn Engine,
        i: usize,
        range: Range<usize>,
        symbols: &mut [u8],
    ) -> Result<()> {
        let classes = of_block(Classes::Groups(&self.groups), range.start, range.end);
        engine.decode(&self.set, classes, self.blocks[i], symbols)
    }
}

/// Appends `symbols`, each with the class that `context` names. `levels` has one distribution
/// for each.
pub(crate) fn put_in_context(
    engine: &dyn Engine,
    symbols: &[u8],
    context: &[u8],
    (levels, alphabet): (&[Levels], Alphabet),
    out: &mut Vec<u8>,
) -> Result<()> {
    put_varint(out, levels.len());
    put_sized(out, &put_tables(levels, alphabet));
    let set = EncodeSet::new(levels, alphabet);
    put_blocks(engine, &set, Classes::Symbols(context), symbols, out)
}

/// Fills `symbols` from what [`put_in_context`] wrote.
pub(crate) fn read_in_context(
    engine: &dyn Engine,
    input: &mut Input<'_>,
    alphabet: Alphabet,
    context: &[u8],
    symbols: &mut [u8],
) -> Result<()> {
    let set = read_set(input, alphabet)?;
    read_blocks(engine, &set, Classes::Symbols(context), input, symbols)
}

/// What [`put_in_context`] wrote, its blocks not decoded yet.
#[derive(Debug)]
pub(super) struct CodedInContext<'a> {
    set: DecodeSet,
    blocks: Vec<&'a [u8]>,
}

impl<'a> CodedInContext<'a> {
    /// Reads everything but the blocks; `n` symbols are coded.
    pub(super) fn read(input: &mut Input<'a>, alphabet: Alphabet, n: usize) -> Result<Self> {
        let set = read_set(input, alphabet)?;
        let blocks = split_blocks(input, n)?;
        Ok(Self { set, blocks })
    }

    /// Decodes block `i`, by the context of each of its symbols.
    pub(super) fn block(
        &self,
        engine: &dyn Engine,
        i: usize,
        context: &[u8],
        symbols: &mut [u8],
    ) -> Result<()> {
        engine.decode(
            &self.set,
            Classes::Symbols(context),
            self.blocks[i],
            symbols,
        )
    }
}

pub(super) fn read_set(input: &mut Input<'_>, alphabet: Alphabet) -> Result<DecodeSet> {
    let n_classes = input.varint()?;
    if n_classes == 0 {
        return Err(Error::UnknownCode {
            what: "number of classes",
            code: 0,
        });
    }
    if n_classes > CLASSES_MAX {
        return corrupt("the number of classes is out of range");
    }
    let levels = read_tables(input.sized()?, n_classes, alphabet)?;
    Ok(DecodeSet::new(&levels, alphabet))
}

/// The part of `classes` that belongs to a block.
fn of_block(classes: Classes<'_>, start: usize, end: usize) -> Classes<'_> {
    match classes {
        Classes::Groups(groups) => Classes::Groups(&groups[start / LANES..end.div_ceil(LANES)]),
        Classes::Symbols(each) => Classes::Symbols(&each[start..end]),
    }
}

/// The lengths of all blocks but the last, then the blocks to the end of the input.
pub(super) fn put_blocks(
    engine: &dyn Engine,
    set: &EncodeSet,
    classes: Classes<'_>,
    symbols: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    // Most lengths take three bytes; the blocks move if these do not.
    const ROOM: usize = 3;
    let last = n_blocks(symbols.len()) - 1;
    let room = out.len()..out.len() + ROOM * last;
    out.resize(room.end, 0);
    let mut lens = Vec::new();
    for (i, block) in blocks(symbols.len()).enumerate() {
        let classes = of_block(classes, block.start, block.end);
        let start = out.len();
        engine.encode(set, classes, &symbols[block], out)?;
        if i < last {
            put_varint(&mut lens, out.len() - start);
        }
    }
    out.splice(room, lens);
    Ok(())
}

pub(super) fn read_blocks(
    engine: &dyn Engine,
    set: &DecodeSet,
    classes: Classes<'_>,
    input: &mut Input<'_>,
    symbols: &mut [u8],
) -> Result<()> {
    let coded = split_blocks(input, symbols.len())?;
    for (block, coded) in blocks(symbols.len()).zip(coded) {
        let classes = of_block(classes, block.start, block.end);
        engine.decode(set, classes, coded, &mut symbols[block])?;
    }
    Ok(())
}

/// The blocks of `n` symbols, the last to the end of the input.
fn split_blocks<'a>(input: &mut Input<'a>, n: usize) -> Result<Vec<&'a [u8]>> {
    let mut lens = Vec::new();
    for _ in 1..n_blocks(n) {
        lens.push(input.varint()?);
    }
    let mut blocks = Vec::with_capacity(lens.len() + 1);
    for len in lens {
        blocks.push(input.take(len)?);
    }
    blocks.push(input.take_rest());
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::super::segments::{BLOCK_LEN, Rows};
    use super::*;
    use crate::cluster::{Effort, cluster};
    use crate::entropy::Reference;

    fn symbols(n: usize) -> Vec<u8> {
        let mut state = 7u32;
        (0..n)
            .map(|i| {
                state = state.wrapping_mul(0x915f_77f5).wrapping_add(12_345);
                let spread = if i / 512 % 2 == 0 { 2 } else { 9 };
                u8::try_from((state >> 24) % spread + (state >> 16) % spread).unwrap()
            })
            .collect()
    }

    /// Lengths around groups, blocks and the half block that joins the last one.
    #[test]
    fn symbols_with_classes_come_back() {
        for n in [1, 64, 100, 5000, BLOCK_LEN + 70_000, 2 * BLOCK_LEN + 63] {
            let symbols = symbols(n);
            let segments = Segments::of_rows(Rows::new(512, 0));
            let found = cluster(
                &histograms(&symbols, segments, &Kernels::PORTABLE),
                Alphabet::ThirtyTwo,
                Effort {
                    classes_max: 8,
                    rounds: 3,
                },
                &Kernels::PORTABLE,
            );
            let mut out = Vec::new();
            let (packer, unpacker) = (&mut Packer::new(3), &mut Unpacker::default());
            let alphabet = Alphabet::ThirtyTwo;
            let plane = Classified {
                symbols: &symbols,
                alphabet,
                segments,
                clusters: &found,
            };
            put_symbols(&Reference, &plane, packer, &mut out).unwrap();
            let mut back = vec![0; n];
            let mut input = Input::new(&out);
            read_symbols(
                &Reference,
                &mut input,
                Alphabet::ThirtyTwo,
                unpacker,
                &mut back,
            )
            .unwrap();
            input.expect_end().unwrap();
            assert_eq!(back, symbols, "{n}");
            for cut in [0, 1, 2, out.len() / 2, out.len() - 1] {
                let mut input = Input::new(&out[..cut]);
                let all = Alphabet::ThirtyTwo;
                assert!(read_symbols(&Reference, &mut input, all, unpacker, &mut back).is_err());
            }
        }
    }

    #[test]
    fn histograms_count_each_segment() {
        let found = histograms(
            &[3; 130],
            Segments::of_rows(Rows::new(64, 0)),
            &Kernels::PORTABLE,
        );
        assert_eq!(found.iter().map(|h| h[3]).collect::<Vec<_>>(), [64, 64, 2]);
    }

    #[test]
    fn more_classes_than_may_be_are_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, 33);
        put_sized(&mut out, &[0; 5]);
        assert!(read_set(&mut Input::new(&out), Alphabet::Sixteen).is_err());
        assert!(read_set(&mut Input::new(&[0, 0]), Alphabet::Sixteen).is_err());
    }
}

//! The Reed–Solomon code over GF(2^16) of the crate `reed-solomon-simd` (Leopard: Lin, Al-Naffouri,
//! Han and Chung, "Novel Polynomial Basis With Fast Fourier Transform and Its Application to
//! Reed–Solomon Erasure Codes", 2016), always in its form for few recovery blocks ("high rate").
//!
//! The encoder here is fed block by block and holds a few times the recovery blocks, where the
//! crate's own holds all blocks; both give the same bytes, which a test compares.

use reed_solomon_simd::engine::{DefaultEngine, Engine, ShardsRefMut, utils};
use reed_solomon_simd::rate::{HighRateDecoder, RateDecoder};

use crate::error::{Error, Result};

/// The unit of the code's arithmetic in bytes; blocks are multiples of it.
const UNIT: usize = 64;

/// Most bytes that a decoder works on at once, unless one unit of each block is more.
const DECODER_LEN_MAX: usize = 160 << 20;

/// Makes recovery blocks of blocks that come one by one.
pub(crate) struct Encoder {
    engine: DefaultEngine,
    /// Units in a block.
    units: usize,
    n_recovery: usize,
    /// Blocks that are transformed at once: `n_recovery`, rounded up to a power of two.
    chunk: usize,
    /// The chunk that is being filled, and how far.
    work: Vec<[u8; UNIT]>,
    n_filled: usize,
    /// Blocks before it.
    n_before: usize,
    /// The sum of the transforms so far.
    sum: Vec<[u8; UNIT]>,
}

impl Encoder {
    /// For blocks of `block_len` bytes, a multiple of 64.
    pub(crate) fn new(block_len: usize, n_recovery: usize) -> Self {
        let (units, chunk) = (block_len / UNIT, n_recovery.next_power_of_two());
        Self {
            engine: DefaultEngine::new(),
            units,
            n_recovery,
            chunk,
            work: vec![[0; UNIT]; chunk * units],
            n_filled: 0,
            n_before: 0,
            sum: vec![[0; UNIT]; chunk * units],
        }
    }

    /// Takes the next block; a shorter one is filled up with zeros.
    pub(crate) fn push(&mut self, block: &[u8]) {
        let start = self.n_filled * self.units;
        let place = self.work[start..start + self.units].as_flattened_mut();
        let (bytes, rest) = place.split_at_mut(block.len());
        bytes.copy_from_slice(block);
        rest.fill(0);
        self.n_filled += 1;
        if self.n_filled == self.chunk {
            self.fold();
        }
    }

    /// Adds the transform of the chunk to the sum.
    fn fold(&mut self) {
        self.work[self.n_filled * self.units..].fill([0; UNIT]);
        let mut shards = ShardsRefMut::new(self.chunk, self.units, &mut self.work);
        let skew = self.n_before + self.chunk;
        self.engine
            .ifft(&mut shards, 0, self.chunk, self.n_filled, skew);
        utils::xor(&mut self.sum, &self.work);
        self.n_before += self.n_filled;
        self.n_filled = 0;
    }

    /// The recovery blocks, one after the other.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.n_filled > 0 {
            self.fold();
        }
        let mut shards = ShardsRefMut::new(self.chunk, self.units, &mut self.sum);
        self.engine
            .fft(&mut shards, 0, self.chunk, self.n_recovery, 0);
        self.sum.truncate(self.n_recovery * self.units);
        self.sum.into_flattened()
    }
}

/// Makes missing blocks again, a column of all blocks at a time.
pub(crate) struct Decoder(HighRateDecoder<DefaultEngine>);

impl Decoder {
    /// Bytes of each block that are decoded at once, so that memory stays bounded.
    pub(crate) fn column_len(n_blocks: usize, n_recovery: usize, block_len: usize) -> usize {
        let shards = (n_blocks + n_recovery.next_power_of_two()).next_power_of_two();
        let fits = (DECODER_LEN_MAX / shards / UNIT * UNIT).max(UNIT);
        fits.min(block_len)
    }

    /// For a column of so many blocks.
    ///
    /// # Errors
    /// Internal if the code has no such form, which the geometry rules out.
    pub(crate) fn new(n_blocks: usize, n_recovery: usize, column_len: usize) -> Result<Self> {
        HighRateDecoder::new(n_blocks, n_recovery, column_len, DefaultEngine::new(), None)
            .map(Self)
            .map_err(refused)
    }

    /// Takes the column of a block that is whole.
    pub(crate) fn block(&mut self, index: usize, column: &[u8]) -> Result<()> {
        self.0.add_original_shard(index, column).map_err(refused)
    }

    /// Takes the column of a recovery block that is whole.
    pub(crate) fn recovery(&mut self, index: usize, column: &[u8]) -> Result<()> {
        self.0.add_recovery_shard(index, column).map_err(refused)
    }

    /// The columns of the blocks that were not given, with their numbers.
    pub(crate) fn finish(mut self) -> Result<Vec<(usize, Vec<u8>)>> {
        let restored = self.0.decode().map_err(refused)?;
        let columns = restored.restored_original_iter();
        Ok(columns
            .map(|(index, column)| (index, column.to_vec()))
            .collect())
    }
}

fn refused(error: reed_solomon_simd::Error) -> Error {
    Error::Internal {
        what: format!("the code refuses blocks: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reed_solomon_simd::rate::{HighRateEncoder, RateEncoder};

    use super::*;
    use crate::conformance::noise;

    fn blocks(n: usize, len: usize) -> Vec<Vec<u8>> {
        (0..n as u64).map(|seed| noise(seed, len)).collect()
    }

    fn encode(blocks: &[Vec<u8>], len: usize, n_recovery: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(len, n_recovery);
        blocks.iter().for_each(|block| encoder.push(block));
        encoder.finish()
    }

    /// The recovery blocks of the crate's own encoder: with another form of the code old packs
    /// would not heal.
    #[test]
    fn fed_block_by_block_the_code_is_the_same() {
        for (n, m) in [
            (1, 1),
            (1, 9),
            (9, 1),
            (5, 3),
            (16, 4),
            (17, 4),
            (200, 9),
            (300, 16),
        ] {
            let blocks = blocks(n, 128);
            let mut other = HighRateEncoder::new(n, m, 128, DefaultEngine::new(), None).unwrap();
            for block in &blocks {
                other.add_original_shard(block).unwrap();
            }
            let expected = other
                .encode()
                .unwrap()
                .recovery_iter()
                .collect::<Vec<_>>()
                .concat();
            assert_eq!(
                encode(&blocks, 128, m),
                expected,
                "{n} blocks, {m} for recovery"
            );
        }
    }

    /// Known bytes: a new version of the crate must not change them.
    #[test]
    fn the_code_is_fixed() {
        let digest = blake3::hash(&encode(&blocks(20, 512), 512, 5));
        assert_eq!(digest.to_hex()[..16], *"c9bc538ca9af69cc");
    }

    #[test]
    fn columns_bound_the_memory() {
        assert_eq!(Decoder::column_len(16_384, 492, 4096), 4096);
        assert_eq!(Decoder::column_len(32_768, 984, 32_768), 2560);
        assert_eq!(Decoder::column_len(1, 9, 512), 512);
        assert_eq!(Decoder::column_len(32_768, 16_384, 131_072) % UNIT, 0);
    }

    #[test]
    fn too_few_blocks_are_refused() {
        let mut decoder = Decoder::new(3, 2, 64).unwrap();
        decoder.block(0, &[1; 64]).unwrap();
        assert!(decoder.block(0, &[1; 64]).is_err(), "twice");
        assert!(decoder.recovery(2, &[1; 64]).is_err(), "there are two");
        assert!(decoder.finish().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn as_many_blocks_heal_as_there_is_recovery(
            n in 1..60usize, m in 1..20usize, order in any::<prop::sample::Index>(), seed: u64,
        ) {
            let len = 192;
            let blocks = blocks(n, len);
            let recovery = encode(&blocks, len, m);
            let lost = 1 + order.index(n.min(m));
            let gone = |i: usize| (i as u64).wrapping_mul(2_654_435_761).wrapping_add(seed);
            let mut numbers: Vec<usize> = (0..n).collect();
            numbers.sort_by_key(|i| gone(*i) % 1009);
            let missing = &numbers[..lost];
            // A column in the middle alone.
            let column = 64..128;
            let mut decoder = Decoder::new(n, m, 64).unwrap();
            for i in (0..n).filter(|i| !missing.contains(i)) {
                decoder.block(i, &blocks[i][column.clone()]).unwrap();
            }
            for i in m - lost..m {
                decoder.recovery(i, &recovery[i * len..][column.clone()]).unwrap();
            }
            let restored = decoder.finish().unwrap();
            prop_assert_eq!(restored.len(), lost);
            for (i, bytes) in restored {
                prop_assert_eq!(&bytes[..], &blocks[i][column.clone()]);
            }
        }
    }
}

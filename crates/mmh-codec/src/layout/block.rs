//! Blocks of packed fields as planes: a table of runs says which bits of a block are which
//! symbols of which plane.

/// Consecutive bytes of a block, each of which holds some bits of one symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first symbol, counted within the block.
    pub(crate) symbol: usize,
    /// From one symbol to the next.
    pub(crate) step: usize,
    /// The first byte of the block.
    pub(crate) byte: usize,
    /// Bytes, and so symbols.
    pub(crate) n: usize,
    /// Where the bits begin in each byte.
    pub(crate) shift: u32,
    /// How many bits.
    pub(crate) bits: u32,
    /// Where they go in the symbol.
    pub(crate) at: u32,
}

impl Run {
    pub(crate) const fn new(symbol: usize, byte: usize, n: usize) -> Self {
        Self {
            symbol,
            step: 1,
            byte,
            n,
            shift: 0,
            bits: 8,
            at: 0,
        }
    }

    /// Takes `bits` bits from bit `shift` on.
    pub(crate) const fn bits(self, shift: u32, bits: u32) -> Self {
        Self {
            shift,
            bits,
            ..self
        }
    }

    /// Puts them at bit `at` of the symbol.
    pub(crate) const fn at(self, at: u32) -> Self {
        Self { at, ..self }
    }

    pub(crate) const fn step(self, step: usize) -> Self {
        Self { step, ..self }
    }

    fn mask(self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }
}

/// One field of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// Bits of a symbol.
    pub(crate) width: u32,
    /// Symbols in a block.
    pub(crate) per_block: usize,
    /// Whether the top bit is inverted, so that signed numbers keep their order.
    pub(crate) signed: bool,
    pub(crate) runs: Vec<Run>,
}

/// How a block is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Bytes of a block.
    pub(crate) len: usize,
    /// Elements of the tensor in a block.
    pub(crate) elements: usize,
    pub(crate) fields: Vec<Field>,
}

impl Field {
    fn flip(&self) -> u16 {
        u16::from(self.signed) << (self.width - 1)
    }

    /// The field's plane of whole blocks.
    pub(crate) fn split(&self, raw: &[u8], block_len: usize) -> Vec<u16> {
        let mut values = vec![self.flip(); raw.len() / block_len * self.per_block];
        for run in &self.runs {
            let mask = run.mask();
            let take = |value: &mut u16, byte: &u8| {
                *value ^= u16::from(byte >> run.shift & mask) << run.at;
            };
            let (run, per_block, block_len) = whole(run, self.per_block, block_len, raw.len());
            let blocks = raw
                .chunks_exact(block_len)
                .zip(values.chunks_exact_mut(per_block));
            for (block, values) in blocks {
                let bytes = &block[run.byte..run.byte + run.n];
                if run.step == 1 {
                    let values = &mut values[run.symbol..run.symbol + run.n];
                    values
                        .iter_mut()
                        .zip(bytes)
                        .for_each(|(value, byte)| take(value, byte));
                } else {
                    let values = values[run.symbol..].iter_mut().step_by(run.step);
                    values
                        .zip(bytes)
                        .for_each(|(value, byte)| take(value, byte));
                }
            }
        }
        values
    }

    /// Writes the field into whole blocks, whose bits of this field must be zero.
    pub(crate) fn join(&self, values: &mut [u16], raw: &mut [u8], block_len: usize) {
        let flip = self.flip();
        values.iter_mut().for_each(|value| *value ^= flip);
        let len = raw.len();
        for run in &self.runs {
            let mask = run.mask();
            let put = |byte: &mut u8, value: &u16| {
                *byte |= ((value >> run.at).to_le_bytes()[0] & mask) << run.shift;
            };
            let (run, per_block, block_len) = whole(run, self.per_block, block_len, len);
            let blocks = raw
                .chunks_exact_mut(block_len)
                .zip(values.chunks_exact(per_block));
            for (block, values) in blocks {
                let bytes = &mut block[run.byte..run.byte + run.n];
                if run.step == 1 {
                    let values = &values[run.symbol..run.symbol + run.n];
                    bytes
                        .iter_mut()
                        .zip(values)
                        .for_each(|(byte, value)| put(byte, value));
                } else {
                    let values = values[run.symbol..].iter().step_by(run.step);
                    bytes
                        .iter_mut()
                        .zip(values)
                        .for_each(|(byte, value)| put(byte, value));
                }
            }
        }
    }
}

/// A run that covers its whole block is as well one run over all blocks.
fn whole(run: &Run, per_block: usize, block_len: usize, raw_len: usize) -> (Run, usize, usize) {
    let covers = run.n == block_len && run.n == per_block && run.step == 1;
    if covers && raw_len > 0 {
        let all = raw_len / block_len * block_len;
        (Run { n: all, ..*run }, all, all)
    } else {
        (*run, per_block, block_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(width: u32, per_block: usize, signed: bool, runs: Vec<Run>) -> Field {
        Field {
            name: "codes",
            width,
            per_block,
            signed,
            runs,
        }
    }

    #[test]
    fn halves_of_bytes_become_symbols_in_the_order_of_the_table() {
        let runs = vec![Run::new(0, 1, 2).bits(0, 4), Run::new(2, 1, 2).bits(4, 4)];
        let codes = field(4, 4, false, runs);
        let raw = [9, 0x21, 0x43, 8, 0x65, 0x87];
        let mut values = codes.split(&raw, 3);
        assert_eq!(values, [1, 3, 2, 4, 5, 7, 6, 8]);
        let mut back = [9, 0, 0, 8, 0, 0];
        codes.join(&mut values, &mut back, 3);
        assert_eq!(back, raw);
    }

    #[test]
    fn bits_of_one_symbol_may_come_from_two_places() {
        let runs = vec![
            Run::new(0, 0, 2).bits(0, 4),
            Run::new(0, 2, 1).bits(0, 1).at(4),
            Run::new(1, 2, 1).bits(7, 1).at(4),
        ];
        let codes = field(5, 2, false, runs);
        assert_eq!(codes.split(&[0x0a, 0x0b, 0x80], 3), [0x0a, 0x1b]);
    }

    #[test]
    fn a_step_spreads_consecutive_bytes() {
        let runs = vec![Run::new(0, 0, 2).step(2), Run::new(1, 2, 2).step(2)];
        assert_eq!(
            field(8, 4, false, runs).split(&[1, 2, 3, 4], 4),
            [1, 3, 2, 4]
        );
    }

    #[test]
    fn signed_bytes_keep_their_order() {
        let bytes = field(8, 1, true, vec![Run::new(0, 0, 1)]);
        let raw = [0x80, 0xff, 0, 1, 0x7f];
        let mut values = bytes.split(&raw, 1);
        assert_eq!(values, [0, 127, 128, 129, 255]);
        let mut back = [0; 5];
        bytes.join(&mut values, &mut back, 1);
        assert_eq!(back, raw);
        assert!(bytes.split(&[], 1).is_empty());
    }
}

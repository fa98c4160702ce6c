//! Where packed values lie in the 16 bytes that they begin in, for vectors that look bytes up.

/// For each width up to 8 bits, for the first 8 and the last 8 of 16 values: which 2 bytes each lies
/// in, and the power of two that moves it to the top of them.
pub(super) static BYTE_PLACES: [[[[u8; 16]; 2]; 2]; 9] = {
    let mut tables = [[[[0x80; 16]; 2]; 2]; 9];
    let mut width = 1;
    while width <= 8 {
        let mut i = 0u16;
        while i < 16 {
            let [byte, _] = (i * width / 8).to_le_bytes();
            let [low, high] = (1u16 << (16 - width - i * width % 8)).to_le_bytes();
            let half = &mut tables[width as usize][(i / 8) as usize];
            let at = 2 * (i % 8) as usize;
            half[0][at] = byte;
            if byte < 15 {
                half[0][at + 1] = byte + 1;
            }
            half[1][at] = low;
            half[1][at + 1] = high;
            i += 1;
        }
        width += 1;
    }
    tables
};

/// For each width up to 16 bits, for the first 4 and the last 4 of 8 values: which bytes each lies
/// in, and how far it is shifted.
pub(super) static WORD_PLACES: [[[[u8; 16]; 2]; 2]; 17] = {
    let mut tables = [[[[0x80; 16]; 2]; 2]; 17];
    let mut width = 1;
    while width <= 16 {
        let mut i = 0u16;
        while i < 8 {
            let [byte, _] = (i * width / 8).to_le_bytes();
            let [shift, _] = (i * width % 8).to_le_bytes();
            let half = &mut tables[width as usize][(i / 4) as usize];
            let at = 4 * (i % 4) as usize;
            let mut j = 0;
            while j < 4 {
                if byte + j < 16 {
                    half[0][at + j as usize] = byte + j;
                }
                half[1][at + j as usize] = 0;
                j += 1;
            }
            half[1][at] = shift;
            i += 1;
        }
        width += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::pack;
    use crate::samples::Noise;

    fn words(noise: &mut Noise) -> [u16; 16] {
        std::array::from_fn(|_| u16::from_le_bytes([noise.below(256), noise.below(256)]))
    }

    /// The byte of `packed` at a place; zero for places that no byte has.
    fn byte(packed: &[u8; 16], place: u8) -> u8 {
        packed.get(usize::from(place)).copied().unwrap_or(0)
    }

    fn packed(words: &[u16], width: u32) -> [u8; 16] {
        let mut bytes = Vec::new();
        pack(words, 0, width, &mut bytes);
        bytes.resize(16, 0xff);
        bytes.try_into().unwrap()
    }

    #[test]
    fn values_of_at_most_8_bits_come_to_the_top_of_two_bytes() {
        let noise = &mut Noise::new(41);
        for width in 1..=8 {
            let words = words(noise);
            let packed = packed(&words, width);
            let halves = &BYTE_PLACES[width as usize];
            for (half, words) in halves.iter().zip(words.as_chunks::<8>().0) {
                let (places, factors) = (half[0].as_chunks::<2>().0, half[1].as_chunks::<2>().0);
                for ((word, place), factor) in words.iter().zip(places).zip(factors) {
                    let found = u16::from_le_bytes(place.map(|place| byte(&packed, place)));
                    let top = found.wrapping_mul(u16::from_le_bytes(*factor));
                    assert_eq!(
                        top >> (16 - width),
                        word & ((1 << width) - 1),
                        "{width} bits"
                    );
                }
            }
        }
    }

    #[test]
    fn values_of_at_most_16_bits_are_shifted_down_in_four_bytes() {
        let noise = &mut Noise::new(42);
        for width in 1..=16 {
            let words = words(noise);
            let packed = packed(&words[..8], width);
            let halves = &WORD_PLACES[width as usize];
            for (half, words) in halves.iter().zip(words.as_chunks::<4>().0) {
                let (places, shifts) = (half[0].as_chunks::<4>().0, half[1].as_chunks::<4>().0);
                for ((word, place), shift) in words.iter().zip(places).zip(shifts) {
                    let found = u32::from_le_bytes(place.map(|place| byte(&packed, place)));
                    let value = found >> u32::from_le_bytes(*shift) & ((1 << width) - 1);
                    assert_eq!(value, u32::from(*word) & ((1 << width) - 1), "{width} bits");
                }
            }
        }
    }
}

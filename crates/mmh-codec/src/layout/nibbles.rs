//! Codes of 4 bits that are kept in wider integers.

use super::Layout;
use crate::log2::entropy;
use crate::settings::Hint;

/// Codes of 4 bits are often kept in wider integers, eight of them in one of 32 bits, say. Where
/// halves of bytes take no more than bytes by place, the hint for the halves.
pub(crate) fn of_nibbles(layout: Layout, raw: &[u8], hint: &Hint) -> Option<Hint> {
    const SAMPLE: usize = 4096;
    let Layout::Bytes(len) = layout else {
        return None;
    };
    let len = usize::from(len);
    let step = (raw.len() / SAMPLE / 16).max(1);
    let mut bytes = vec![[0u32; 256]; len];
    for piece in raw.chunks_exact(SAMPLE).step_by(step) {
        for (i, &byte) in piece.iter().enumerate() {
            bytes[i % len][usize::from(byte)] += 1;
        }
    }
    let mut halves = [0u32; 16];
    for counts in &bytes {
        for (byte, count) in counts.iter().enumerate() {
            halves[byte % 16] += count;
            halves[byte / 16] += count;
        }
    }
    let by_bytes: u64 = bytes.iter().map(|counts| entropy(counts)).sum();
    // What is the same everywhere has no halves to speak of.
    let fits = by_bytes > 0 && entropy(&halves) <= by_bytes + by_bytes / 512;
    let scaled = |n: u64| n.saturating_mul(2 * len as u64);
    fits.then(|| Hint {
        row_len: scaled(hint.row_len),
        first: scaled(hint.first),
        ..*hint
    })
}

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;

    use super::*;
    use crate::{Encoder, Settings, frame_info};

    #[test]
    fn codes_of_four_bits_are_found_in_wider_integers() {
        let noise = &mut crate::samples::Noise::new(2);
        let mut codes = || noise.below(16).min(noise.below(16));
        let packed: Vec<u8> = (0..1 << 16).map(|_| codes() << 4 | codes()).collect();
        let hint = Hint {
            first: 6,
            ..Hint::tensor(Dtype::I32, 96)
        };
        let found = of_nibbles(Layout::Bytes(4), &packed, &hint).unwrap();
        assert_eq!((found.row_len, found.first), (768, 48));
        let mut frame = Vec::new();
        let mut encoder = Encoder::new(Settings::default());
        encoder.encode(&packed, &hint, &mut frame).unwrap();
        assert_eq!(frame_info(&frame).unwrap().planes.len(), 1);
        let numbers: Vec<u8> = (0..1u32 << 14)
            .flat_map(|i| (i * 977 % 50_000).to_le_bytes())
            .collect();
        assert_eq!(of_nibbles(Layout::Bytes(4), &numbers, &hint), None);
        assert_eq!(of_nibbles(Layout::Bytes(1), &[5; 9000], &hint), None);
        assert_eq!(of_nibbles(Layout::SignedByte, &packed, &hint), None);
    }
}

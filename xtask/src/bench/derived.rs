//! Files that are made from corpus files, because no package ships them: the tensors of a model, all
//! or the first ones, as published or cast, in a safetensors file.

use std::fs;
use std::path::Path;

use mmh_core::Dtype;
use mmh_formats::ReadAt;
use mmh_formats::read_at::FileSource;
use serde_json::{Map, Value, json};

use crate::shell::{Context as _, Failure, Outcome};

/// What becomes of F32 numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    /// They stay.
    Keep,
    /// Rounded to bfloat16.
    Bf16,
    /// Rounded to binary16.
    F16,
    /// Rounded to bfloat16, and kept in 32 bits.
    Bf16InF32,
}

/// Writes the tensors of `source`, as many from the beginning as have at most `limit` bytes, to the
/// safetensors file `target`.
pub(crate) fn derive(source: &Path, target: &Path, cast: Cast, limit: u64) -> Outcome {
    let file = FileSource::new(fs::File::open(source).context(source.display())?)
        .context(source.display())?;
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let made = safetensors(&file, &name, cast, limit)
        .map_err(|why| Failure::failed(format!("{}: {why}", source.display())))?;
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).context(folder.display())?;
    }
    fs::write(target, made).context(target.display())
}

/// Writes a safetensors file with the tensors of another so many times over, each time with other names
/// and a bit changed in every 64 KiB, so that all chunks differ though they code alike.
pub(crate) fn enlarge(source: &Path, target: &Path, copies: u8) -> Outcome {
    let file = FileSource::new(fs::File::open(source).context(source.display())?)
        .context(source.display())?;
    let layout = mmh_formats::probe(&file, "model.safetensors").context(source.display())?;
    let (mut header, mut data) = (Map::new(), Vec::new());
    for copy in 0..copies {
        for (part, info) in layout.tensors() {
            let begin = data.len();
            data.resize(begin + usize::try_from(part.len).context(&info.name)?, 0);
            let tensor = &mut data[begin..];
            file.read_exact_at(tensor, part.offset)
                .context(source.display())?;
            for at in (0..tensor.len()).step_by(64 << 10) {
                tensor[at] ^= copy;
            }
            let place = json!({
                "dtype": info.dtype.as_str(), "shape": info.shape, "data_offsets": [begin, data.len()],
            });
            header.insert(format!("{copy}.{}", info.name), place);
        }
    }
    fs::write(target, assembled(header, &data)).context(target.display())
}

/// The bytes of a safetensors file.
fn assembled(header: Map<String, Value>, data: &[u8]) -> Vec<u8> {
    let mut text = Value::Object(header).to_string();
    text.push_str(&" ".repeat((8 - text.len() % 8) % 8));
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out.extend(data);
    out
}

/// The file's content; what is wrong with the source otherwise.
fn safetensors(source: &dyn ReadAt, name: &str, cast: Cast, limit: u64) -> Result<Vec<u8>, String> {
    let layout = mmh_formats::probe(source, name).map_err(|e| e.to_string())?;
    let (mut header, mut data, mut read) = (Map::new(), Vec::new(), 0);
    for (part, info) in layout.tensors() {
        read += part.len;
        if read > limit {
            break;
        }
        let len = usize::try_from(part.len).map_err(|e| e.to_string())?;
        let mut bytes = vec![0; len];
        source
            .read_exact_at(&mut bytes, part.offset)
            .map_err(|e| e.to_string())?;
        let (dtype, bytes) = match info.dtype {
            Dtype::F32 => cast.apply(bytes),
            other => (other, bytes),
        };
        let begin = data.len();
        data.extend(bytes);
        let tensor = json!({
            "dtype": dtype.as_str(), "shape": info.shape, "data_offsets": [begin, data.len()],
        });
        header.insert(info.name.clone(), tensor);
    }
    if header.is_empty() {
        return Err("no tensors".to_owned());
    }
    Ok(assembled(header, &data))
}

impl Cast {
    fn apply(self, bytes: Vec<u8>) -> (Dtype, Vec<u8>) {
        let numbers = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b));
        match self {
            Self::Keep => (Dtype::F32, bytes),
            Self::Bf16 => {
                let cast = numbers.flat_map(|x| bf16(x).to_le_bytes());
                (Dtype::BF16, cast.collect())
            }
            Self::F16 => (
                Dtype::F16,
                numbers.flat_map(|x| f16(x).to_le_bytes()).collect(),
            ),
            Self::Bf16InF32 => {
                let cast = numbers.flat_map(|x| (u32::from(bf16(x)) << 16).to_le_bytes());
                (Dtype::F32, cast.collect())
            }
        }
    }
}

/// The high half of `bits` rounded to nearest, ties to even. The published weights hold no NaN,
/// whose rounding would need a rule of its own.
fn bf16(bits: u32) -> u16 {
    low_half(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16)
}

/// binary32 to binary16, to nearest, ties to even (IEEE 754-2019, section 4.3.1); no NaN.
fn f16(bits: u32) -> u16 {
    let sign = bits >> 16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // 2^-14 is the least normal number of binary16, whose exponents are biased by 15 instead of 127.
    let rounded = if magnitude >= 113 << 23 {
        (magnitude - (112 << 23)).saturating_add(0xfff + (magnitude >> 13 & 1)) >> 13
    } else {
        // Beyond 25 all is rounded away.
        let shift = (126 - (magnitude >> 23)).min(40);
        let mantissa = magnitude & 0x7f_ffff | 0x80_0000;
        let half = 1u64 << (shift - 1);
        let odd = u64::from(mantissa) >> shift & 1;
        u32::try_from((u64::from(mantissa) + half - 1 + odd) >> shift).unwrap_or(0)
    };
    low_half(sign | rounded.min(0x7c00))
}

fn low_half(bits: u32) -> u16 {
    let [a, b, _, _] = bits.to_le_bytes();
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_and_ties_to_even() {
        assert_eq!(bf16(0x3f80_0000), 0x3f80);
        assert_eq!(bf16(0x3f80_8000), 0x3f80, "to the even neighbour below");
        assert_eq!(bf16(0x3f81_8000), 0x3f82, "to the even neighbour above");
        assert_eq!(bf16(0x3f80_8001), 0x3f81);
        assert_eq!(bf16(0x8000_0000), 0x8000);
    }

    /// Values from the tables of IEEE 754's binary16: normal, subnormal, ties, overflow.
    #[test]
    fn half_precision_rounds_at_every_border() {
        let cases: [(f32, u16); 14] = [
            (0.0, 0),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.0, 0x7bff),
            (65520.0, 0x7c00),
            (f32::INFINITY, 0x7c00),
            (6.103_515_6e-5, 0x0400),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (2.980_232_6e-8, 0x0001),
            (8.940_697e-8, 0x0002),
            (1.000_488_3, 0x3c00),
        ];
        for (value, bits) in cases {
            assert_eq!(f16(value.to_bits()), bits, "{value}");
        }
        assert_eq!(f16(1), 0, "a subnormal of binary32");
    }

    /// Every binary16 number comes back from binary32.
    #[test]
    fn half_precision_numbers_are_kept() {
        for bits in (0..0x7c00u16).step_by(7) {
            let (exponent, mantissa) = (i32::from(bits >> 10), f32::from(bits & 0x3ff) / 1024.0);
            let value = if exponent == 0 {
                mantissa * 2f32.powi(-14)
            } else {
                (1.0 + mantissa) * 2f32.powi(exponent - 15)
            };
            assert_eq!(f16(value.to_bits()), bits);
            assert_eq!(f16((-value).to_bits()), bits | 0x8000);
        }
    }

    #[test]
    fn casts_have_the_length_of_their_type() {
        let folder = tempfile::tempdir().unwrap();
        crate::fixture::tree(folder.path(), 1, 100_000).unwrap();
        let file = fs::read(folder.path().join("model.safetensors")).unwrap();
        for (cast, dtype) in [
            (Cast::Keep, "F32"),
            (Cast::Bf16, "BF16"),
            (Cast::F16, "F16"),
            (Cast::Bf16InF32, "F32"),
        ] {
            let out = safetensors(&file, "model.safetensors", cast, u64::MAX).unwrap();
            let header_len = usize::try_from(u64::from_le_bytes(*out.first_chunk().unwrap()));
            let (header, data) = out[8..].split_at(header_len.unwrap());
            let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
            assert_eq!(header["layer.0.weight"]["dtype"], dtype);
            let ends = header.values().map(|t| t["data_offsets"][1].as_u64());
            assert_eq!(ends.max().flatten(), Some(data.len() as u64), "{cast:?}");
        }
        let first = safetensors(&file, "model.safetensors", Cast::Keep, 50_000);
        assert!(first.is_ok_and(|first| first.len() < 60_000));
    }

    #[test]
    fn what_holds_no_tensors_is_refused() {
        for bad in [&b""[..], b"12345678", b"\x02\0\0\0\0\0\0\0[]"] {
            assert!(safetensors(&bad.to_vec(), "x", Cast::Keep, u64::MAX).is_err());
        }
    }
}

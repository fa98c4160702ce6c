//! Files that are made from corpus files, because no package ships them.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::shell::{Context as _, Failure, Outcome};

/// Rewrites a safetensors file with every F32 tensor rounded to BF16 (to nearest, ties to even).
pub(crate) fn cast_to_bf16(source: &Path, target: &Path) -> Outcome {
    let file = fs::read(source).context(source.display())?;
    let cast = cast(&file)
        .ok_or_else(|| Failure::failed(format!("{}: no safetensors", source.display())))?;
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).context(folder.display())?;
    }
    fs::write(target, cast).context(target.display())
}

/// The cast file; nothing if the input is not a well-formed safetensors file.
fn cast(file: &[u8]) -> Option<Vec<u8>> {
    let header_len = usize::try_from(u64::from_le_bytes(*file.first_chunk()?)).ok()?;
    let data_start = header_len.checked_add(8)?;
    let header: Map<String, Value> = serde_json::from_slice(file.get(8..data_start)?).ok()?;
    let mut spans = Vec::new();
    for (name, tensor) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let at = |idx: usize| usize::try_from(tensor["data_offsets"][idx].as_u64()?).ok();
        spans.push((at(0)?, at(1)?, name));
    }
    spans.sort_unstable();
    let (mut made, mut data) = (Map::new(), Vec::new());
    for (start, end, name) in spans {
        let bytes = file.get(data_start.checked_add(start)?..data_start.checked_add(end)?)?;
        let mut tensor = header[name].clone();
        let begin = data.len();
        if tensor["dtype"] == "F32" {
            data.extend(
                bytes
                    .chunks_exact(4)
                    .flat_map(|b| round([b[0], b[1], b[2], b[3]])),
            );
            tensor["dtype"] = "BF16".into();
        } else {
            data.extend_from_slice(bytes);
        }
        tensor["data_offsets"] = Value::from(vec![begin, data.len()]);
        made.insert(name.clone(), tensor);
    }
    let mut text = Value::Object(made).to_string();
    text.push_str(&" ".repeat((8 - text.len() % 8) % 8));
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out.extend(data);
    Some(out)
}

/// One F32 as BF16. The published weights hold no NaN, whose rounding would need a rule of its own.
fn round(bytes: [u8; 4]) -> [u8; 2] {
    let bits = u32::from_le_bytes(bytes);
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let [_, _, low, high] = rounded.to_le_bytes();
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_and_ties_to_even() {
        let rounded = |value: u32| u16::from_le_bytes(round(value.to_le_bytes()));
        assert_eq!(rounded(0x3f80_0000), 0x3f80);
        assert_eq!(
            rounded(0x3f80_8000),
            0x3f80,
            "a tie goes to the even neighbour below"
        );
        assert_eq!(
            rounded(0x3f81_8000),
            0x3f82,
            "and to the even neighbour above"
        );
        assert_eq!(rounded(0x3f80_8001), 0x3f81);
        assert_eq!(rounded(0x8000_0000), 0x8000);
    }

    #[test]
    fn the_cast_file_is_a_model_of_half_the_length() {
        let folder = tempfile::tempdir().unwrap();
        crate::fixture::tree(folder.path(), 1, 100_000).unwrap();
        let file = fs::read(folder.path().join("model.safetensors")).unwrap();
        let out = cast(&file).unwrap();
        let header_len = usize::try_from(u64::from_le_bytes(*out.first_chunk().unwrap())).unwrap();
        let header: Value = serde_json::from_slice(&out[8..8 + header_len]).unwrap();
        assert_eq!(header["layer.0.weight"]["dtype"], "BF16");
        let end = header["layer.0.weight"]["data_offsets"][1]
            .as_u64()
            .unwrap();
        assert_eq!(out.len() as u64, 8 + header_len as u64 + end);
    }

    #[test]
    fn what_is_no_safetensors_file_is_refused() {
        for bad in [
            &b""[..],
            b"12345678",
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            b"\x02\0\0\0\0\0\0\0[]",
        ] {
            assert_eq!(cast(bad), None);
        }
        let beyond = b"\x30\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4000]}}   ";
        assert_eq!(cast(beyond), None);
    }
}

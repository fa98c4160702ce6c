//! Small models from a generator: the same seed gives the same files, on any machine.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::shell::{Context as _, Outcome};

/// SplitMix64, written from its published constants: enough for test data.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal sequences.
    pub(crate) fn new(rng_seed: u64) -> Self {
        Self(rng_seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; the bias of the remainder does not matter here.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// A weight as trained networks have them: bell-shaped around zero, about 0.02 wide.
    pub(crate) fn weight(&mut self) -> f32 {
        let bits = self.next();
        let sum: u16 = (0..4).map(|i| ((bits >> (i * 16)) & 0xfff) as u16).sum();
        (f32::from(sum) - 8190.0) * (0.02 / 2364.0)
    }

    /// Bytes without structure.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Weights as little-endian F32.
    pub(crate) fn weights(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|_| self.weight().to_le_bytes())
            .collect()
    }
}

/// Writes a tree of about `len` bytes: a model in F32 and in BF16, one of its tensors again as a
/// NumPy array, text, bytes without structure, an empty file and a file in a nested folder.
pub(crate) fn tree(folder: &Path, rng_seed: u64, len: usize) -> Outcome {
    let mut random = Random::new(rng_seed);
    let columns = 256;
    let rows = (len / 2 / 2 / 4 / columns).max(1);
    let embedding = random.weights(rows * columns);
    let layer = random.weights(rows * columns);
    let half: Vec<u8> = layer
        .chunks_exact(4)
        .flat_map(|value| [value[2], value[3]])
        .collect();
    let shape = [rows, columns];
    let nested = folder.join("config/nested");
    fs::create_dir_all(&nested).context(nested.display())?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).context(path.display())
    };
    let model = [
        ("embedding.weight", "F32", &embedding),
        ("layer.0.weight", "F32", &layer),
    ];
    write("model.safetensors", &safetensors(&model, shape))?;
    write(
        "model-bf16.safetensors",
        &safetensors(&[("layer.0.weight", "BF16", &half)], shape),
    )?;
    write("embedding.npy", &npy(&embedding, shape))?;
    write("noise.bin", &random.bytes(len / 16))?;
    write("empty", b"")?;
    let text: String = (0..len / 256)
        .map(|_| format!("token {}\n", random.below(500)))
        .collect();
    write("vocabulary.txt", text.as_bytes())?;
    write(
        "config/nested/config.json",
        format!("{{ \"seed\": {rng_seed} }}\n").as_bytes(),
    )
}

/// A safetensors file of tensors that share a shape.
fn safetensors(tensors: &[(&str, &str, &Vec<u8>)], shape: [usize; 2]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, dtype, data) in tensors {
        let end = at + data.len();
        let entry =
            serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] });
        header.insert((*name).to_owned(), entry);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.push_str(&" ".repeat((8 - header.len() % 8) % 8));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    tensors
        .iter()
        .for_each(|(_, _, data)| file.extend_from_slice(data));
    file
}

/// A NumPy file, version 1.0, of F32.
fn npy(data: &[u8], shape: [usize; 2]) -> Vec<u8> {
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
        shape[0], shape[1]
    );
    // Magic, version and length take 10 bytes; data begins at a multiple of 64, after a newline.
    header.push_str(&" ".repeat(63 - (header.len() + 10) % 64));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let len = u16::try_from(header.len()).unwrap_or(u16::MAX);
    file.extend(len.to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// Writes a safetensors file of `len` bytes of F32, zero but for an island of weights in each GiB;
/// the file system may keep the zeros as holes.
pub(crate) fn sparse_model(path: &Path, rng_seed: u64, len: u64) -> Outcome {
    const ISLAND_LEN: usize = 32 << 20;
    const ISLAND_EVERY: u64 = 1 << 30;
    let count = len / 4;
    let entry =
        serde_json::json!({ "dtype": "F32", "shape": [count], "data_offsets": [0, count * 4] });
    let mut header = serde_json::json!({ "weight": entry }).to_string();
    header.push_str(&" ".repeat((8 - header.len() % 8) % 8));
    let mut file = fs::File::create(path).context(path.display())?;
    let mut random = Random::new(rng_seed);
    let start = 8 + header.len() as u64;
    let write = |file: &mut fs::File, at: u64, bytes: &[u8]| -> std::io::Result<()> {
        use std::io::{Seek as _, SeekFrom};
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    };
    write(&mut file, 0, &(header.len() as u64).to_le_bytes()).context(path.display())?;
    write(&mut file, 8, header.as_bytes()).context(path.display())?;
    file.set_len(start + count * 4).context(path.display())?;
    let mut at = 0;
    while at + ISLAND_LEN as u64 <= count * 4 {
        write(&mut file, start + at, &random.weights(ISLAND_LEN / 4)).context(path.display())?;
        at += ISLAND_EVERY;
    }
    file.sync_all().context(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_tree() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str, seed| {
            let path = folder.path().join(name);
            tree(&path, seed, 100_000).unwrap();
            path
        };
        let (a, b, c) = (made("a", 1), made("b", 1), made("c", 2));
        let read = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
        assert_eq!(read(&a), read(&b));
        assert_ne!(read(&a), read(&c));
        assert_eq!(crate::compare::trees(&a, &b).unwrap().files, 7);
    }

    /// The array and the model hold one tensor, so that there is something to share.
    #[test]
    fn containers_are_well_formed_and_share_a_tensor() {
        let folder = tempfile::tempdir().unwrap();
        tree(folder.path(), 3, 200_000).unwrap();
        let model = fs::read(folder.path().join("model.safetensors")).unwrap();
        let header_len =
            usize::try_from(u64::from_le_bytes(model[..8].try_into().unwrap())).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&model[8..8 + header_len]).unwrap();
        let offsets = &header["embedding.weight"]["data_offsets"];
        let end = usize::try_from(offsets[1].as_u64().unwrap()).unwrap();
        let data = &model[8 + header_len..];
        let array = fs::read(folder.path().join("embedding.npy")).unwrap();
        let start = 10 + usize::from(u16::from_le_bytes([array[8], array[9]]));
        assert_eq!(start % 64, 0);
        assert_eq!(&array[start..], &data[..end]);
    }

    #[test]
    fn weights_are_small_and_centred() {
        let mut random = Random::new(9);
        let weights: Vec<f32> = (0..10_000).map(|_| random.weight()).collect();
        assert!(weights.iter().all(|w| w.abs() < 0.08));
        assert!(weights.iter().sum::<f32>().abs() < 10.0);
    }

    #[test]
    fn a_sparse_model_has_the_length_that_its_header_states() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        sparse_model(&path, 1, 33 << 20).unwrap();
        let file = fs::read(&path).unwrap();
        let header_len = u64::from_le_bytes(file[..8].try_into().unwrap());
        assert_eq!(file.len() as u64, 8 + header_len + (33 << 20));
        assert!(file[file.len() - (1 << 20)..].iter().all(|byte| *byte == 0));
    }
}

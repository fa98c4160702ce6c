//! A whole GGUF file as a recipe: header literal, tensors under other names and in another order,
//! each quantised, cast or copied from a file of F32, padding between, and what differs at the end.

use mmh_core::{Digest, Dtype, canonical};
use mmh_derive::gguf::{Contraction, Quantiser};
use mmh_derive::samples::numbers;
use mmh_derive::{Cast, Grower, Input, NanRule, Params, Piece, Recipe, Registry, Step};

/// A tensor of the source: name, rows, columns.
const TENSORS: [(&str, usize, usize); 4] = [
    ("encoder.query.weight", 6, 512),
    ("encoder.dense.weight", 4, 768),
    ("embeddings.word", 9, 256),
    ("norm.weight", 1, 33),
];

/// The order, names and types of the other file.
const TARGET: [(usize, &str, Dtype); 4] = [
    (3, "output_norm.weight", Dtype::F32),
    (2, "token_embd.weight", Dtype::F16),
    (0, "blk.0.attn_q.weight", Dtype::Q4_K),
    (1, "blk.0.ffn_up.weight", Dtype::Q6_K),
];

const ALIGNMENT: usize = 32;

/// A file like safetensors: a header of any bytes, then F32 tensors, and where each lies.
fn source() -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut file = b"a header that nobody needs: ".repeat(3);
    let mut places = Vec::new();
    for (seed, (_, rows, columns)) in TENSORS.into_iter().enumerate() {
        let start = file.len();
        for x in numbers(rows * columns, seed as u64 + 40) {
            file.extend(x.to_le_bytes());
        }
        places.push((start, file.len() - start));
    }
    (file, places)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&four| f32::from_le_bytes(four))
        .collect()
}

/// The header of a GGUF file of version 3 without metadata: names, shapes, types, offsets.
fn header(lens: &[usize]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((TARGET.len() as u64).to_le_bytes());
    out.extend(0u64.to_le_bytes());
    let mut offset = 0u64;
    for ((from, name, dtype), len) in TARGET.into_iter().zip(lens) {
        let (_, rows, columns) = TENSORS[from];
        out.extend((name.len() as u64).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(2u32.to_le_bytes());
        out.extend((columns as u64).to_le_bytes());
        out.extend((rows as u64).to_le_bytes());
        let number: u32 = match dtype {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::Q4_K => 12,
            _ => 14,
        };
        out.extend(number.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += len.next_multiple_of(ALIGNMENT) as u64;
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

/// The bytes of a tensor of the other file, made without a recipe.
fn made(dtype: Dtype, columns: usize, bytes: &[u8]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => bytes.to_vec(),
        Dtype::F16 => {
            let cast = Cast::new(Dtype::F32, Dtype::F16, NanRule::Canonical, false).unwrap();
            let mut out = vec![0; bytes.len() / 2];
            cast.run(bytes, &mut out).unwrap();
            out
        }
        _ => {
            let quantiser = Quantiser::new(dtype, columns, Contraction::Off).unwrap();
            let x = floats(bytes);
            let mut out = vec![0; x.len() / columns * quantiser.row_bytes()];
            quantiser.rows(&x, None, &mut out).unwrap();
            out
        }
    }
}

/// The other file, as a program would have written it.
fn target(source: &[u8], places: &[(usize, usize)]) -> Vec<u8> {
    let tensors: Vec<Vec<u8>> = TARGET
        .into_iter()
        .map(|(from, _, dtype)| {
            let (start, len) = places[from];
            made(dtype, TENSORS[from].2, &source[start..start + len])
        })
        .collect();
    let lens: Vec<usize> = tensors.iter().map(Vec::len).collect();
    let mut file = header(&lens);
    for tensor in tensors {
        file.extend(tensor);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    }
    file
}

/// The step that makes a tensor; `None` for one that is copied.
fn step(dtype: Dtype, columns: usize, piece: Piece) -> Option<Step> {
    let params = Params::new().with("from", "F32");
    let (op, params) = match dtype {
        Dtype::F32 => return None,
        Dtype::F16 => {
            let params = params.with("to", "F16").with("nan", "canonical");
            ("cast".to_owned(), params.with("saturate", false))
        }
        _ => {
            let params = params
                .with("row", columns as u64)
                .with("contraction", "off");
            let name = dtype.as_str().to_lowercase();
            (format!("gguf.quantise/{name}"), params)
        }
    };
    Some(Step {
        op,
        version: 1,
        params,
        operands: vec![vec![piece]],
    })
}

/// The recipe: header and padding as literals, a step for each tensor that changes.
fn recipe(source: &[u8], places: &[(usize, usize)], target: &[u8]) -> Recipe {
    let mut recipe = Recipe::new();
    recipe.inputs.push(Input {
        blake3: Digest::of(source),
        size: source.len() as u64,
    });
    let lens: Vec<usize> = TARGET
        .into_iter()
        .map(|(from, _, dtype)| {
            let elements = (TENSORS[from].1 * TENSORS[from].2) as u64;
            usize::try_from(dtype.bytes_for(elements).unwrap()).unwrap()
        })
        .collect();
    let head = header(&lens);
    recipe.literals.push(target[..head.len()].to_vec().into());
    recipe.literals.push(vec![0; ALIGNMENT].into());
    recipe.output.push(Piece(1, 0, head.len() as u64));
    for ((from, _, dtype), len) in TARGET.into_iter().zip(lens) {
        let (start, size) = places[from];
        let piece = Piece(0, start as u64, size as u64);
        match step(dtype, TENSORS[from].2, piece) {
            None => recipe.output.push(piece),
            Some(step) => {
                let number = u32::try_from(recipe.first_step() + recipe.steps.len()).unwrap();
                recipe.steps.push(step);
                recipe.output.push(Piece(number, 0, len as u64));
            }
        }
        let padding = (len.next_multiple_of(ALIGNMENT) - len) as u64;
        if padding > 0 {
            recipe.output.push(Piece(2, 0, padding));
        }
    }
    recipe
}

fn grow(recipe: Recipe, inputs: &[Vec<u8>]) -> Vec<u8> {
    let grower = Grower::new(recipe, &Registry::standard(), inputs).unwrap();
    let mut out = vec![0; usize::try_from(grower.len()).unwrap()];
    grower.read(0, &mut out).unwrap();
    out
}

#[test]
fn a_gguf_file_grows_from_a_header_and_a_source() {
    let (source, places) = source();
    let target = target(&source, &places);
    let recipe = recipe(&source, &places, &target);
    let encoded = canonical::encode(&recipe).unwrap();
    assert!(
        encoded.len() * 10 < target.len(),
        "{} of {}",
        encoded.len(),
        target.len()
    );
    assert_eq!(grow(recipe, &[source]), target);
}

/// Another program's file differs in some bytes: their exclusive or is what has to be kept.
#[test]
fn what_differs_is_a_residual() {
    let (source, places) = source();
    let ours = target(&source, &places);
    let mut theirs = ours.clone();
    for (idx, byte) in theirs.iter_mut().enumerate().skip(1000) {
        if idx % 997 == 0 {
            *byte ^= 0x10;
        }
    }
    let residual: Vec<u8> = ours.iter().zip(&theirs).map(|(a, b)| a ^ b).collect();
    assert!(residual.iter().filter(|&&byte| byte != 0).count() >= 3);
    let mut recipe = recipe(&source, &places, &ours);
    // The residual is an input of its own, put in front of the literals and steps.
    recipe.inputs.push(Input {
        blake3: Digest::of(&residual),
        size: residual.len() as u64,
    });
    let shifted = |piece: &mut Piece| {
        if piece.0 >= 1 {
            piece.0 += 1;
        }
    };
    recipe.output.iter_mut().for_each(shifted);
    let predicted = std::mem::take(&mut recipe.output);
    let number = u32::try_from(recipe.first_step() + recipe.steps.len()).unwrap();
    recipe.steps.push(Step {
        op: "xor".to_owned(),
        version: 1,
        params: Params::new(),
        operands: vec![predicted, vec![Piece(1, 0, residual.len() as u64)]],
    });
    recipe.output = vec![Piece(number, 0, theirs.len() as u64)];
    assert_eq!(grow(recipe, &[source, residual]), theirs);
}

/// A source of which one number is not finite: the tensors that need it are refused, the others
/// still grow.
#[test]
fn a_source_with_nan_refuses_only_what_it_touches() {
    let (mut source, places) = source();
    let target = target(&source, &places);
    let recipe = recipe(&source, &places, &target);
    let (start, _) = places[0];
    source[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let inputs = vec![source];
    let grower = Grower::new(recipe, &Registry::standard(), inputs.as_slice()).unwrap();
    let mut all = vec![0; target.len()];
    let error = grower.read(0, &mut all).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
    let row_of = TARGET.iter().position(|(from, ..)| *from == 0).unwrap();
    let pieces = &grower.recipe().output;
    let mut at = 0;
    let mut seen = 0;
    for &Piece(value, _, len) in pieces {
        let is_hit = value as usize == grower.recipe().first_step() + row_of - 1;
        let mut part = vec![0; usize::try_from(len).unwrap()];
        match grower.read(at, &mut part) {
            Ok(()) => {
                let start = usize::try_from(at).unwrap();
                assert_eq!(part, target[start..start + part.len()]);
                seen += 1;
            }
            Err(_) => assert!(is_hit, "value {value}"),
        }
        at += len;
    }
    assert_eq!(seen, pieces.len() - 1);
}

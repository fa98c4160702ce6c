//! Recipes that grow, and recipes that are refused.

use mmh_core::{Digest, ErrorKind};

use super::*;
use crate::ops::Params;
use crate::recipe::{Input, Step};

fn recipe(inputs: &[&[u8]]) -> Recipe {
    let input = |bytes: &&[u8]| Input {
        blake3: Digest::from_bytes([7; 32]),
        size: bytes.len() as u64,
    };
    Recipe {
        inputs: inputs.iter().map(input).collect(),
        ..Recipe::new()
    }
}

fn step(op: &str, params: Params, operands: &[&[Piece]]) -> Step {
    Step {
        op: op.to_owned(),
        version: 1,
        params,
        operands: operands.iter().map(|pieces| pieces.to_vec()).collect(),
    }
}

fn cast(from: &str, to: &str) -> Params {
    let params = Params::new().with("from", from).with("to", to);
    params.with("nan", "keep").with("saturate", false)
}

fn transpose(element: u64, rows: u64, columns: u64) -> Params {
    let params = Params::new().with("element", element);
    params
        .with("shape", vec![rows, columns])
        .with("axes", vec![1, 0])
}

fn grow(recipe: Recipe, inputs: &[&[u8]]) -> Result<Vec<u8>> {
    let grower = Grower::new(recipe, &Registry::standard(), inputs)?;
    let mut out = vec![0; usize::try_from(grower.len()).unwrap()];
    grower.read(0, &mut out)?;
    Ok(out)
}

/// Renaming, merging shards and building a container: pieces and literals, no operation.
#[test]
fn a_container_is_built_from_pieces_and_literals() {
    let inputs: [&[u8]; 2] = [b"HEADaaaabbbb", b"HEADcccc"];
    let mut recipe = recipe(&inputs);
    recipe.literals.push(b"<new>".to_vec().into());
    recipe.output = vec![
        Piece(2, 0, 5),
        Piece(1, 4, 4),
        Piece(0, 8, 4),
        Piece(0, 4, 4),
    ];
    assert_eq!(grow(recipe, &inputs).unwrap(), b"<new>ccccbbbbaaaa");
}

/// Every range of a recipe with steps on steps, operands of several pieces and grains of several
/// lengths is that range of the whole.
#[test]
fn every_range_is_that_range_of_the_whole() {
    let numbers: Vec<u8> = (0..64u16)
        .flat_map(|i| f32::from(i).to_le_bytes())
        .collect();
    let row: Vec<u8> = (0..32u16)
        .flat_map(|i| f32::from(i % 3).to_le_bytes())
        .collect();
    let inputs: [&[u8]; 2] = [&numbers, &row];
    let mut recipe = recipe(&inputs);
    recipe.literals.push(vec![1, 2, 3].into());
    let halves = [Piece(0, 128, 128), Piece(0, 0, 128)];
    let quantise = Params::new()
        .with("from", "F32")
        .with("row", 32)
        .with("contraction", "off");
    recipe.steps = vec![
        step("cast", cast("F32", "F16"), &[&halves]),
        step("transpose", transpose(2, 4, 16), &[&[Piece(3, 0, 128)]]),
        step(
            "gguf.quantise/q4_1",
            quantise,
            &[&halves, &[Piece(1, 0, 128)]],
        ),
    ];
    recipe.output = vec![
        Piece(4, 3, 120),
        Piece(2, 1, 2),
        Piece(5, 2, 33),
        Piece(0, 5, 9),
    ];
    let whole = grow(recipe.clone(), &inputs).unwrap();
    assert_eq!(whole.len(), 164);
    let grower = Grower::new(recipe, &Registry::standard(), &inputs[..]).unwrap();
    for start in 0..=whole.len() {
        for end in start..=whole.len() {
            let mut out = vec![0xee; end - start];
            grower.read(start as u64, &mut out).unwrap();
            assert_eq!(out, whole[start..end], "{start}..{end}");
        }
    }
    let beyond = grower.read(100, &mut [0; 65]);
    assert!(matches!(beyond, Err(Error::Length { .. })));
    assert!(grower.read(u64::MAX, &mut [0; 2]).is_err());
}

/// More than a window of output, and steps that come as a whole only.
#[test]
fn long_outputs_are_grown_in_windows() {
    let n = 700_001;
    let input: Vec<u8> = (0..n).flat_map(|i: u32| (i as f32).to_le_bytes()).collect();
    let inputs: [&[u8]; 1] = [&input];
    let mut recipe = recipe(&inputs);
    let all = Piece(0, 0, input.len() as u64);
    recipe.steps = vec![
        step("transpose", transpose(4, u64::from(n), 1), &[&[all]]),
        step("cast", cast("F32", "BF16"), &[&[Piece(1, 0, all.2)]]),
        step(
            "xor",
            Params::new(),
            &[&[Piece(2, 0, all.2 / 2)], &[Piece(2, 0, all.2 / 2)]],
        ),
    ];
    recipe.output = vec![Piece(2, 0, all.2 / 2), Piece(3, 0, all.2 / 2)];
    let out = grow(recipe, &inputs).unwrap();
    let (cast, zeros) = out.split_at(out.len() / 2);
    assert!(zeros.iter().all(|&byte| byte == 0));
    for (idx, pair) in cast.chunks(2).enumerate().step_by(999) {
        let wide = f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16);
        assert!(
            (wide - idx as f32).abs() <= idx as f32 / 128.0,
            "{idx}: {wide}"
        );
    }
}

/// A recipe that doubles its work with each step, without growing its output.
#[test]
fn a_bomb_of_steps_is_refused_before_it_runs() {
    let input = vec![0; 32 << 20];
    let inputs: [&[u8]; 1] = [&input];
    let mut recipe = recipe(&inputs);
    let len = input.len() as u64;
    for idx in 0..7 {
        let piece = [Piece(idx, 0, len)];
        recipe
            .steps
            .push(step("xor", Params::new(), &[&piece, &piece]));
    }
    recipe.output = vec![Piece(7, 0, 1)];
    let error = grow(recipe.clone(), &inputs).unwrap_err();
    assert!(error.to_string().contains("bytes of work"), "{error}");
    let mut deep = recipe;
    for step in &mut deep.steps {
        for operand in &mut step.operands {
            operand[0].2 = 1;
        }
    }
    for idx in 7..9 {
        let piece = [Piece(idx, 0, 1)];
        deep.steps
            .push(step("xor", Params::new(), &[&piece, &piece]));
    }
    deep.output = vec![Piece(9, 0, 1)];
    let error = grow(deep, &inputs).unwrap_err();
    assert!(error.to_string().contains("on one another"), "{error}");
}

#[test]
fn what_is_not_there_is_refused() {
    let inputs: [&[u8]; 1] = [&[0; 64]];
    let xor = |a, b| step("xor", Params::new(), &[&[a], &[b]]);
    let refused = |steps: Vec<Step>, output: Vec<Piece>| {
        let mut recipe = recipe(&inputs);
        recipe.literals.push(vec![0; 8].into());
        (recipe.steps, recipe.output) = (steps, output);
        grow(recipe, &inputs).unwrap_err()
    };
    let (eight, all) = (Piece(1, 0, 8), Piece(0, 0, 8));
    for (steps, output) in [
        (vec![], vec![Piece(0, 60, 5)]),
        (vec![], vec![Piece(1, 8, 1)]),
        (vec![], vec![Piece(2, 0, 1)]),
        (vec![], vec![Piece(0, u64::MAX, 2)]),
        (vec![], vec![Piece(0, 0, 0)]),
        (vec![xor(Piece(2, 0, 8), all)], vec![]),
        (vec![xor(Piece(3, 0, 8), all), xor(eight, all)], vec![]),
        (vec![xor(eight, all)], vec![Piece(2, 1, 8)]),
        (vec![xor(eight, Piece(0, 0, 9))], vec![]),
        (vec![step("xor", Params::new(), &[])], vec![]),
    ] {
        let error = refused(steps, output);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let error = refused(vec![step("sort", Params::new(), &[&[eight]])], vec![]);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let huge = transpose(1, 1 << 31, 1);
    let mut large = recipe(&inputs);
    large.inputs[0].size = 1 << 31;
    large
        .steps
        .push(step("transpose", huge, &[&[Piece(0, 0, 1 << 31)]]));
    large.output = vec![Piece(1, 0, 1)];
    let error = grow(large, &inputs).unwrap_err();
    assert!(error.to_string().contains("at once"), "{error}");
}

/// An input that is shorter than it was said to be, and one whose reading fails.
#[test]
fn inputs_that_cannot_be_read_end_the_growing() {
    let mut recipe = recipe(&[&[0; 64]]);
    recipe.output = vec![Piece(0, 0, 64)];
    let error = grow(recipe, &[&[0; 10]]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

//! One recipe grown by several threads at once, in ranges that no grain knows of.

use mmh_core::Digest;
use mmh_derive::gguf::Quantiser;
use mmh_derive::samples::{importance, numbers};
use mmh_derive::{Grower, Input, Params, Piece, Recipe, Registry, Step};

const ROW: usize = 512;
const ROWS: usize = 24;

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// All quantisers over the same rows, each plain and weighted.
fn everything() -> (Recipe, Vec<Vec<u8>>) {
    let inputs = vec![bytes(&numbers(ROW * ROWS, 2)), bytes(&importance(ROW, 2))];
    let mut recipe = Recipe::new();
    for input in &inputs {
        recipe.inputs.push(Input {
            blake3: Digest::of(input),
            size: input.len() as u64,
        });
    }
    let rows = vec![Piece(0, 0, inputs[0].len() as u64)];
    let weights = vec![Piece(1, 0, inputs[1].len() as u64)];
    for to in Quantiser::TYPES {
        for operands in [vec![rows.clone()], vec![rows.clone(), weights.clone()]] {
            let (numbers_of, bytes_of) = to.block();
            let blocks = ROW * ROWS / numbers_of as usize;
            let params = Params::new().with("from", "F32").with("row", ROW as u64);
            let number = u32::try_from(recipe.first_step() + recipe.steps.len()).unwrap();
            recipe
                .output
                .push(Piece(number, 0, blocks as u64 * u64::from(bytes_of)));
            recipe.steps.push(Step {
                op: format!("gguf.quantise/{}", to.as_str().to_lowercase()),
                version: 1,
                params: params.with("contraction", "off"),
                operands,
            });
        }
    }
    (recipe, inputs)
}

/// The digest is the same at every level of optimisation; a change of it would be another version
/// of an operation.
#[test]
fn any_number_of_threads_grows_the_same_bytes() {
    let (recipe, inputs) = everything();
    let grower = Grower::new(recipe, &Registry::standard(), inputs.as_slice()).unwrap();
    let len = usize::try_from(grower.len()).unwrap();
    let mut digests = Vec::new();
    for threads in [1, 2, 7] {
        let mut out = vec![0; len];
        let share = len / threads + 13;
        std::thread::scope(|scope| {
            for (idx, part) in out.chunks_mut(share).enumerate() {
                let grower = &grower;
                scope.spawn(move || {
                    for (piece, range) in part.chunks_mut(9973).enumerate() {
                        let at = idx * share + piece * 9973;
                        grower.read(at as u64, range).unwrap();
                    }
                });
            }
        });
        digests.push(Digest::of(&out).to_string());
    }
    assert_eq!(
        digests[0],
        "0d5d97d139f3adb59f07a0458f60792a7394571e54f0c53a1f6cfdafbd3ce54a"
    );
    assert_eq!(digests[1], digests[0]);
    assert_eq!(digests[2], digests[0]);
}

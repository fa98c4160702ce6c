//! Recipes beside a model: values computed whole, one after the other, and the output joined.

use mmh_core::Digest;
use mmh_derive::{Grower, Input, NanRule, Params, Piece, Recipe, Registry, Step};
use proptest::prelude::*;

/// Evaluates a recipe in the plainest way: every value in full.
fn plainly(recipe: &Recipe, inputs: &[Vec<u8>]) -> Vec<u8> {
    let registry = Registry::standard();
    let mut values: Vec<Vec<u8>> = inputs.to_vec();
    values.extend(recipe.literals.iter().map(|literal| literal.to_vec()));
    for step in &recipe.steps {
        let operands: Vec<Vec<u8>> = step
            .operands
            .iter()
            .map(|pieces| join(pieces, &values))
            .collect();
        let lens: Vec<u64> = operands.iter().map(|bytes| bytes.len() as u64).collect();
        let op = registry.find(&step.op, step.version).unwrap();
        let job = op.prepare(&step.params, &lens).unwrap();
        let slices: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
        let mut out = vec![0; usize::try_from(job.output_len()).unwrap()];
        job.run(&slices, &mut out).unwrap();
        values.push(out);
    }
    join(&recipe.output, &values)
}

fn join(pieces: &[Piece], values: &[Vec<u8>]) -> Vec<u8> {
    let one = |&Piece(value, start, len): &Piece| {
        let start = usize::try_from(start).unwrap();
        &values[value as usize][start..start + usize::try_from(len).unwrap()]
    };
    pieces.iter().flat_map(one).copied().collect()
}

/// Chooses from numbers that a strategy gave, one after the other.
struct Choices(std::vec::IntoIter<u32>);

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        u64::from(self.0.next().unwrap_or(0)) % n.max(1)
    }

    /// Pieces of values so long, of `total` bytes in all if there are as many.
    fn pieces(&mut self, lens: &[u64], total: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut left = total;
        for _ in 0..40 {
            if left == 0 {
                break;
            }
            let value = self.below(lens.len() as u64);
            let size = lens[usize::try_from(value).unwrap()];
            if size == 0 {
                continue;
            }
            let start = self.below(size);
            let len = (1 + self.below(size - start)).min(left);
            pieces.push(Piece(u32::try_from(value).unwrap(), start, len));
            left -= len;
        }
        pieces
    }
}

fn total(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.2).sum()
}

/// One step over values so long, and the length of its output; `None` if it came to nothing.
fn step(choices: &mut Choices, lens: &[u64]) -> Option<(Step, u64)> {
    let registry = Registry::standard();
    let wanted = 64 * (1 + choices.below(6));
    let first = choices.pieces(lens, wanted);
    if total(&first) != wanted {
        return None;
    }
    let mut operands = vec![first];
    let (op, params) = match choices.below(4) {
        0 => {
            let rule = NanRule::ALL[usize::try_from(choices.below(5)).unwrap()];
            let types = ["F16", "BF16", "F8_E4M3", "F8_E5M2"];
            let to = types[usize::try_from(choices.below(4)).unwrap()];
            let params = Params::new().with("from", "F32").with("to", to);
            let saturate = choices.below(2) == 1;
            (
                "cast",
                params.with("nan", rule.as_str()).with("saturate", saturate),
            )
        }
        1 => {
            let second = choices.pieces(lens, wanted);
            operands.push(second);
            ("xor", Params::new())
        }
        2 => {
            let element = 1 << choices.below(4);
            let shape = vec![4, wanted / element / 4];
            let params = Params::new().with("element", element).with("shape", shape);
            ("transpose", params.with("axes", vec![1, 0]))
        }
        _ => {
            let element = 2;
            let shape = vec![2, 2, wanted / element / 4];
            let params = Params::new().with("element", element).with("shape", shape);
            ("transpose", params.with("axes", vec![2, 0, 1]))
        }
    };
    let sizes: Vec<u64> = operands.iter().map(|pieces| total(pieces)).collect();
    let job = registry
        .find(op, 1)
        .unwrap()
        .prepare(&params, &sizes)
        .ok()?;
    let step = Step {
        op: op.to_owned(),
        version: 1,
        params,
        operands,
    };
    Some((step, job.output_len()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a recipe combines, growing it in ranges gives what the model gives as a whole.
    #[test]
    fn growing_is_what_the_model_says(
        numbers in prop::collection::vec(any::<u32>(), 200),
        bytes in prop::collection::vec(any::<u8>(), 300),
        steps in 0usize..6,
        cut in 1usize..97,
    ) {
        let mut choices = Choices(numbers.into_iter());
        let inputs = vec![bytes[..200].to_vec(), bytes[200..].to_vec()];
        let mut recipe = Recipe::new();
        let mut lens = Vec::new();
        for input in &inputs {
            let size = input.len() as u64;
            recipe.inputs.push(Input { blake3: Digest::of(input), size });
            lens.push(size);
        }
        recipe.literals.push(b"a literal".to_vec().into());
        lens.push(9);
        for _ in 0..steps {
            if let Some((step, len)) = step(&mut choices, &lens) {
                recipe.steps.push(step);
                lens.push(len);
            }
        }
        let wanted = 1 + choices.below(700);
        recipe.output = choices.pieces(&lens, wanted);
        let expected = plainly(&recipe, &inputs);
        let grower = Grower::new(recipe, &Registry::standard(), inputs.as_slice()).unwrap();
        prop_assert_eq!(grower.len(), expected.len() as u64);
        let mut out = vec![0; expected.len()];
        for (idx, range) in out.chunks_mut(cut).enumerate() {
            grower.read((idx * cut) as u64, range).unwrap();
        }
        prop_assert_eq!(out, expected);
    }
}

//! Recipes as bytes: one spelling, and nothing else is taken.

use mmh_core::{Digest, ErrorKind, canonical};
use mmh_derive::{Grower, Input, PIECES_MAX, Params, Piece, Recipe, Registry, Step};
use proptest::prelude::*;

/// A recipe with everything that recipes have.
fn full() -> Recipe {
    let params = Params::new()
        .with("from", "BF16")
        .with("row", 256)
        .with("contraction", "off");
    let mut recipe = Recipe::new();
    recipe.inputs.push(Input {
        blake3: Digest::of(b"source"),
        size: 4096,
    });
    recipe.literals.push(b"GGUF".to_vec().into());
    recipe.steps.push(Step {
        op: "gguf.quantise/q4_k".to_owned(),
        version: 1,
        params,
        operands: vec![vec![Piece(0, 512, 512), Piece(0, 0, 512)]],
    });
    let params = Params::new()
        .with("element", 1)
        .with("shape", vec![2, 144])
        .with("axes", vec![1, 0]);
    recipe.steps.push(Step {
        op: "transpose".to_owned(),
        version: 1,
        params,
        operands: vec![vec![Piece(2, 0, 288)]],
    });
    recipe.output = vec![Piece(1, 0, 4), Piece(3, 0, 288), Piece(2, 7, 1)];
    recipe
}

#[test]
fn a_recipe_comes_back_from_its_bytes_and_grows() {
    let bytes = canonical::encode(&full()).unwrap();
    let back: Recipe = canonical::decode(&bytes).unwrap();
    assert_eq!(back, full());
    let source = vec![vec![0u8; 4096]];
    let grower = Grower::new(back, &Registry::standard(), source.as_slice()).unwrap();
    let mut out = vec![9; 293];
    assert_eq!(grower.len(), 293);
    grower.read(0, &mut out).unwrap();
    assert_eq!((&out[..4], &out[4..]), (&b"GGUF"[..], &[0u8; 289][..]));
}

/// The encoding is part of the format: a change of any byte changes what recipes are called.
#[test]
fn the_encoding_is_fixed() {
    let bytes = canonical::encode(&full()).unwrap();
    let digest = Digest::of(&bytes).to_string();
    assert_eq!(
        (bytes.len(), digest.as_str()),
        (
            298,
            "16b50c41d5392e7115687f4ebb4f3fe9eec00750b04b52177dc87c0f54b6fc93"
        )
    );
}

#[test]
fn a_recipe_cut_anywhere_is_refused() {
    let bytes = canonical::encode(&full()).unwrap();
    for len in 0..bytes.len() {
        let error = canonical::decode::<Recipe>(&bytes[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}: {error}");
    }
    let longer = [bytes, vec![0]].concat();
    assert!(canonical::decode::<Recipe>(&longer).is_err());
}

/// A flipped bit gives another recipe or none; none panics, hangs or asks for much memory.
#[test]
fn a_flipped_bit_never_harms() {
    let bytes = canonical::encode(&full()).unwrap();
    let source = vec![vec![0u8; 4096]];
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let Ok(recipe) = canonical::decode::<Recipe>(&other) else {
            continue;
        };
        assert_ne!(recipe, full());
        let Ok(grower) = Grower::new(recipe, &Registry::standard(), source.as_slice()) else {
            continue;
        };
        let len = usize::try_from(grower.len()).unwrap();
        assert!(len < 1 << 20, "{len}");
        drop(grower.read(0, &mut vec![0; len]));
    }
}

#[test]
fn other_rules_of_arithmetic_and_too_many_pieces_are_refused() {
    let mut other = full();
    other.numerics = 2;
    assert!(canonical::encode(&other).is_err());
    let mut many = full();
    many.output = vec![Piece(0, 0, 1); PIECES_MAX + 1];
    assert!(canonical::encode(&many).is_err());
}

fn piece() -> impl Strategy<Value = Piece> {
    let number = prop_oneof![0u32..6, any::<u32>()];
    let place = prop_oneof![0u64..600, any::<u64>()];
    (number, place.clone(), place).prop_map(|(value, start, len)| Piece(value, start, len))
}

proptest! {
    /// Whatever stands in a recipe, it is refused or it grows.
    #[test]
    fn any_recipe_is_refused_or_grows(
        output in prop::collection::vec(piece(), 0..4),
        operand in prop::collection::vec(piece(), 0..3),
        (element, row) in (any::<u64>(), prop_oneof![Just(256u64), any::<u64>()]),
        shape in prop::collection::vec(prop_oneof![0u64..300, any::<u64>()], 0..3),
        axes in prop::collection::vec(0u64..3, 0..3),
    ) {
        let mut recipe = full();
        recipe.output = output;
        recipe.steps[0].params = recipe.steps[0].params.clone().with("row", row);
        recipe.steps[0].operands.push(operand);
        let params = Params::new().with("element", element).with("shape", shape).with("axes", axes);
        recipe.steps[1].params = params;
        let source = vec![vec![0u8; 4096]];
        if let Ok(grower) = Grower::new(recipe, &Registry::standard(), source.as_slice()) {
            let len = usize::try_from(grower.len().min(1 << 20)).unwrap();
            drop(grower.read(0, &mut vec![0; len]));
        }
    }
}

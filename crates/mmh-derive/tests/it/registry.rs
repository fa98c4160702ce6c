//! Operations of other crates: registered, named in recipes, and computed no more than needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mmh_core::{Digest, ErrorKind};
use mmh_derive::{
    Error, Grain, Grower, Input, Job, Op, Params, Piece, Recipe, Registry, Result, Step,
};

/// Turns bytes around; all at once, so that it has one grain. Counts how often it runs.
#[derive(Debug)]
struct Reverse {
    version: u32,
    runs: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct ReverseJob {
    len: u64,
    runs: Arc<AtomicUsize>,
}

impl Op for Reverse {
    fn name(&self) -> &'static str {
        "test.reverse"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn prepare(&self, params: &Params, operands: &[u64]) -> Result<Box<dyn Job>> {
        params.only(&[])?;
        Ok(Box::new(ReverseJob {
            len: operands.iter().sum(),
            runs: Arc::clone(&self.runs),
        }))
    }
}

impl Job for ReverseJob {
    fn output_len(&self) -> u64 {
        self.len
    }

    fn grain(&self) -> Grain {
        Grain {
            output: self.len.max(1),
            operands: vec![None],
        }
    }

    fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Result<()> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        out.copy_from_slice(operands[0]);
        out.reverse();
        Ok(())
    }
}

fn reversed(len: u64) -> Recipe {
    let mut recipe = Recipe::new();
    recipe.inputs.push(Input {
        blake3: Digest::from_bytes([1; 32]),
        size: len,
    });
    recipe.steps.push(Step {
        op: "test.reverse".to_owned(),
        version: 7,
        params: Params::new(),
        operands: vec![vec![Piece(0, 0, len)]],
    });
    recipe.output = vec![Piece(1, 0, len)];
    recipe
}

/// Three megabytes that only come as a whole, read in a thousand ranges: computed once.
#[test]
fn what_comes_only_as_a_whole_is_computed_once() {
    let runs = Arc::new(AtomicUsize::new(0));
    let mut registry = Registry::standard();
    registry.add(Arc::new(Reverse {
        version: 7,
        runs: Arc::clone(&runs),
    }));
    let input: Vec<u8> = (0..3_000_000u32)
        .map(|i| i.to_le_bytes()[i as usize % 3])
        .collect();
    let mut expected = input.clone();
    expected.reverse();
    let len = input.len() as u64;
    let inputs = vec![input];
    let grower = Grower::new(reversed(len), &registry, inputs.as_slice()).unwrap();
    let mut out = vec![0; expected.len()];
    for (idx, range) in out.chunks_mut(2999).enumerate() {
        grower.read(idx as u64 * 2999, range).unwrap();
    }
    assert!(out == expected);
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[test]
fn an_operation_is_known_only_where_it_is_registered_and_in_its_version() {
    let recipe = reversed(10);
    let inputs = vec![vec![0u8; 10]];
    let unknown = |registry: &Registry| {
        let error = Grower::new(recipe.clone(), registry, inputs.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(matches!(error, Error::UnknownOp { version: 7, .. }));
    };
    let mut registry = Registry::standard();
    unknown(&registry);
    registry.add(Arc::new(Reverse {
        version: 8,
        runs: Arc::default(),
    }));
    unknown(&registry);
}

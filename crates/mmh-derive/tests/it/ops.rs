//! What every operation keeps: grains that do not depend on each other, and refusals instead of
//! panics.

use mmh_derive::{Job, Params, Registry, Value};
use proptest::prelude::*;

/// A job of every operation, over operands of these lengths.
fn jobs() -> Vec<(String, Box<dyn Job>, Vec<usize>)> {
    let registry = Registry::standard();
    let mut jobs = Vec::new();
    for (name, version) in registry.names() {
        let op = registry.find(name, version).unwrap();
        let params = |from: &str| {
            let params = Params::new().with("from", from);
            params.with("row", 256).with("contraction", "on")
        };
        let cases: Vec<(Params, Vec<usize>)> = match name {
            "cast" => ["F16", "BF16", "F8_E4M3"]
                .into_iter()
                .map(|to| {
                    let params = Params::new().with("from", "F32").with("to", to);
                    (
                        params.with("nan", "canonical").with("saturate", true),
                        vec![4 * 37],
                    )
                })
                .collect(),
            "xor" => vec![(Params::new(), vec![129, 129])],
            "transpose" => {
                let params = Params::new().with("element", 2);
                vec![(
                    params.with("shape", vec![5, 7]).with("axes", vec![1, 0]),
                    vec![70],
                )]
            }
            _ => vec![
                (params("F32"), vec![1024 * 5]),
                (params("F32"), vec![1024 * 5, 1024]),
                (params("BF16"), vec![512 * 5, 1024]),
            ],
        };
        for (params, lens) in cases {
            let sizes: Vec<u64> = lens.iter().map(|&len| len as u64).collect();
            jobs.push((name.to_owned(), op.prepare(&params, &sizes).unwrap(), lens));
        }
    }
    jobs
}

/// Bytes whose F32, F16 and BF16 are all finite.
fn operand(len: usize, salt: usize) -> Vec<u8> {
    let byte = |i: usize| u8::try_from((i * 37 + salt * 11) % 61).unwrap();
    (0..len).map(byte).collect()
}

#[test]
fn grains_are_independent_of_each_other() {
    for (name, job, lens) in jobs() {
        let operands: Vec<Vec<u8>> = lens
            .iter()
            .enumerate()
            .map(|(i, &len)| operand(len, i))
            .collect();
        let slices: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
        let len = usize::try_from(job.output_len()).unwrap();
        let mut whole = vec![0xa5; len];
        job.run(&slices, &mut whole).unwrap();
        let grain = job.grain();
        assert_eq!(grain.operands.len(), operands.len(), "{name}");
        let size = usize::try_from(grain.output).unwrap();
        assert!(size > 0 && len.is_multiple_of(size), "{name}");
        // From the last to the first, one by one.
        for idx in (0..len / size).rev() {
            let parts: Vec<&[u8]> = operands
                .iter()
                .zip(&grain.operands)
                .map(|(bytes, each)| match each {
                    Some(each) => {
                        let each = usize::try_from(*each).unwrap();
                        &bytes[idx * each..][..each]
                    }
                    None => bytes,
                })
                .collect();
            let mut out = vec![0x5a; size];
            job.run(&parts, &mut out).unwrap();
            assert_eq!(out, whole[idx * size..][..size], "{name}, grain {idx}");
        }
    }
}

#[test]
fn operands_of_other_lengths_are_refused_when_they_come() {
    for (name, job, lens) in jobs() {
        let operands: Vec<Vec<u8>> = lens
            .iter()
            .enumerate()
            .map(|(i, &len)| operand(len, i))
            .collect();
        let slices: Vec<&[u8]> = operands.iter().map(Vec::as_slice).collect();
        let len = usize::try_from(job.output_len()).unwrap();
        assert!(job.run(&slices, &mut vec![0; len + 1]).is_err(), "{name}");
        assert!(job.run(&[], &mut vec![0; len]).is_err(), "{name}");
        let more = [slices.clone(), vec![&[0u8][..]; 2]].concat();
        assert!(job.run(&more, &mut vec![0; len]).is_err(), "{name}");
        let mut shorter = slices;
        let first = shorter[0];
        shorter[0] = &first[..first.len() - 1];
        assert!(job.run(&shorter, &mut vec![0; len]).is_err(), "{name}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![0u64..600, any::<u64>()].prop_map(Value::Int),
        prop::sample::select(vec!["F32", "F16", "BF16", "Q4_0", "off", "on", "keep", "x"])
            .prop_map(|text| Value::Text(text.to_owned())),
        prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..10).prop_map(Value::List),
    ]
}

proptest! {
    /// Parameters and lengths of any kind are refused, or give a job whose lengths agree.
    #[test]
    fn any_parameters_are_refused_or_fit(
        names in prop::collection::vec(prop::sample::select(vec![
            "from", "to", "nan", "saturate", "row", "contraction", "element", "shape", "axes", "odd",
        ]), 0..5),
        values in prop::collection::vec(value(), 5),
        lens in prop::collection::vec(prop_oneof![0u64..5000, any::<u64>()], 0..4),
    ) {
        let registry = Registry::standard();
        let params = names.iter().zip(values);
        let params = params.fold(Params::new(), |params, (name, value)| params.with(name, value));
        for (name, version) in registry.names() {
            let op = registry.find(name, version).unwrap();
            if let Ok(job) = op.prepare(&params, &lens) {
                let grain = job.grain();
                prop_assert!(grain.output > 0);
                prop_assert!(job.output_len().is_multiple_of(grain.output));
                prop_assert_eq!(grain.operands.len(), lens.len());
            }
        }
    }
}

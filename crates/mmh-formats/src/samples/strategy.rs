//! Random tensors for properties.

use mmh_core::Dtype;
use proptest::prelude::*;

use super::SampleTensor;

/// Up to six tensors of different names, some without elements, of the types `dtypes`.
pub(crate) fn tensors(dtypes: &'static [Dtype]) -> impl Strategy<Value = Vec<SampleTensor>> {
    let shape = prop::collection::vec(0u64..5, 0..4);
    let tensor = (
        "[a-z]{1,8}(\\.[0-9]{1,2})?",
        prop::sample::select(dtypes),
        shape,
    );
    prop::collection::vec(tensor, 0..6).prop_map(|tensors| {
        let named = tensors
            .into_iter()
            .enumerate()
            .map(|(i, (name, dtype, shape))| {
                // A name within another would be a map and an array at once.
                SampleTensor::new(&format!("{i}{name}"), dtype, &shape)
            });
        named.collect()
    })
}

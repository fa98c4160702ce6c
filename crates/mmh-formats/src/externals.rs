//! Collects what an index file says about tensors in other files, within limits.

use std::collections::BTreeMap;

use mmh_core::{TensorInfo, limits};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{External, LayoutBuilder};

/// Most bytes of names and shapes that are held.
const HELD_LEN_MAX: usize = 64 << 20;

/// Tensors by the file they lie in.
#[derive(Debug, Default)]
pub(crate) struct Externals {
    files: BTreeMap<String, Vec<(u64, u64, TensorInfo)>>,
    n_tensors: usize,
    held_len: usize,
}

impl Externals {
    /// Notes that `info` lies at `offset` of the file at `location`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the limits.
    pub(crate) fn push(
        &mut self,
        container: Container,
        location: &str,
        (offset, len): (u64, u64),
        info: TensorInfo,
    ) -> Result<()> {
        info.check()
            .map_err(|e| Error::too_large(container, e.to_string()))?;
        self.n_tensors += 1;
        // The location is held once for each file, but there may be as many files as tensors.
        self.held_len += location.len() + info.name.len() + size_of_val(info.shape.as_slice());
        if self.n_tensors > limits::TENSORS_MAX || self.held_len > HELD_LEN_MAX {
            return Err(Error::too_large(
                container,
                "too many tensors in other files",
            ));
        }
        match self.files.get_mut(location) {
            Some(tensors) => tensors.push((offset, len, info)),
            None => {
                self.files
                    .insert(location.to_owned(), vec![(offset, len, info)]);
            }
        }
        Ok(())
    }

    /// Hands everything to `builder`.
    ///
    /// # Errors
    /// As [`LayoutBuilder::external`].
    pub(crate) fn finish(self, builder: &mut LayoutBuilder) -> Result<()> {
        let mut files = self.files.into_iter();
        files.try_for_each(|(location, tensors)| builder.external(External { location, tensors }))
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;

    use super::*;

    fn info(name: &str) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: vec![1],
        }
    }

    #[test]
    fn files_come_in_order_and_hold_their_tensors() {
        let mut externals = Externals::default();
        for (location, name) in [("b", "1"), ("a", "2"), ("b", "3")] {
            externals
                .push(Container::Onnx, location, (0, 4), info(name))
                .unwrap();
        }
        let mut builder = LayoutBuilder::new(Container::Onnx, 0);
        externals.finish(&mut builder).unwrap();
        let layout = builder.finish().unwrap();
        let found: Vec<_> = layout
            .externals()
            .iter()
            .map(|external| (external.location.as_str(), external.tensors.len()))
            .collect();
        assert_eq!(found, [("a", 1), ("b", 2)]);
    }

    #[test]
    fn long_names_without_end_are_refused() {
        let mut externals = Externals::default();
        let name = "x".repeat(limits::TENSOR_NAME_LEN_MAX);
        let refused = (0..=HELD_LEN_MAX / name.len())
            .map(|_| externals.push(Container::Onnx, "f", (0, 4), info(&name)))
            .find(Result::is_err);
        assert!(matches!(refused, Some(Err(Error::TooLarge { .. }))));
    }
}

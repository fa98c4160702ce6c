//! The native half of the package `mmh` for Python: the module `mmh._native`.
//!
//! It is thin: what Python users see (docs/PYTHON.md) is in `python/mmh`, which passes plain values
//! down and gets bytes and JSON back. Long work runs without Python's lock and on a thread of its
//! own, while the caller's thread looks for Ctrl-C and tells how far it is (`machine`). Like every
//! library of the workspace it prints nothing and reads no environment: Python hands that in.

mod failure;
mod file;
mod keys;
mod machine;
mod opening;
mod repository;

use pyo3::prelude::*;

/// The module. Everything in it is for `mmh`'s own Python files.
#[pymodule(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<repository::Repository>()?;
    module.add_class::<file::File>()?;
    module.add_function(wrap_pyfunction!(repository::open, module)?)?;
    module.add_function(wrap_pyfunction!(repository::init, module)?)?;
    module.add_function(wrap_pyfunction!(file::open_plain, module)?)
}

//! The ratchets in `xtask/limits.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::shell::{Context as _, Outcome, root};

/// What tidy compares the workspace with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) locked_packages: usize,
    pub(crate) file_lines_max: usize,
    pub(crate) function_lines: usize,
    pub(crate) long_functions_percent_max: f64,
    pub(crate) test_lines_per_code_line_min: f64,
    pub(crate) licences: Vec<String>,
    pub(crate) banned: BTreeMap<String, String>,
    pub(crate) arrows: BTreeMap<String, Vec<String>>,
    pub(crate) pure: Pure,
}

/// Crates that only compute, and the crates that would let them do more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pure {
    pub(crate) crates: Vec<String>,
    pub(crate) without: Vec<String>,
}

impl Limits {
    /// Reads the committed file.
    pub(crate) fn read() -> Outcome<Self> {
        let path = root().join("xtask/limits.toml");
        let text = std::fs::read_to_string(&path).context(path.display())?;
        toml::from_str(&text).context(path.display())
    }
}

//! Which engines this machine has, and the choice among them.

use std::sync::OnceLock;

use mmh_core::error::shorten;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use super::Neon;
#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx512};
use super::{Engine, Reference};
use crate::error::{Error, Result};

/// The engines that this machine has, the fastest first; [`Reference`] is always the last.
#[must_use]
pub fn engines() -> &'static [&'static dyn Engine] {
    static FOUND: OnceLock<Vec<&'static dyn Engine>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let known: &[Option<&'static dyn Engine>] = &[
            #[cfg(target_arch = "x86_64")]
            Avx512::found(),
            #[cfg(target_arch = "x86_64")]
            Avx2::found(),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Neon::found(),
            Some(&Reference),
        ];
        known.iter().copied().flatten().collect()
    })
}

/// The fastest engine that this machine has.
#[must_use]
pub fn best() -> &'static dyn Engine {
    engines().first().copied().unwrap_or(&Reference)
}

/// The engine of this name, as [`Engine::name`] gives it.
///
/// # Errors
/// Invalid when no engine of this machine has the name; the message says which it has.
pub fn by_name(name: &str) -> Result<&'static dyn Engine> {
    let named = engines().iter().find(|engine| engine.name() == name);
    named.copied().ok_or_else(|| Error::UnknownEngine {
        name: shorten(name),
        found: names(),
    })
}

fn names() -> String {
    let names: Vec<&str> = engines().iter().map(|engine| engine.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;

    #[test]
    fn every_engine_is_found_by_its_name_and_the_first_is_the_best() {
        for engine in engines() {
            assert_eq!(by_name(engine.name()).unwrap().name(), engine.name());
        }
        assert_eq!(best().name(), engines()[0].name());
        assert_eq!(engines().last().unwrap().name(), "reference");
    }

    #[test]
    fn an_engine_that_is_not_here_is_an_error_that_names_those_that_are() {
        for name in ["", "avx1024", "Reference", "reference "] {
            let error = by_name(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(&names()), "{error}");
        }
    }

    /// So that a run of these tests on such a machine, or an emulated one, is one of the engine.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    #[test]
    fn every_arm_of_64_bits_has_neon() {
        assert_eq!(best().name(), "neon");
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<&str> = engines().iter().map(|engine| engine.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), engines().len());
    }
}

//! Settings as this process has them: its environment, and what was typed.

use std::collections::BTreeMap;
use std::ffi::OsString;

pub(crate) use mmh_user::config::{
    Config, Environment, Flags, Setting, cache_folder, files, state_folder,
};

use crate::args::{Global, LevelArg};

/// The real environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process;

impl Environment for Process {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    fn starting(&self, starts: &[&str]) -> BTreeMap<String, String> {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os()
            .filter_map(text)
            .filter(|(name, _)| starts.iter().any(|start| name.starts_with(start)))
            .collect()
    }
}

/// The layer of what was typed; the level is one command's.
pub(crate) fn typed(global: &Global, level: Option<LevelArg>) -> Flags {
    Flags {
        repository: global.repository.clone(),
        author: global.author.clone(),
        threads: global.threads,
        engine: global.engine.clone(),
        log: global.log.clone(),
        level: level.map(|level| match level {
            LevelArg::Fast => mmh_repo::Level::Fast,
            LevelArg::Default => mmh_repo::Level::Default,
            LevelArg::Archive => mmh_repo::Level::Archive,
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn what_was_typed_is_a_layer_of_its_own() {
        let words = ["mmh", "-R", "s3://b/x", "ls", "--author", "me", "-j", "3"];
        let cli = Cli::try_parse_from(words).unwrap();
        let flags = typed(&cli.global, Some(LevelArg::Archive));
        assert_eq!(flags.repository.as_deref(), Some("s3://b/x"));
        assert_eq!(
            (flags.author.as_deref(), flags.threads),
            (Some("me"), Some(3))
        );
        assert_eq!(flags.level, Some(mmh_repo::Level::Archive));
        assert_eq!((flags.engine, flags.log), (None, None));
        assert_eq!(typed(&cli.global, None).level, None);
    }
}

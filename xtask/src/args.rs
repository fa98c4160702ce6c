//! The words after `cargo xtask COMMAND`.

use std::collections::VecDeque;
use std::str::FromStr;

use crate::shell::{Failure, Outcome};

/// Arguments that are taken one by one; what is left over at the end is an error.
#[derive(Debug)]
pub(crate) struct Args(VecDeque<String>);

impl Args {
    /// The arguments of this process, without its name.
    pub(crate) fn of_process() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Takes the next word that is no option.
    pub(crate) fn positional(&mut self) -> Option<String> {
        let idx = self.0.iter().position(|word| !word.starts_with('-'))?;
        self.0.remove(idx)
    }

    /// Takes every word that is no option. Take the options with values first.
    pub(crate) fn positionals(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.positional()).collect()
    }

    /// Takes a switch, and says whether it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|word| word == name);
        found.is_some_and(|idx| self.0.remove(idx).is_some())
    }

    /// Takes every `NAME VALUE`, in order.
    pub(crate) fn values(&mut self, name: &str) -> Outcome<Vec<String>> {
        let mut values = Vec::new();
        while let Some(idx) = self.0.iter().position(|word| word == name) {
            self.0.remove(idx);
            let value = self.0.remove(idx).filter(|value| !value.starts_with("--"));
            values.push(value.ok_or_else(|| Failure::usage(format!("{name} needs a value")))?);
        }
        Ok(values)
    }

    /// Takes the last `NAME VALUE` and parses it.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Outcome<Option<T>> {
        let Some(text) = self.values(name)?.pop() else {
            return Ok(None);
        };
        let value = text.parse();
        value
            .map(Some)
            .map_err(|_| Failure::usage(format!("{name} cannot be `{text}`")))
    }

    /// Takes all that is left, for a program that reads its own words.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0.into()
    }

    /// Fails if a word is left that nobody took.
    pub(crate) fn finish(self) -> Outcome {
        match self.0.front() {
            None => Ok(()),
            Some(word) => Err(Failure::usage(format!("unexpected argument `{word}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args(line.split_whitespace().map(String::from).collect())
    }

    #[test]
    fn options_values_and_words_come_apart() {
        let mut args = args("dir --set a --small --set b -n 7 other");
        assert_eq!(args.values("--set").unwrap(), ["a", "b"]);
        assert_eq!(args.value::<u32>("-n").unwrap(), Some(7));
        assert!(args.flag("--small") && !args.flag("--small"));
        assert_eq!(args.positionals(), ["dir", "other"]);
        args.finish().unwrap();
    }

    #[test]
    fn the_rest_keeps_its_order() {
        let mut args = args("simulate --seed 7 --trace");
        assert_eq!(args.positional().as_deref(), Some("simulate"));
        assert_eq!(args.rest(), ["--seed", "7", "--trace"]);
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for (line, name) in [
            ("--set", "--set"),
            ("--set --small", "--set"),
            ("-n x", "-n"),
        ] {
            assert_eq!(args(line).value::<u32>(name).unwrap_err().code, 2, "{line}");
        }
        let left = args("--unknown").finish().unwrap_err();
        assert!(left.message.contains("--unknown"));
    }
}

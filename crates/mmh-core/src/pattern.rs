//! Patterns of repository names: one name, everything below a part of one, or all names.
//!
//! `models/acme/minilm` fits itself alone, `models/acme/*` and `datasets/*` what is below, `*` all.
//! As with names, `acme/*` means models. FORMAT.md, "Signatures".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::name::{FAMILIES, RepoName, check_component};

/// Which repository names are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePattern(String);

impl NamePattern {
    /// The full spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is meant.
    #[must_use]
    pub fn matches(&self, name: &RepoName) -> bool {
        match self.0.strip_suffix('*') {
            Some(below) => name.as_str().starts_with(below),
            None => name.as_str() == self.0,
        }
    }

    /// How exact it is: of two patterns that fit one name, the more exact one has more to say. A
    /// whole name is more exact than any pattern, a long beginning more than a short one.
    #[must_use]
    pub fn exactness(&self) -> usize {
        match self.0.strip_suffix('*') {
            Some(below) => below.len(),
            None => usize::MAX,
        }
    }
}

impl From<&RepoName> for NamePattern {
    fn from(name: &RepoName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl FromStr for NamePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let Some(below) = text.strip_suffix("/*") else {
            return Ok(Self::from(&text.parse::<RepoName>()?));
        };
        let first = below.split('/').next().unwrap_or_default();
        let full = match FAMILIES.contains(&first) {
            true => below.to_owned(),
            false => format!("models/{below}"),
        };
        full.split('/')
            .try_for_each(|part| check_component(text, part))?;
        // Whatever ends in a name must be one: a pattern that fits nothing is a mistake.
        format!("{full}/x").parse::<RepoName>()?;
        Ok(Self(format!("{full}/*")))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for NamePattern {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NamePattern {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        let pattern: NamePattern = pattern.parse().unwrap();
        pattern.matches(&name.parse().unwrap())
    }

    #[test]
    fn patterns_fit_what_they_name() {
        assert!(fits("acme/minilm", "models/acme/minilm"));
        assert!(!fits("acme/minilm", "acme/minilm2"));
        assert!(fits("acme/*", "models/acme/minilm"));
        assert!(!fits("acme/*", "models/acme2/minilm") && !fits("acme/*", "datasets/acme/x"));
        assert!(fits("datasets/*", "datasets/squad") && !fits("datasets/*", "squad"));
        assert!(fits("trees/a/*", "trees/a/b/c") && !fits("trees/a/*", "trees/a"));
        assert!(fits("*", "spaces/x") && fits("*", "gpt2"));
    }

    #[test]
    fn a_pattern_has_one_full_spelling() {
        for (text, full) in [
            ("acme/*", "models/acme/*"),
            ("models/*", "models/*"),
            ("gpt2", "models/gpt2"),
            ("trees/a/b", "trees/a/b"),
            ("*", "*"),
        ] {
            let pattern: NamePattern = text.parse().unwrap();
            assert_eq!(pattern.as_str(), full);
            assert_eq!(full.parse::<NamePattern>().unwrap(), pattern);
        }
    }

    #[test]
    fn patterns_that_fit_nothing_are_refused() {
        for text in [
            "",
            "/*",
            "**",
            "a*",
            "*/a",
            "a/b/*",
            "models/a/b/*",
            "../*",
            "a/*/*",
            "-a/*",
            "a /*",
            "trees/a/b/c/d/e/f/g/h/*",
        ] {
            assert!(text.parse::<NamePattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_more_exact_pattern_is_known() {
        let order = ["*", "models/*", "models/acme/*", "models/acme/minilm"];
        let exactness = order.map(|text| text.parse::<NamePattern>().unwrap().exactness());
        assert!(exactness.is_sorted_by(|a, b| a < b), "{exactness:?}");
    }

    proptest! {
        #[test]
        fn accepted_text_survives(text in "[a-z*/.-]{0,16}") {
            if let Ok(pattern) = text.parse::<NamePattern>() {
                prop_assert_eq!(pattern.to_string().parse::<NamePattern>().ok(), Some(pattern));
            }
        }
    }
}

//! What a place needs that its URL does not say: credentials, a folder on this machine, and where
//! the log lives. Handed in, since libraries read no environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Bytes that the cache of one repository elsewhere may hold, unless told otherwise.
pub const CACHE_LEN_DEFAULT: u64 = 10 << 30;

/// How places beyond this machine are reached. The default reaches folders only.
#[derive(Clone, Default)]
pub struct Access {
    /// Variables under their usual names: `AWS_…`, `GOOGLE_…`, `AZURE_…`, `PG…`.
    pub variables: BTreeMap<String, String>,
    /// The folder for packs that grow here and for what was read from elsewhere. Places beyond
    /// this machine need one.
    pub cache: Option<PathBuf>,
    /// Bytes that the cache of one repository may hold; 0 keeps nothing.
    pub cache_len_max: u64,
    /// The URL of the log, if it does not lie beside the packs. May hold a password.
    pub log: Option<String>,
}

impl Access {
    /// The value of a variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// Whether a variable says yes.
    #[cfg_attr(
        not(feature = "net"),
        allow(dead_code, reason = "engines elsewhere ask")
    )]
    pub(crate) fn says(&self, name: &str) -> bool {
        let yes = |value: &str| ["1", "true", "yes"].contains(&value);
        self.variable(name).is_some_and(|v| yes(&v.to_lowercase()))
    }
}

/// Names of variables, but no values: they are secrets.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("variables", &self.variables.keys())
            .field("cache", &self.cache)
            .field("cache_len_max", &self.cache_len_max)
            .field("log", &self.log.as_ref().map(|_| "…"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let variables = [
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("AWS_ALLOW_HTTP", "True"),
        ];
        let access = Access {
            variables: variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            log: Some("postgres://u:hush@h/d".to_owned()),
            ..Access::default()
        };
        let text = format!("{access:?}");
        assert!(
            text.contains("AWS_SECRET_ACCESS_KEY") && !text.contains("hush"),
            "{text}"
        );
        assert!(access.says("AWS_ALLOW_HTTP") && !access.says("AWS_SECRET_ACCESS_KEY"));
    }

    #[test]
    fn an_empty_variable_is_none() {
        let variables = [("PGUSER".to_owned(), String::new())].into();
        let access = Access {
            variables,
            ..Access::default()
        };
        assert_eq!(access.variable("PGUSER"), None);
        assert_eq!(access.variable("PGHOST"), None);
    }
}

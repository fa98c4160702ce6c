//! Which files are not to be uploaded: what `.gitignore` says of a path (git's manual, gitignore(5)).

use super::pattern::Pattern;

/// Most bytes of such a file that are read,
pub(crate) const IGNORE_LEN_MAX: u64 = 64 << 10;
/// and most of its lines.
const RULES_MAX: usize = 1024;

/// The rules of a `.gitignore` at the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    /// A pattern that ends with a slash is for folders.
    folders_only: bool,
    /// `!` takes in again what an earlier rule left out.
    ignored: bool,
}

impl Ignore {
    /// Reads the text of a `.gitignore`; what makes no sense is passed over, as git does.
    pub(crate) fn parse(text: &str) -> Self {
        let rules = text.lines().filter_map(rule).take(RULES_MAX).collect();
        Self { rules }
    }

    /// Whether a file is left out: itself, or a folder that it is in, below which nothing is taken in
    /// again.
    pub(crate) fn ignores(&self, path: &str) -> bool {
        let folders: Vec<&str> = path.split('/').collect();
        (1..=folders.len()).any(|n| {
            let is_file = n == folders.len();
            let fits = |r: &&Rule| !(r.folders_only && is_file) && r.pattern.fits(&folders[..n]);
            self.rules
                .iter()
                .rev()
                .find(fits)
                .is_some_and(|rule| rule.ignored)
        })
    }
}

fn rule(line: &str) -> Option<Rule> {
    let (line, ignored) = match line.strip_prefix('!') {
        Some(line) => (line, false),
        None => (line, true),
    };
    let bare = match line.trim_end_matches([' ', '\t', '\r']) {
        // An escaped blank at the end counts.
        bare if bare.ends_with('\\') && bare.len() < line.len() => &line[..=bare.len()],
        bare => bare,
    };
    let pattern = bare.strip_suffix('/').unwrap_or(bare);
    if line.starts_with('#') || pattern.is_empty() {
        return None;
    }
    Some(Rule {
        // A slash at the end does not bind a pattern to the root.
        pattern: Pattern::parse(pattern),
        folders_only: bare.len() > pattern.len(),
        ignored,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_those_of_git() {
        for (rules, path, ignored) in [
            ("*.tmp", "a/b.tmp", true),
            ("*.tmp", "a/b.tmpx", false),
            ("nested/*", "nested/file.bin", true),
            ("nested/*", "x/nested/file.bin", false),
            ("nested/", "x/nested/file.bin", true),
            ("nested/", "x/nested", false),
            ("nested", "x/nested", true),
            ("/nested", "x/nested", false),
            ("build\n!build/keep", "build/keep", true),
            ("build/*\n!build/keep", "build/keep", false),
            ("*.bin\n!a.bin\na.*", "a.bin", true),
            ("# *.bin\n\n!", "a.bin", false),
            ("\\#a", "#a", true),
            ("\\!a", "!a", true),
            ("a  ", "a", true),
            ("a\\ ", "a ", true),
            ("a/**/z", "a/b/c/z/f", true),
            ("", "a", false),
        ] {
            assert_eq!(
                Ignore::parse(rules).ignores(path),
                ignored,
                "{rules:?} {path}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String, path: String) {
            Ignore::parse(&text).ignores(&path);
        }

        /// What nothing takes in again stays out below a folder that is left out.
        #[test]
        fn folders_take_their_files_along(name in "[a-z]{1,5}", below in "[a-z/]{1,9}") {
            let ignore = Ignore::parse(&format!("{name}/\n!{name}/{below}"));
            let path = format!("{name}/{below}");
            prop_assert!(ignore.ignores(&path));
        }
    }
}

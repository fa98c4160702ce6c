//! Documents: what they point to must exist, and no file may name the place where it was written.

use std::path::Path;

use super::Tracked;
use crate::shell::root;

/// Findings about links in Markdown and about names that mean nothing to a stranger.
pub(crate) fn check(files: &[Tracked]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        if file.path.ends_with(".md") {
            for target in targets(&file.text) {
                if !exists(&file.path, &target) {
                    findings.push(format!(
                        "{} points to `{target}`, which is not there",
                        file.path
                    ));
                }
            }
        }
        if file.path != "Cargo.lock" {
            for (idx, line) in file.text.lines().enumerate() {
                if let Some(word) = foreign()
                    .into_iter()
                    .find(|word| line.contains(word.as_str()))
                {
                    findings.push(format!("{}:{} names `{word}`", file.path, idx + 1));
                }
            }
        }
    }
    findings
}

/// Machine paths and registry hosts; written in pieces so that this file does not contain them.
fn foreign() -> [String; 5] {
    [
        ["/wo", "rk/"].concat(),
        [".lib", "rary"].concat(),
        ["pypi", ".org"].concat(),
        ["pythonhosted", ".org"].concat(),
        ["npmjs", ".org"].concat(),
    ]
}

/// Relative link targets, and paths of this repository in backticks, outside code blocks.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                targets.push(target.to_owned());
            }
        }
        for word in line.split('`').skip(1).step_by(2) {
            let path = word.split(':').next().unwrap_or_default();
            let ours = ["crates/", "xtask/", "bench/", "docs/", "testdata/"];
            if ours.iter().any(|start| path.starts_with(start))
                && !path.contains(['*', '<', '{', ' '])
            {
                targets.push(format!("/{path}"));
            }
        }
    }
    targets
}

/// Whether a target exists: from the root if it begins with `/`, else from the document's folder.
fn exists(document: &str, target: &str) -> bool {
    let base = match target.strip_prefix('/') {
        Some(rest) => return root().join(rest).exists(),
        None => root().join(document),
    };
    base.parent().unwrap_or(Path::new("")).join(target).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&[Tracked {
            path: path.into(),
            text: text.into(),
        }])
        .len()
    }

    #[test]
    fn dead_pointers_are_found_and_live_ones_are_not() {
        assert_eq!(
            findings(
                "a.md",
                "[x](Cargo.toml) `xtask/Cargo.toml:3` [y](https://a.example)"
            ),
            0
        );
        assert_eq!(
            findings(
                "xtask/a.md",
                "[x](src/main.rs#top) [here](#here) `crates/*/src`"
            ),
            0
        );
        assert_eq!(findings("a.md", "[x](no-such.md) `docs/no-such.md`"), 2);
        assert_eq!(findings("a.md", "```\n[x](no-such.md)\n```\n"), 0);
        assert_eq!(findings("a.rs", "[x](no-such.md)"), 0, "only documents");
    }

    #[test]
    fn places_of_the_workshop_are_found() {
        for word in foreign() {
            assert_eq!(findings("a.rs", &format!("// see {word}here")), 1, "{word}");
            assert_eq!(findings("Cargo.lock", &word), 0);
        }
    }
}

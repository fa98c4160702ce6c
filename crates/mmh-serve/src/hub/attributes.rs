//! Which files hubs keep as large ones (git-LFS): what `.gitattributes` says of a path (git's manual,
//! gitattributes(5), with the patterns of gitignore(5)), and from some length on all.

use super::pattern::Pattern;

/// From so many bytes on, a file is a large one whatever its name: 10 MB, as hubs have it.
pub(crate) const LARGE_LEN: u64 = 10_000_000;
/// Most bytes of a file of attributes that are read,
pub(crate) const ATTRIBUTES_LEN_MAX: u64 = 64 << 10;
/// and most of its lines.
const RULES_MAX: usize = 1024;

/// What a new repository begins with, and what counts where there is no such file: names that model
/// hubs give to weights and to archives.
pub(crate) const SEED: &str = "\
*.7z filter=lfs diff=lfs merge=lfs -text
*.arrow filter=lfs diff=lfs merge=lfs -text
*.bin filter=lfs diff=lfs merge=lfs -text
*.bz2 filter=lfs diff=lfs merge=lfs -text
*.ckpt filter=lfs diff=lfs merge=lfs -text
*.ftz filter=lfs diff=lfs merge=lfs -text
*.gguf filter=lfs diff=lfs merge=lfs -text
*.gz filter=lfs diff=lfs merge=lfs -text
*.h5 filter=lfs diff=lfs merge=lfs -text
*.joblib filter=lfs diff=lfs merge=lfs -text
*.lfs.* filter=lfs diff=lfs merge=lfs -text
*.mlmodel filter=lfs diff=lfs merge=lfs -text
*.model filter=lfs diff=lfs merge=lfs -text
*.msgpack filter=lfs diff=lfs merge=lfs -text
*.npy filter=lfs diff=lfs merge=lfs -text
*.npz filter=lfs diff=lfs merge=lfs -text
*.onnx filter=lfs diff=lfs merge=lfs -text
*.ot filter=lfs diff=lfs merge=lfs -text
*.parquet filter=lfs diff=lfs merge=lfs -text
*.pb filter=lfs diff=lfs merge=lfs -text
*.pickle filter=lfs diff=lfs merge=lfs -text
*.pkl filter=lfs diff=lfs merge=lfs -text
*.pt filter=lfs diff=lfs merge=lfs -text
*.pth filter=lfs diff=lfs merge=lfs -text
*.rar filter=lfs diff=lfs merge=lfs -text
*.safetensors filter=lfs diff=lfs merge=lfs -text
saved_model/**/* filter=lfs diff=lfs merge=lfs -text
*.tar.* filter=lfs diff=lfs merge=lfs -text
*.tar filter=lfs diff=lfs merge=lfs -text
*.tflite filter=lfs diff=lfs merge=lfs -text
*.tgz filter=lfs diff=lfs merge=lfs -text
*.wasm filter=lfs diff=lfs merge=lfs -text
*.xz filter=lfs diff=lfs merge=lfs -text
*.zip filter=lfs diff=lfs merge=lfs -text
*.zst filter=lfs diff=lfs merge=lfs -text
*tfevents* filter=lfs diff=lfs merge=lfs -text
";

/// The rules of a file of attributes, as far as they say what is large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    large: bool,
}

impl Attributes {
    /// Reads the text of a `.gitattributes`; what makes no sense is passed over, as git does.
    pub(crate) fn parse(text: &str) -> Self {
        let rules = text.lines().filter_map(rule).take(RULES_MAX).collect();
        Self { rules }
    }

    /// Whether a file is a large one.
    pub(crate) fn is_large(&self, path: &str, len: u64) -> bool {
        match len {
            // For git-LFS, nothing is its own pointer.
            0 => return false,
            LARGE_LEN.. => return true,
            _ => {}
        }
        let folders: Vec<&str> = path.split('/').collect();
        let fitting = self
            .rules
            .iter()
            .rev()
            .find(|rule| rule.pattern.fits(&folders));
        fitting.is_some_and(|rule| rule.large)
    }
}

/// A line, if it says something of the filter.
fn rule(line: &str) -> Option<Rule> {
    let mut words = line.split_ascii_whitespace();
    let pattern = words.next().filter(|p| !p.starts_with(['#', '!', '"']))?;
    let mut large = None;
    for word in words {
        match word {
            "filter=lfs" => large = Some(true),
            "-filter" | "!filter" => large = Some(false),
            other if other.starts_with("filter=") => large = Some(false),
            _ => {}
        }
    }
    Some(Rule {
        pattern: Pattern::parse(pattern),
        large: large?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn large(rules: &str, path: &str) -> bool {
        let rules: String = rules.split(';').map(|r| format!("{r}\n")).collect();
        Attributes::parse(&rules).is_large(path, 10)
    }

    #[test]
    fn patterns_are_those_of_git() {
        for (pattern, path, fits) in [
            ("*.bin", "a.bin", true),
            ("*.bin", "x/y/a.bin", true),
            ("*.bin", "a.bin2", false),
            ("/*.bin", "a.bin", true),
            ("/*.bin", "x/a.bin", false),
            ("x/*.bin", "x/a.bin", true),
            ("x/*.bin", "x/y/a.bin", false),
            ("x/**/*", "x/y/z/a", true),
            ("x/**/*", "x/a", true),
            ("**/x", "a/b/x", true),
            ("**/x", "x", true),
            ("x/**", "x/a/b", true),
            ("[a-c]?.t", "bz.t", true),
            ("[!a-c]?.t", "bz.t", false),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "aXb", false),
            ("*tfevents*", "runs/e.tfevents.1", true),
        ] {
            assert_eq!(
                large(&format!("{pattern} filter=lfs"), path),
                fits,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn the_last_rule_counts_and_length_counts_most() {
        assert!(!large("*.bin filter=lfs;small.bin -filter", "small.bin"));
        assert!(!large("*.bin filter=lfs;*.bin filter=other", "a.bin"));
        assert!(large("*.bin -filter;*.bin filter=lfs", "a.bin"));
        assert!(
            large("*.bin filter=lfs;*.bin text", "a.bin"),
            "says nothing of the filter"
        );
        assert!(!large("# *.bin filter=lfs;;*.bin", "a.bin"));
        assert!(Attributes::parse("").is_large("a", LARGE_LEN));
        assert!(!Attributes::parse("* filter=lfs").is_large("a", 0));
        assert!(!Attributes::parse("").is_large("a", LARGE_LEN - 1));
        let seed = Attributes::parse(SEED);
        assert!(seed.is_large("model.safetensors", 1));
        assert!(seed.is_large("saved_model/a/b/c", 1));
        assert!(!seed.is_large("config.json", 1) && !seed.is_large("saved_model", 1));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String, path: String) {
            Attributes::parse(&format!("{text} filter=lfs")).is_large(&path, 1);
        }
    }

    /// A pattern that takes ages where one goes back to every star.
    #[test]
    fn hostile_patterns_take_no_time() {
        let pattern = format!("{}c filter=lfs", "*a".repeat(500));
        assert!(!Attributes::parse(&pattern).is_large(&"a".repeat(2000), 1));
        let folders = format!("{}c filter=lfs", "**/a/".repeat(200));
        assert!(!Attributes::parse(&folders).is_large(&"a/".repeat(1000), 1));
    }
}

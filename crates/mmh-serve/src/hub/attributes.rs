//! Which files hubs keep as large ones (git-LFS): what `.gitattributes` says of a path (git's manual,
//! gitattributes(5), with the patterns of gitignore(5)), and from some length on all.

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
    /// The pattern, by the folders of a path; without a folder it is for names wherever they are.
    folders: Vec<String>,
    anywhere: bool,
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
        if len >= LARGE_LEN {
            return true;
        }
        let folders: Vec<&str> = path.split('/').collect();
        let fitting = self.rules.iter().rev().find(|rule| rule.fits(&folders));
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
    let bare = pattern.trim_start_matches('/');
    Some(Rule {
        folders: bare.split('/').map(str::to_owned).collect(),
        anywhere: !pattern.contains('/'),
        large: large?,
    })
}

impl Rule {
    fn fits(&self, folders: &[&str]) -> bool {
        let folders = match (self.anywhere, folders.last()) {
            (true, Some(_)) => &folders[folders.len() - 1..],
            _ => folders,
        };
        wild(
            &self.folders,
            folders,
            |pattern| pattern == "**",
            |pattern, name| {
                let (pattern, name): (Vec<char>, Vec<char>) =
                    (pattern.chars().collect(), name.chars().collect());
                wild(&tokens(&pattern), &name, |t| *t == Token::Any, fits_one)
            },
        )
    }
}

/// A part of a pattern for a name.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// Any characters.
    Any,
    /// Any character.
    One,
    This(char),
    /// One of those, or none of those.
    Of(&'a [char], bool),
}

fn tokens(pattern: &[char]) -> Vec<Token<'_>> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = pattern.get(at) {
        at += 1;
        tokens.push(match c {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' if at < pattern.len() => {
                at += 1;
                Token::This(pattern[at - 1])
            }
            '[' => {
                let not = matches!(pattern.get(at), Some('!' | '^'));
                let from = at + usize::from(not);
                // A bracket that comes first is one of the characters.
                let end = pattern.iter().skip(from + 1).position(|c| *c == ']');
                let Some(end) = end.map(|n| from + 1 + n) else {
                    tokens.push(Token::This('['));
                    continue;
                };
                at = end + 1;
                Token::Of(&pattern[from..end], not)
            }
            c => Token::This(*c),
        });
    }
    tokens
}

fn fits_one(token: &Token<'_>, c: &char) -> bool {
    match token {
        Token::Any => false,
        Token::One => true,
        Token::This(this) => this == c,
        Token::Of(set, not) => {
            let range = set
                .windows(3)
                .any(|w| w[1] == '-' && (w[0]..=w[2]).contains(c));
            (set.contains(c) || range) != *not
        }
    }
}

/// Whether a pattern fits all of a text, where some parts of the pattern are any number of the
/// text's: goes back to the last of those only, which is enough, so that the time is bounded by the
/// product of both lengths.
fn wild<P, T>(
    pattern: &[P],
    text: &[T],
    any: impl Fn(&P) -> bool,
    one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(part) if any(part) => {
                back = Some((p, t));
                p += 1;
            }
            Some(part) if one(part, &text[t]) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = back else {
                    return false;
                };
                back = Some((star, from + 1));
                (p, t) = (star + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(any)
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

        /// Against a matcher that tries everything.
        #[test]
        fn wildcards_are_as_they_say(pattern in "[ab*]{0,7}", text in "[ab]{0,8}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                    Some((p, rest)) => {
                        text.split_first().is_some_and(|(t, after)| t == p && slow(rest, after))
                    }
                }
            }
            let fast = wild(pattern.as_bytes(), text.as_bytes(), |p| *p == b'*', |p, t| p == t);
            prop_assert_eq!(fast, slow(pattern.as_bytes(), text.as_bytes()));
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

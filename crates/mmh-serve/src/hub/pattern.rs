//! Patterns of paths as git has them in `.gitattributes` and `.gitignore` (git's manual, gitignore(5)).

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// By the folders of a path; without a folder it is for names wherever they are.
    folders: Vec<String>,
    anywhere: bool,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Self {
        let bare = text.trim_start_matches('/');
        Self {
            folders: bare.split('/').map(str::to_owned).collect(),
            anywhere: !text.contains('/'),
        }
    }

    /// Whether a path fits, given by its folders and its name.
    pub(crate) fn fits(&self, folders: &[&str]) -> bool {
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

    proptest! {
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
}

//! Bearer tokens (RFC 6750): who holds one may read, or also write.
//!
//! A file of tokens has a line for each: role, BLAKE3 of the token, and a name for people. The
//! token itself is shown once, when it is made. It has 256 random bits, so a plain digest hides it.

use blake3::Hash;

use crate::error::{Error, Result, random};

/// Before every token that is made here: clients of hubs take no others.
pub const TOKEN_START: &str = "hf_";
/// Longest line of a file of tokens, in bytes.
const LINE_LEN_MAX: usize = 1024;

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing.
    Nobody,
    /// Read.
    Reader,
    /// Read and write.
    Writer,
}

impl Role {
    /// As files of tokens spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Reader => "read",
            Self::Writer => "write",
        }
    }

    fn of(text: &str) -> Option<Self> {
        let all = [Self::Reader, Self::Writer];
        all.into_iter().find(|role| role.as_str() == text)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    role: Role,
    digest: Hash,
    name: String,
}

/// The tokens that a server knows.
#[derive(Debug, Clone)]
pub struct Tokens {
    entries: Vec<Entry>,
    anonymous: Role,
}

impl Tokens {
    /// No tokens: everybody who can connect has that role.
    #[must_use]
    pub fn none(anonymous: Role) -> Self {
        Self {
            entries: Vec::new(),
            anonymous,
        }
    }

    /// Reads the text of a file of tokens; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// Invalid, with the line's number and never its text.
    pub fn parse(text: &str, place: &str, anonymous: Role) -> Result<Self> {
        let mut entries = Vec::new();
        for (line, n) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = parse_line(line).ok_or_else(|| Error::BadFile {
                place: place.to_owned(),
                reason: format!("line {n}: use `read|write DIGEST NAME`, as `mmh token` writes it"),
            })?;
            entries.push(entry);
        }
        Ok(Self { entries, anonymous })
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the bearer of an `Authorization` header may do, and the token's name. Every token's
    /// digest is compared, each in a time that does not depend on where it differs.
    #[must_use]
    pub(crate) fn role(&self, header: Option<&[u8]>) -> (Role, &str) {
        let Some(token) = header.and_then(bearer) else {
            return (self.anonymous, "");
        };
        let digest = blake3::hash(token);
        let mut found = (Role::Nobody, "");
        for entry in &self.entries {
            // The comparison of `Hash` takes constant time.
            if entry.digest == digest {
                found = (entry.role, &entry.name);
            }
        }
        found
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn parse_line(line: &str) -> Option<Entry> {
    if line.len() > LINE_LEN_MAX {
        return None;
    }
    let mut words = line.splitn(3, ' ');
    let role = Role::of(words.next()?)?;
    let digest = Hash::from_hex(words.next()?).ok()?;
    let name = words.next().unwrap_or_default().trim().to_owned();
    Some(Entry { role, digest, name })
}

/// A new token, and its line for the file.
///
/// # Errors
/// Unavailable without random bytes.
pub fn new_token(role: Role, name: &str) -> Result<(String, String)> {
    let secret = Hash::from_bytes(random()?);
    let token = format!("{TOKEN_START}{}", secret.to_hex());
    let digest = blake3::hash(token.as_bytes()).to_hex();
    let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    let line = format!("{} {digest} {name}", role.as_str());
    Ok((token, line.trim_end().to_owned() + "\n"))
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn header(token: &str) -> Vec<u8> {
        format!("Bearer {token}").into_bytes()
    }

    #[test]
    fn a_token_has_its_role_and_no_other() {
        let (read, read_line) = new_token(Role::Reader, "laptop\nwrite x").unwrap();
        let (write, write_line) = new_token(Role::Writer, "").unwrap();
        assert_eq!(read_line.lines().count(), 1, "a name cannot add a line");
        assert!(!read_line.contains(&read), "the file does not hold it");
        let text = format!("# tokens\n\n{read_line}{write_line}");
        let tokens = Tokens::parse(&text, "f", Role::Nobody).unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens.role(Some(&header(&read))).0, Role::Reader);
        assert_eq!(tokens.role(Some(&header(&read))).1, "laptopwrite x");
        assert_eq!(tokens.role(Some(&header(&write))), (Role::Writer, ""));
        assert_eq!(tokens.role(None).0, Role::Nobody);
        for bad in [
            "",
            "x",
            &read[..read.len() - 1],
            &format!("{read}x"),
            &write.to_uppercase(),
        ] {
            assert_eq!(tokens.role(Some(&header(bad))).0, Role::Nobody, "{bad}");
        }
        let basic = format!("Basic {read}").into_bytes();
        assert_eq!(tokens.role(Some(&basic)).0, Role::Nobody);
        let spelled = format!("bEARER  {read} ").into_bytes();
        assert_eq!(
            tokens.role(Some(&spelled)).0,
            Role::Reader,
            "as RFC 9110 compares schemes"
        );
    }

    /// A wrong token is worth less than none: it is no way to what anonymous clients may.
    #[test]
    fn a_wrong_token_is_not_anonymous() {
        let open = Tokens::none(Role::Writer);
        assert!(open.is_empty());
        assert_eq!(open.role(None).0, Role::Writer);
        assert_eq!(open.role(Some(b"Bearer x")).0, Role::Nobody);
    }

    #[test]
    fn lines_that_are_none_are_named_by_their_number() {
        let digest = blake3::hash(b"secret").to_hex();
        for bad in [
            "read".to_owned(),
            "read x".to_owned(),
            format!("admin {digest}"),
            format!("write {digest}0"),
            format!("read {digest} {}", "n".repeat(2000)),
            "hf_oops".to_owned(),
        ] {
            let error = Tokens::parse(&format!("\n{bad}\n"), "tokens", Role::Nobody).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let text = error.to_string();
            assert!(text.contains("line 2") && !text.contains("oops"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(header: Vec<u8>) {
            prop_assert_eq!(Tokens::none(Role::Nobody).role(Some(&header)).0, Role::Nobody);
        }
    }
}

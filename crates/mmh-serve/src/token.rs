//! Bearer tokens (RFC 6750): what their bearers may do, everywhere or with some names only.
//!
//! A file of tokens has a line for each: what it grants, BLAKE3 of the token, and a name for people.
//! `write` grants a role everywhere, `read,write@models/acme/*` two of them, one only with names
//! that fit a pattern. The token itself is shown once, when it is made. It has 256 random bits, so
//! a plain digest hides it.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blake3::Hash;
use mmh_core::name::RepoName;

use crate::error::{Error, Result, random};

/// Before every token that is made here: clients of hubs take no others.
pub const TOKEN_START: &str = "hf_";
/// What clients of Xet show who have no token: it is as good as none.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// Longest line of a file of tokens, in bytes.
const LINE_LEN_MAX: usize = 1024;
/// Most grants of a token.
const GRANTS_MAX: usize = 32;

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing.
    Nobody,
    /// Read.
    Reader,
    /// Read and write.
    Writer,
    /// Also move and delete whole repositories.
    Admin,
}

impl Role {
    /// As files of tokens spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Reader => "read",
            Self::Writer => "write",
            Self::Admin => "admin",
        }
    }

    fn of(text: &str) -> Option<Self> {
        let all = [Self::Reader, Self::Writer, Self::Admin];
        all.into_iter().find(|role| role.as_str() == text)
    }
}

/// A role, and the names it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    role: Role,
    /// `None` for everything.
    names: Option<String>,
}

impl Grant {
    fn parse(text: &str) -> Option<Self> {
        let (role, names) = match text.split_once('@') {
            Some((role, names)) => (role, Some(names)),
            None => (text, None),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"*-_./".contains(&b);
        if names.is_some_and(|names| names.is_empty() || !names.bytes().all(plain)) {
            return None;
        }
        Some(Self {
            role: Role::of(role)?,
            names: names.map(str::to_owned),
        })
    }
}

/// Whether a name fits a pattern, in which `*` is any characters, and all others are themselves.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Who asks, and what they may do.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The token's name, empty without one.
    pub(crate) name: Arc<str>,
    /// Whether they showed a token.
    pub(crate) known: bool,
    grants: Arc<[Grant]>,
    /// What everybody may do: a token takes nothing away.
    anonymous: Role,
}

impl Caller {
    /// What they may do everywhere.
    pub(crate) fn everywhere(&self) -> Role {
        let granted = self.most(|grant| grant.names.is_none());
        granted.max(self.anonymous)
    }

    /// What they may do with a name.
    pub(crate) fn with_name(&self, name: &RepoName) -> Role {
        self.granted(name).max(self.anonymous)
    }

    /// What their token alone lets them do with a name.
    pub(crate) fn granted(&self, name: &RepoName) -> Role {
        let fits = |pattern: &str| fits(pattern, name.as_str());
        self.most(|grant| grant.names.as_deref().is_none_or(fits))
    }

    /// What they may do anywhere.
    pub(crate) fn anywhere(&self) -> Role {
        self.most(|_| true).max(self.anonymous)
    }

    fn most(&self, counts: impl Fn(&Grant) -> bool) -> Role {
        let counted = self.grants.iter().filter(|grant| counts(grant));
        counted
            .map(|grant| grant.role)
            .max()
            .unwrap_or(Role::Nobody)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    grants: Vec<Grant>,
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
                reason: format!(
                    "line {n}: use `read|write|admin DIGEST NAME`, as `mmh token` writes it"
                ),
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

    /// What clients without a token may do.
    #[must_use]
    pub fn anonymous(&self) -> Role {
        self.anonymous
    }

    /// Who the bearer of an `Authorization` header is; `None` for a token that nobody knows. Where
    /// there are no tokens, one is as good as none: clients of hubs bring those of other servers.
    /// Every token's digest is compared, each in a time that does not depend on where it differs.
    pub(crate) fn caller(&self, header: Option<&[u8]>) -> Option<Caller> {
        let is_token = |header: &&[u8]| {
            !self.is_empty() && secret(header).as_deref() != Some(ANONYMOUS.as_bytes())
        };
        let Some(header) = header.filter(is_token) else {
            return Some(Caller {
                name: "".into(),
                known: false,
                grants: [].into(),
                anonymous: self.anonymous,
            });
        };
        let digest = blake3::hash(&secret(header)?);
        let mut found = None;
        for entry in &self.entries {
            // The comparison of `Hash` takes constant time.
            if entry.digest == digest {
                found = Some(entry);
            }
        }
        let entry = found?;
        Some(Caller {
            name: entry.name.as_str().into(),
            known: true,
            grants: entry.grants.as_slice().into(),
            anonymous: self.anonymous,
        })
    }
}

/// The token in a header: the credentials of `Bearer`, or the password of `Basic` (RFC 7617), which
/// is how git's tools give it.
fn secret(header: &[u8]) -> Option<Vec<u8>> {
    if let Some(token) = scheme(header, b"bearer ") {
        return Some(token.to_vec());
    }
    let both = BASE64_STANDARD.decode(scheme(header, b"basic ")?).ok()?;
    let colon = both.iter().position(|b| *b == b':')?;
    Some(both[colon + 1..].to_vec())
}

fn scheme<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (scheme, rest) = header.split_at_checked(name.len())?;
    scheme.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

fn parse_line(line: &str) -> Option<Entry> {
    if line.len() > LINE_LEN_MAX {
        return None;
    }
    let mut words = line.splitn(3, ' ');
    let grants = words.next()?.split(',').map(Grant::parse);
    let grants = grants.collect::<Option<Vec<_>>>()?;
    if grants.len() > GRANTS_MAX {
        return None;
    }
    let digest = Hash::from_hex(words.next()?).ok()?;
    let name = words.next().unwrap_or_default().trim().to_owned();
    Some(Entry {
        grants,
        digest,
        name,
    })
}

/// A new token, and its line for the file; `names` are patterns of the names it is for, none for
/// everything.
///
/// # Errors
/// Unavailable without random bytes; Invalid for a pattern that names cannot fit.
pub fn new_token(role: Role, names: &[String], name: &str) -> Result<(String, String)> {
    let secret = Hash::from_bytes(random()?);
    let token = format!("{TOKEN_START}{}", secret.to_hex());
    let digest = blake3::hash(token.as_bytes()).to_hex();
    let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    let grants: Vec<String> = match names {
        [] => vec![role.as_str().to_owned()],
        names => (names.iter().map(|n| format!("{}@{n}", role.as_str()))).collect(),
    };
    let line = format!("{} {digest} {name}", grants.join(","));
    let line = line.trim_end().to_owned();
    if parse_line(&line).is_none() {
        return Err(Error::BadFile {
            place: "--scope".to_owned(),
            reason: "a pattern is a name such as models/acme/*".to_owned(),
        });
    }
    Ok((token, line + "\n"))
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn header(token: &str) -> Vec<u8> {
        format!("Bearer {token}").into_bytes()
    }

    fn role(tokens: &Tokens, header: Option<&[u8]>) -> Role {
        let caller = tokens.caller(header);
        caller.map_or(Role::Nobody, |caller| caller.everywhere())
    }

    #[test]
    fn a_token_has_its_role_and_no_other() {
        let (read, read_line) = new_token(Role::Reader, &[], "laptop\nwrite x").unwrap();
        let (write, write_line) = new_token(Role::Writer, &[], "").unwrap();
        assert_eq!(read_line.lines().count(), 1, "a name cannot add a line");
        assert!(!read_line.contains(&read), "the file does not hold it");
        let text = format!("# tokens\n\n{read_line}{write_line}");
        let tokens = Tokens::parse(&text, "f", Role::Nobody).unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(role(&tokens, Some(&header(&read))), Role::Reader);
        let caller = tokens.caller(Some(&header(&read))).unwrap();
        assert_eq!((&*caller.name, caller.known), ("laptopwrite x", true));
        assert_eq!(role(&tokens, Some(&header(&write))), Role::Writer);
        assert_eq!(role(&tokens, None), Role::Nobody);
        assert!(!tokens.caller(None).unwrap().known);
        for bad in [
            "",
            "x",
            &read[..read.len() - 1],
            &format!("{read}x"),
            &write.to_uppercase(),
        ] {
            assert!(tokens.caller(Some(&header(bad))).is_none(), "{bad}");
        }
        let spelled = format!("bEARER  {read} ").into_bytes();
        assert_eq!(
            role(&tokens, Some(&spelled)),
            Role::Reader,
            "as RFC 9110 compares schemes"
        );
        let basic = |text: String| format!("Basic {}", BASE64_STANDARD.encode(text)).into_bytes();
        assert_eq!(
            role(&tokens, Some(&basic(format!("me:{read}")))),
            Role::Reader
        );
        assert!(tokens.caller(Some(&basic(read.clone()))).is_none());
        assert!(
            tokens
                .caller(Some(format!("Basic {read}").as_bytes()))
                .is_none()
        );
    }

    #[test]
    fn a_scope_is_kept_to() {
        let scopes = ["models/acme/*".to_owned(), "datasets/*-eval".to_owned()];
        let (token, line) = new_token(Role::Writer, &scopes, "ci").unwrap();
        let line = line.replacen("write@", "read,write@", 1);
        let tokens = Tokens::parse(&line, "f", Role::Nobody).unwrap();
        let caller = tokens.caller(Some(&header(&token))).unwrap();
        let of = |name: &str| caller.with_name(&name.parse().unwrap());
        assert_eq!(of("acme/tiny"), Role::Writer);
        assert_eq!(of("datasets/a/big-eval"), Role::Writer);
        assert_eq!(of("datasets/a/big-train"), Role::Reader);
        assert_eq!(of("acme2/tiny"), Role::Reader);
        assert_eq!(caller.everywhere(), Role::Reader);
        assert_eq!(caller.anywhere(), Role::Writer);
        for bad in ["", "models/a b", "models/a,b", "x\ny", "@"] {
            new_token(Role::Reader, &[bad.to_owned()], "").unwrap_err();
        }
    }

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, fit) in [
            ("*", "models/a", true),
            ("models/a", "models/a", true),
            ("models/a", "models/ab", false),
            ("models/*/b", "models/a/b", true),
            ("models/*/b", "models/b", false),
            ("*a*a", "models/a", false),
            ("m*a*a", "models/a/a", true),
            ("", "models/a", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }

    /// A wrong token is worth less than none: it is no way to what anonymous clients may.
    #[test]
    fn a_wrong_token_is_not_anonymous() {
        let open = Tokens::none(Role::Writer);
        assert!(open.is_empty());
        assert_eq!(role(&open, None), Role::Writer);
        let caller = open.caller(Some(b"Bearer x")).unwrap();
        assert!(
            !caller.known,
            "where there are no tokens, it counts for nothing"
        );
        let (_, line) = new_token(Role::Reader, &[], "").unwrap();
        let some = Tokens::parse(&line, "f", Role::Writer).unwrap();
        assert_eq!(role(&some, None), Role::Writer);
        assert!(some.caller(Some(b"Bearer x")).is_none());
    }

    #[test]
    fn lines_that_are_none_are_named_by_their_number() {
        let digest = blake3::hash(b"secret").to_hex();
        for bad in [
            "read".to_owned(),
            "read x".to_owned(),
            format!("owner {digest}"),
            format!("read@ {digest}"),
            format!("read,, {digest}"),
            format!("{}read {digest}", "read,".repeat(GRANTS_MAX)),
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
            let (_, line) = new_token(Role::Reader, &[], "").unwrap();
            let tokens = Tokens::parse(&line, "f", Role::Nobody).unwrap();
            prop_assert!(tokens.caller(Some(&header)).is_none());
        }

        /// Against a matcher that tries everything.
        #[test]
        fn patterns_are_as_they_say(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
            fn slow(pattern: &[u8], name: &[u8]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
                    Some((c, rest)) => {
                        name.split_first().is_some_and(|(n, after)| n == c && slow(rest, after))
                    }
                }
            }
            prop_assert_eq!(fits(&pattern, &name), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}

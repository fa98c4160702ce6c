//! Which thing of the hub a path names. Parts are taken apart before their escapes are undone, so
//! that a revision may hold slashes.

use axum::http::Method;
use mmh_core::name::{DEFAULT_BRANCH, FAMILIES, RepoName};

/// What comes after a repository in the API.
const VERBS: [&str; 18] = [
    "auth-check",
    "branch",
    "commit",
    "commits",
    "compare",
    "discussions",
    "paths-info",
    "preupload",
    "refs",
    "revision",
    "settings",
    "super-squash",
    "tag",
    "tree",
    "treesize",
    "xet",
    "xet-read-token",
    "xet-write-token",
];
/// Those that may stand alone after a name of one part.
const ALONE: [&str; 3] = ["auth-check", "discussions", "refs"];
/// The families that hubs know.
const HUB_FAMILIES: [&str; 3] = ["models", "datasets", "spaces"];

/// Words of paths that are no names of anything a client made.
const WHOLE: [&str; 3] = ["create", "delete", "move"];
const SMALL: [&str; 2] = ["validate-yaml", "whoami-v2"];
const LFS: [&str; 2] = ["batch", "verify"];
const XET_PARTS: [&str; 7] = [
    "chunks",
    "default",
    "reconstructions",
    "shards",
    "v1",
    "v2",
    "xorbs",
];
/// Parts of a path below `xet` that are told apart.
const XET_DEPTH: usize = 5;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/api/{family}`.
    List(&'static str),
    /// `/api/{family}/{id}[/{verb}/…]`; the verb is empty for the repository itself.
    Repo {
        repo: RepoName,
        verb: &'static str,
        rest: Vec<String>,
    },
    /// `/api/repos/{what}`.
    Repos(String),
    /// `/api/{what}` of other kinds.
    Small(String),
    /// `/[{family}/]{id}/{resolve|raw}/{revision}/{path}`.
    File {
        repo: RepoName,
        rev: String,
        path: String,
        raw: bool,
    },
    /// `/[{family}/]{id}.git/info/lfs/objects/{what}`.
    Lfs { repo: RepoName, what: String },
}

impl Route {
    /// Takes a path apart; `None` if it names nothing here.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        match parts.split_first()? {
            (&"api", rest) => Self::api(rest),
            _ => Self::page(&parts),
        }
    }

    /// The repository that it is about.
    pub(crate) fn repo(&self) -> Option<&RepoName> {
        match self {
            Self::Repo { repo, .. } | Self::File { repo, .. } | Self::Lfs { repo, .. } => {
                Some(repo)
            }
            Self::List(_) | Self::Repos(_) | Self::Small(_) => None,
        }
    }

    /// The same of another repository.
    pub(crate) fn with_repo(mut self, to: RepoName) -> Self {
        match &mut self {
            Self::Repo { repo, .. } | Self::File { repo, .. } | Self::Lfs { repo, .. } => {
                *repo = to
            }
            Self::List(_) | Self::Repos(_) | Self::Small(_) => {}
        }
        self
    }

    /// Which revision of which name is read by it.
    pub(crate) fn read(&self, method: &Method) -> Option<(&RepoName, &str)> {
        match self {
            Self::File { repo, rev, .. } if method.is_safe() => Some((repo, rev)),
            Self::Repo { repo, verb, rest } => {
                let by_rev = ["revision", "tree", "treesize", "commits", "xet-read-token"];
                let first = rest.first().map(String::as_str);
                let reads = match *verb {
                    "paths-info" => true,
                    "" | "refs" | "auth-check" => method.is_safe(),
                    verb => method.is_safe() && by_rev.contains(&verb),
                };
                reads.then(|| (repo, first.unwrap_or(DEFAULT_BRANCH)))
            }
            _ => None,
        }
    }

    /// Whether it leads to what is in files, and not only to what is said of them.
    pub(crate) fn is_of_content(&self) -> bool {
        match self {
            Self::File { .. } => true,
            Self::Lfs { what, .. } => what != "verify",
            Self::Repo { verb, .. } => ["auth-check", "xet-read-token"].contains(verb),
            Self::List(_) | Self::Repos(_) | Self::Small(_) => false,
        }
    }

    /// Whether it is asked without a token: the address itself is the proof, or nothing is told that
    /// the client does not know.
    pub(crate) fn is_signed(&self, method: &Method) -> bool {
        let what = match self {
            // A range of a xorb.
            Self::Repo { verb, rest, .. } => {
                let of_xorb = rest.get(1).is_some_and(|what| what == "xorbs");
                return *verb == "xet" && of_xorb && method.is_safe();
            }
            Self::Lfs { what, .. } => what,
            _ => return false,
        };
        what == "verify" || *method == Method::PUT || what != "batch" && *method == Method::POST
    }

    /// The path that it is parsed from, but for its spelling.
    pub(crate) fn path(&self) -> String {
        let joined = |parts: &[String]| {
            let parts = parts.iter().map(|part| format!("/{}", encode(part)));
            parts.collect::<String>()
        };
        let folders = |path: &str| path.split('/').map(encode).collect::<Vec<_>>().join("/");
        match self {
            Self::List(family) => format!("/api/{family}"),
            Self::Repo { repo, verb, rest } => {
                let verb = if verb.is_empty() {
                    ""
                } else {
                    &format!("/{verb}")
                };
                format!("/api/{repo}{verb}{}", joined(rest))
            }
            Self::Repos(what) => format!("/api/repos/{}", encode(what)),
            Self::Small(what) => format!("/api/{}", folders(what)),
            Self::File {
                repo,
                rev,
                path,
                raw,
            } => {
                let way = if *raw { "raw" } else { "resolve" };
                let (page, rev) = (page_of(repo), encode(rev));
                format!("/{page}/{way}/{rev}/{}", folders(path))
            }
            Self::Lfs { repo, what } => {
                format!("/{}.git/info/lfs/objects/{}", page_of(repo), folders(what))
            }
        }
    }

    /// The path with what differs from request to request left open; few enough to count by.
    pub(crate) fn template(&self) -> String {
        match self {
            Self::List(family) => format!("/api/{family}"),
            Self::Repo { repo, verb, rest } => {
                let base = format!("/api/{}/{{id}}", repo.family());
                match (*verb, rest.is_empty()) {
                    ("", _) => base,
                    (verb, true) => format!("{base}/{verb}"),
                    ("xet", false) => {
                        let rest = rest.iter().take(XET_DEPTH).map(|part| {
                            let known = XET_PARTS.into_iter().find(|known| known == part);
                            format!("/{}", known.unwrap_or("{part}"))
                        });
                        format!("{base}/xet{}", rest.collect::<String>())
                    }
                    (verb, false) => format!("{base}/{verb}/{{rest}}"),
                }
            }
            Self::Repos(what) => format!("/api/repos/{}", known(what, &WHOLE, "{what}")),
            Self::Small(what) => format!("/api/{}", known(what, &SMALL, "{what}")),
            Self::File { repo, raw, .. } => {
                let way = if *raw { "raw" } else { "resolve" };
                let family = page_family(repo);
                format!("/{family}{{id}}/{way}/{{revision}}/{{path}}")
            }
            Self::Lfs { repo, what } => {
                let (family, what) = (page_family(repo), known(what, &LFS, "{oid}"));
                format!("/{family}{{id}}.git/info/lfs/objects/{what}")
            }
        }
    }

    fn api(parts: &[&str]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        if *first == "repos" && rest.len() == 1 {
            return Some(Self::Repos(decode(rest[0])?));
        }
        let Some(family) = family(first) else {
            return Some(Self::Small(decode(&parts.join("/"))?));
        };
        if rest.is_empty() || rest == [""] {
            return Some(Self::List(family));
        }
        let verb_at = |at: usize| VERBS.into_iter().find(|verb| rest.get(at) == Some(verb));
        let (id_len, verb) = match (verb_at(2), verb_at(1)) {
            (Some(verb), _) => (2, verb),
            (None, Some(verb)) if rest.len() != 2 || ALONE.contains(&verb) => (1, verb),
            _ if rest.len() <= 2 => (rest.len(), ""),
            _ => return None,
        };
        let repo = repo(family, &rest[..id_len])?;
        let rest = rest.get(id_len + 1..).unwrap_or_default();
        let rest = rest
            .iter()
            .map(|part| decode(part))
            .collect::<Option<_>>()?;
        Some(Self::Repo { repo, verb, rest })
    }

    fn page(parts: &[&str]) -> Option<Self> {
        let (family, parts) = match family(parts.first()?) {
            Some("models") | None => ("models", parts),
            Some(family) => (family, &parts[1..]),
        };
        for id_len in [2, 1] {
            let (Some(id), Some(after)) = (parts.get(..id_len), parts.get(id_len..)) else {
                continue;
            };
            if let (Some(last), ["info", "lfs", "objects", what @ ..]) = (id.last(), after)
                && let Some(bare) = last.strip_suffix(".git")
            {
                let mut id = id.to_vec();
                id.pop();
                id.push(bare);
                let repo = repo(family, &id)?;
                let what = decode(&what.join("/"))?;
                return Some(Self::Lfs { repo, what });
            }
            if let [way @ ("resolve" | "raw"), rev, path @ ..] = after {
                let path = decode(&path.join("/"))?;
                return Some(Self::File {
                    repo: repo(family, id)?,
                    rev: decode(rev)?,
                    path: path.trim_matches('/').to_owned(),
                    raw: *way == "raw",
                });
            }
        }
        None
    }
}

fn family(text: &str) -> Option<&'static str> {
    HUB_FAMILIES.into_iter().find(|family| *family == text)
}

/// A word, if it is one of those.
fn known<'a>(word: &str, among: &[&'a str], other: &'a str) -> &'a str {
    among
        .iter()
        .find(|known| **known == word)
        .copied()
        .unwrap_or(other)
}

/// What pages of a repository begin with.
fn page_family(repo: &RepoName) -> &'static str {
    match repo.family() {
        "datasets" => "datasets/",
        "spaces" => "spaces/",
        _ => "",
    }
}

fn repo(family: &str, id: &[&str]) -> Option<RepoName> {
    let id = decode(&id.join("/"))?;
    full_name(family, &id)
}

/// The name of a repository whose id a hub's client knows.
pub(crate) fn full_name(family: &str, id: &str) -> Option<RepoName> {
    let name: RepoName = format!("{family}/{id}").parse().ok()?;
    // `trees/` of ours is no family of hubs.
    (FAMILIES.contains(&family) && name.family() == family).then_some(name)
}

/// The id that a hub's client knows a repository by.
pub(crate) fn id_of(repo: &RepoName) -> &str {
    repo.as_str().split_once('/').map_or("", |(_, id)| id)
}

/// Where pages of a repository begin: nothing for models, else the family.
pub(crate) fn page_of(repo: &RepoName) -> &str {
    repo.as_str()
        .strip_prefix("models/")
        .unwrap_or(repo.as_str())
}

/// Undoes percent-encoding (RFC 3986, section 2.1); `None` if what comes out is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Encodes what may not stand in a part of a path or in a query.
pub(crate) fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The pairs of a query or a form, in order; those that cannot be read are left out.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let one = |text: &str| decode(&text.replace('+', " "));
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((one(key)?, one(value)?))
    };
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts.filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> RepoName {
        text.parse().unwrap()
    }

    fn api(path: &str) -> Option<(String, &'static str, Vec<String>)> {
        match Route::parse(path)? {
            Route::Repo { repo, verb, rest } => Some((repo.to_string(), verb, rest)),
            _ => None,
        }
    }

    #[test]
    fn repositories_are_told_from_what_is_asked_of_them() {
        let found = |repo: &str, verb: &'static str, rest: &[&str]| {
            let rest = rest.iter().map(|s| (*s).to_owned()).collect();
            Some((repo.to_owned(), verb, rest))
        };
        assert_eq!(api("/api/models/gpt2"), found("models/gpt2", "", &[]));
        assert_eq!(api("/api/models/a/b"), found("models/a/b", "", &[]));
        assert_eq!(
            api("/api/datasets/a/b/tree/refs%2Fpr%2F1/x%20y/z"),
            found("datasets/a/b", "tree", &["refs/pr/1", "x y", "z"])
        );
        assert_eq!(
            api("/api/models/gpt2/tree/main"),
            found("models/gpt2", "tree", &["main"])
        );
        assert_eq!(
            api("/api/models/gpt2/refs"),
            found("models/gpt2", "refs", &[])
        );
        assert_eq!(
            api("/api/models/a/tree"),
            found("models/a/tree", "", &[]),
            "a repository may be called so"
        );
        assert_eq!(
            api("/api/models/a/tree/tree/main"),
            found("models/a/tree", "tree", &["main"])
        );
        assert_eq!(api("/api/models/a/b/unknown/c"), None);
        assert_eq!(api("/api/models/../b/tree/main"), None);
        assert_eq!(api("/api/models/%2e%2e/b/tree/main"), None);
        assert_eq!(
            api("/api/models/a%2Fb/tree/main"),
            found("models/a/b", "tree", &["main"])
        );
        assert_eq!(Route::parse("/api/spaces"), Some(Route::List("spaces")));
        assert_eq!(
            Route::parse("/api/whoami-v2"),
            Some(Route::Small("whoami-v2".to_owned()))
        );
        assert_eq!(
            Route::parse("/api/repos/create"),
            Some(Route::Repos("create".to_owned()))
        );
    }

    #[test]
    fn files_and_git_objects_are_found() {
        let file = |repo: &str, rev: &str, path: &str, raw| {
            let (rev, path) = (rev.to_owned(), path.to_owned());
            Some(Route::File {
                repo: name(repo),
                rev,
                path,
                raw,
            })
        };
        assert_eq!(
            Route::parse("/a/b/resolve/main/x/y.bin"),
            file("models/a/b", "main", "x/y.bin", false)
        );
        assert_eq!(
            Route::parse("/datasets/squad/raw/refs%2Fpr%2F2/%C3%A4"),
            file("datasets/squad", "refs/pr/2", "ä", true)
        );
        assert_eq!(
            Route::parse("/gpt2/resolve/main/a"),
            file("models/gpt2", "main", "a", false)
        );
        assert_eq!(
            Route::parse("/spaces/a/b.git/info/lfs/objects/batch"),
            Some(Route::Lfs {
                repo: name("spaces/a/b"),
                what: "batch".to_owned()
            })
        );
        for none in [
            "",
            "/",
            "/a",
            "/a/b",
            "/a/b/blob/main/x",
            "/a/b.git/info/refs",
            "/%ff/b/resolve/main/x",
        ] {
            assert_eq!(Route::parse(none), None, "{none}");
        }
        assert_eq!(page_of(&name("models/a/b")), "a/b");
        assert_eq!(page_of(&name("datasets/b")), "datasets/b");
        assert_eq!(id_of(&name("datasets/a/b")), "a/b");
    }

    #[test]
    fn templates_have_nothing_that_clients_make_up() {
        for (path, template) in [
            ("/api/models", "/api/models"),
            ("/api/datasets/a/b", "/api/datasets/{id}"),
            ("/api/models/a/refs", "/api/models/{id}/refs"),
            (
                "/api/models/a/b/tree/main/x/y",
                "/api/models/{id}/tree/{rest}",
            ),
            (
                "/api/models/a/b/xet/12/v1/xorbs/default/ff",
                "/api/models/{id}/xet/{part}/v1/xorbs/default/{part}",
            ),
            (
                "/api/models/a/b/xet/1/xorbs/ff",
                "/api/models/{id}/xet/{part}/xorbs/{part}",
            ),
            ("/api/repos/create", "/api/repos/create"),
            ("/api/repos/hf_secret", "/api/repos/{what}"),
            ("/api/whoami-v2", "/api/whoami-v2"),
            ("/api/hf_secret/x", "/api/{what}"),
            ("/a/b/resolve/main/x/y", "/{id}/resolve/{revision}/{path}"),
            (
                "/datasets/b/raw/main/x",
                "/datasets/{id}/raw/{revision}/{path}",
            ),
            (
                "/a/b.git/info/lfs/objects/batch",
                "/{id}.git/info/lfs/objects/batch",
            ),
            (
                "/a/b.git/info/lfs/objects/ff",
                "/{id}.git/info/lfs/objects/{oid}",
            ),
        ] {
            assert_eq!(Route::parse(path).unwrap().template(), template, "{path}");
        }
    }

    #[test]
    fn forms_are_read() {
        let read = pairs("paths=a%2Fb&paths=c+d&expand&&x=%zz");
        let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(read, [("paths", "a/b"), ("paths", "c d"), ("expand", "")]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text: String) {
            let encoded = encode(&text);
            prop_assert!(encoded.is_ascii() && !encoded.contains(['/', '?', '&', '#', ' ']));
            prop_assert_eq!(decode(&encoded), Some(text));
        }

        #[test]
        fn any_path_is_read_without_panic(path in "/?(api/)?(models/|datasets/)?[ -~]{0,40}") {
            Route::parse(&path);
            pairs(&path);
        }

        /// What is told to go elsewhere gets to the same.
        #[test]
        fn a_route_has_a_path(
            start in "(api/(models|spaces)/a/|datasets/b/)(c|Dd)",
            end in "(/(tree|commit|resolve|raw)/[a-z%2F]{1,5}(/[a-z .%é]{1,6}){0,2}|.git/info/lfs/objects/batch)?",
        ) {
            let route = Route::parse(&format!("/{start}{end}"));
            if let Some(route) = route {
                prop_assert_eq!(Route::parse(&route.path()), Some(route));
            }
        }
    }
}

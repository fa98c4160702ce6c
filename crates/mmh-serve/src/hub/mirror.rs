//! A mirror of another hub: what is not here is brought from there when it is first asked for, and is
//! served from here after, also when the other one cannot be reached.
//!
//! A revision comes as one commit: small files at once, each compared with the id of its git blob;
//! large ones as the pointers that git-LFS has for them, until somebody asks for their bytes
//! ([`fetch`]). Those lie on a branch of the name that only the server writes to, and when all of a
//! branch are there, it gets a commit with the files themselves. The tag `upstream/SHA` says which
//! commit of the other hub a snapshot is. Names that were made here are never touched.

mod fetch;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderValue};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lru::LruCache;
use mmh_core::SnapshotId;
use mmh_core::name::{RefKind, RefName, RepoName, Target, check_path, check_rev};
use mmh_core::tree::Node;
use mmh_repo::refs::Resolved;
use mmh_repo::{Change, Onto};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::attributes::LARGE_LEN;
use super::commits::unhex;
use super::facts::{git_blob, pointer};
use super::fail::{Fail, Outcome, of_io};
use super::route::{encode, id_of, page_of};
use super::uploads::{Removed, Room};
use super::{Hub, bare_rev};
use crate::error::{Error, Result};

use fetch::Fetches;
pub(crate) use fetch::{Fetch, Task, read_at};

/// Before the tags that name commits of the other hub.
const TAGS: &str = "upstream/";
/// How the message of such a commit begins.
const MESSAGE: &str = "upstream ";
/// The branch with large files that came, each called by its SHA-256.
pub(crate) const FILES: &str = "refs/meta/upstream";
/// Before branches for commits of the other hub that no branch there was asked by.
const PINNED: &str = "refs/upstream/";
/// Who is said to have made what comes.
const AUTHOR: &str = "upstream";
/// Branches that are remembered as fresh.
const FRESH_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Most bytes of a description of a revision,
const INFO_LEN_MAX: usize = 64 << 20;
/// and most files of it.
const FILES_MAX: usize = 100_000;
/// Small files that are on their way at the same time.
const SMALL_AT_ONCE: usize = 8;
/// Names that are brought at the same time.
const TURNS: usize = 64;
/// Time to reach the other hub, and between two pieces of what it sends.
const CONNECT_TIME: Duration = Duration::from_secs(5);
const READ_TIME: Duration = Duration::from_secs(30);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// The other hub.
#[derive(Clone)]
pub struct Upstream {
    /// Where it is: `https://huggingface.co`.
    pub url: String,
    /// The token that it is asked with.
    pub token: Option<String>,
    /// How long a branch is taken for what it was.
    pub fresh: Duration,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A client of the other hub.
#[derive(Debug)]
pub(crate) struct Mirror {
    http: reqwest::Client,
    base: String,
    token: Option<HeaderValue>,
    kept: Duration,
    /// So that a name is brought once.
    turns: Vec<tokio::sync::Mutex<()>>,
    fresh: Mutex<LruCache<(RepoName, String), Instant>>,
    fetches: Fetches,
    at_once: Arc<Semaphore>,
}

/// What the other hub says of a revision.
#[derive(Debug, Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Debug, Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

/// How much of a name is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    Nothing,
    /// It is a name of this hub.
    Own,
    /// It came from the other one.
    Brought,
}

impl Mirror {
    /// A client of that hub. Nothing is asked of it yet.
    pub(crate) fn new(upstream: &Upstream) -> Result<Self> {
        let bad = |reason: &str| Error::Upstream {
            url: upstream.url.clone(),
            reason: reason.to_owned(),
        };
        let base = upstream.url.trim_end_matches('/').to_owned();
        if !(base.starts_with("https://") || base.starts_with("http://")) {
            return Err(bad("it begins with https:// or http://"));
        }
        let tls = crate::outgoing::tls().map_err(|error| bad(&error.to_string()))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .user_agent(concat!("mmh/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME)
            .read_timeout(READ_TIME)
            .build()
            .map_err(|error| bad(&error.to_string()))?;
        let token = upstream.token.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| bad("its token fits into no header"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            http,
            base,
            token: token.transpose()?,
            kept: upstream.fresh,
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            fresh: Mutex::new(LruCache::new(FRESH_MAX)),
            fetches: Fetches::default(),
            at_once: Arc::new(Semaphore::new(fetch::AT_ONCE)),
        })
    }

    fn turn(&self, name: &RepoName) -> &tokio::sync::Mutex<()> {
        let digest = blake3::hash(name.as_str().as_bytes());
        &self.turns[usize::from(digest.as_bytes()[0]) % TURNS]
    }

    fn is_fresh(&self, name: &RepoName, rev: &str) -> bool {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let at = fresh.get(&(name.clone(), rev.to_owned()));
        at.is_some_and(|at| at.elapsed() < self.kept)
    }

    fn refreshed(&self, name: &RepoName, rev: &str) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.put((name.clone(), rev.to_owned()), Instant::now());
    }

    /// Asks for what lies at a path of the other hub.
    async fn ask(&self, path: &str, from: u64) -> Outcome<reqwest::Response> {
        let mut request = self.http.get(format!("{}{path}", self.base));
        request = request.header("accept-encoding", "identity");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let answer = request.send().await.map_err(|error| lost(&error))?;
        let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let code = answer.headers().get("x-error-code");
        let code = code.and_then(|code| code.to_str().ok());
        let known = [
            "RepoNotFound",
            "RevisionNotFound",
            "EntryNotFound",
            "GatedRepo",
        ];
        let code = known.into_iter().find(|known| Some(*known) == code);
        let text = format!("the other hub answers {status}");
        Err(match status.as_u16() {
            400..=499 if status != StatusCode::TOO_MANY_REQUESTS => Fail {
                code: code.or(Some("RepoNotFound")),
                ..Fail::new(StatusCode::NOT_FOUND, text)
            },
            _ => Fail::new(StatusCode::BAD_GATEWAY, text),
        })
    }

    /// All that lies at a path, no longer than that.
    async fn whole(&self, path: &str, len_max: usize) -> Outcome<Vec<u8>> {
        let mut answer = self.ask(path, 0).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| lost(&error))? {
            if bytes.len() + piece.len() > len_max {
                return Err(odd(&format!("{path} is longer than {len_max} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// The other hub cannot be reached.
fn lost(error: &reqwest::Error) -> Fail {
    let mut text = format!("the other hub: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    Fail::new(StatusCode::BAD_GATEWAY, text)
}

/// The other hub sends what cannot be.
fn odd(text: &str) -> Fail {
    Fail::new(StatusCode::BAD_GATEWAY, format!("the other hub: {text}"))
}

impl Hub {
    /// Brings a revision of a name, if there is another hub, and if it is one of its names.
    ///
    /// # Errors
    /// 502 if nothing is here and the other hub fails; its own refusal if it has none.
    pub(crate) async fn bring(self: &Arc<Self>, name: &RepoName, rev: &str) -> Outcome<()> {
        let Some(mirror) = &self.mirror else {
            return Ok(());
        };
        let rev = bare_rev(rev).to_owned();
        if mirror.is_fresh(name, &rev) {
            return Ok(());
        }
        let _turn = mirror.turn(name).lock().await;
        let (here, is_there) = {
            let (name, rev) = (name.clone(), rev.clone());
            self.apart(move |hub| Ok((hub.here(&name)?, hub.resolved(&name, &rev).is_ok())))
                .await?
        };
        let is_fixed = unhex::<20>(&rev).is_some();
        if here == Here::Own || is_fixed && is_there || mirror.is_fresh(name, &rev) {
            return Ok(());
        }
        match self.refresh(mirror, name, &rev, here).await {
            Ok(()) => mirror.refreshed(name, &rev),
            // It is offline, or gives the name up: what is here is served.
            Err(_) if is_there => mirror.refreshed(name, &rev),
            // As for any name that is nowhere.
            Err(fail) if fail.status == StatusCode::NOT_FOUND && here == Here::Nothing => {}
            Err(fail) => return Err(fail),
        }
        Ok(())
    }

    fn here(&self, name: &RepoName) -> Outcome<Here> {
        let refs = self.repo.refs()?;
        let mut here = Here::Nothing;
        for r in refs.refs.keys().filter(|r| r.repo == *name) {
            if r.kind == RefKind::Tag && r.rev().starts_with(TAGS) {
                return Ok(Here::Brought);
            }
            here = Here::Own;
        }
        Ok(here)
    }

    /// Asks what a revision is now, and brings it.
    async fn refresh(
        self: &Arc<Self>,
        mirror: &Mirror,
        name: &RepoName,
        rev: &str,
        here: Here,
    ) -> Outcome<()> {
        let path = format!(
            "/api/{}/{}/revision/{}?blobs=true",
            name.family(),
            id_of(name),
            encode(rev)
        );
        let text = mirror.whole(&path, INFO_LEN_MAX).await?;
        let info: Info = serde_json::from_slice(&text).map_err(|error| odd(&error.to_string()))?;
        info.check()?;
        let branch = match check_rev(rev) {
            Ok(()) if unhex::<20>(rev).is_none() => rev.to_owned(),
            _ => format!("{PINNED}{}", info.sha),
        };
        let plan = {
            let (name, branch) = (name.clone(), branch.clone());
            let ask = move |hub: &Self| hub.plan(&name, &branch, info);
            self.apart(ask).await?
        };
        let Some(plan) = plan else {
            return Ok(());
        };
        let folder = self.uploads.change()?;
        let rooms = self.small(mirror, name, &plan, &folder).await?;
        let (name, new) = (name.clone(), here == Here::Nothing);
        self.apart(move |hub| {
            let _rooms = rooms;
            hub.settle(&name, &branch, plan, (&folder, new))
        })
        .await
    }

    /// What of a revision has to come; `None` if the branch is there already.
    fn plan(&self, name: &RepoName, branch: &str, info: Info) -> Outcome<Option<Plan>> {
        let branch = RefName::branch(name.clone(), branch)?;
        let refs = self.repo.refs()?;
        let tip = refs.refs.get(&branch).copied();
        let tag = RefName::tag(name.clone(), &format!("{TAGS}{}", info.sha))?;
        let at = refs.refs.get(&tag).copied();
        if let (Some(tip), Some(at)) = (tip, at) {
            // Or the commit after it, with the large files.
            if tip == at || self.repo.snapshot(tip)?.parents.first() == Some(&at) {
                return Ok(None);
            }
        }
        let mut plan = Plan {
            tip,
            sha: info.sha,
            ..Plan::default()
        };
        let known = match tip {
            Some(tip) => self.git_ids(name, tip)?,
            None => BTreeMap::new(),
        };
        plan.removed = known.values().map(|(path, _)| path.clone()).collect();
        for Sibling {
            rfilename,
            blob_id,
            lfs,
        } in info.siblings
        {
            plan.removed.retain(|path| *path != rfilename);
            match (lfs, blob_id.as_deref().and_then(unhex::<20>)) {
                (Some(large), _) => drop(plan.pointers.insert(rfilename, large.read()?)),
                (None, Some(git)) => match known.get(&git) {
                    Some((_, node)) => drop(plan.placed.insert(rfilename, node.clone())),
                    None => drop(plan.small.insert(rfilename, git)),
                },
                (None, None) => return Err(odd("a file has no id")),
            }
        }
        Ok(Some(plan))
    }

    /// The files of a snapshot by the ids of their git blobs.
    fn git_ids(
        &self,
        name: &RepoName,
        at: SnapshotId,
    ) -> Outcome<BTreeMap<[u8; 20], (String, Node)>> {
        let found = self.repo.resolve_known(name, at)?;
        let mut ids = BTreeMap::new();
        for listed in self.repo.list_in(&found, "", true)?.unwrap_or_default() {
            if let Node::File { id, .. } = listed.node {
                ids.insert(self.facts.git(&self.repo, id)?, (listed.path, listed.node));
            }
        }
        Ok(ids)
    }

    /// Brings small files into a folder.
    async fn small(
        self: &Arc<Self>,
        mirror: &Mirror,
        name: &RepoName,
        plan: &Plan,
        folder: &Removed,
    ) -> Outcome<Vec<Room>> {
        let one = |(path, git): (&String, &[u8; 20])| {
            let (place, git, path) = (folder.path().join(path), *git, path.clone());
            let from = place_of(name, &plan.sha, &path);
            async move {
                let most = usize::try_from(LARGE_LEN).unwrap_or(usize::MAX);
                let bytes = mirror.whole(&from, most).await?;
                if git_blob(&bytes) != git {
                    return Err(odd(&format!("{path} is not what it should be")));
                }
                let room = self.uploads.room(bytes.len() as u64)?;
                self.apart(move |_| put(&place, &bytes)).await?;
                Ok(room)
            }
        };
        stream::iter(&plan.small)
            .map(one)
            .buffer_unordered(SMALL_AT_ONCE)
            .try_collect()
            .await
    }

    /// Commits what came, and says which commit of the other hub it is.
    fn settle(
        &self,
        name: &RepoName,
        branch: &str,
        plan: Plan,
        (folder, new): (&Removed, bool),
    ) -> Outcome<()> {
        for (path, (sha256, len)) in &plan.pointers {
            put(&folder.path().join(path), pointer(sha256, *len).as_bytes())?;
        }
        let branch = RefName::branch(name.clone(), branch)?;
        let change = Change {
            folder: Some(folder.path().to_owned()),
            placed: plan.placed,
            removed: plan.removed.into_iter().collect(),
            onto: match plan.tip {
                Some(tip) => Onto::Exactly(tip),
                None if new => Onto::Nothing,
                None => Onto::NoBranch,
            },
            message: format!("{MESSAGE}{}", plan.sha),
            author: Some(AUTHOR.to_owned()),
        };
        let done = self.repo.change(&branch, &change)?;
        let at = Target {
            repo: name.clone(),
            rev: Some(done.snapshot),
            path: None,
        };
        let tagged = self.repo.create_tag(&at, &format!("{TAGS}{}", plan.sha));
        match tagged {
            // By another branch.
            Err(error) if error.kind() == mmh_core::ErrorKind::Conflict => Ok(()),
            tagged => Ok(tagged.map(|_| ())?),
        }
    }

    /// The snapshot of a commit of the other hub.
    pub(crate) fn brought(&self, name: &RepoName, sha: &str) -> Outcome<Option<SnapshotId>> {
        if unhex::<20>(sha).is_none() {
            return Ok(None);
        }
        let tag = RefName::tag(name.clone(), &format!("{TAGS}{sha}"))?;
        Ok(self.repo.refs()?.refs.get(&tag).copied())
    }

    /// Which commit of the other hub a snapshot is: what it says itself, for it was made here.
    pub(crate) fn commit_there(&self, found: &Resolved) -> Outcome<String> {
        let sha = found.snapshot.message.strip_prefix(MESSAGE);
        let sha = sha.and_then(|rest| rest.get(..40));
        let known = sha.filter(|sha| unhex::<20>(sha).is_some());
        let gone = || odd("this commit is not one of its own");
        known.map(str::to_owned).ok_or_else(gone)
    }

    /// Whether a name came from another hub.
    pub(crate) fn is_brought(&self, name: &RepoName) -> Outcome<bool> {
        Ok(self.here(name)? == Here::Brought)
    }
}

/// What of a revision has to come.
#[derive(Debug, Default)]
struct Plan {
    tip: Option<SnapshotId>,
    sha: String,
    small: BTreeMap<String, [u8; 20]>,
    pointers: BTreeMap<String, ([u8; 32], u64)>,
    placed: BTreeMap<String, Node>,
    removed: Vec<String>,
}

impl Info {
    /// Refuses what cannot be kept here.
    fn check(&self) -> Outcome<()> {
        if unhex::<20>(&self.sha).is_none() {
            return Err(odd("a commit has no id of 40 digits"));
        }
        if self.siblings.len() > FILES_MAX {
            return Err(odd(&format!("more than {FILES_MAX} files")));
        }
        let bad = |error: mmh_core::Error| odd(&error.to_string());
        let mut paths = self.siblings.iter().map(|one| one.rfilename.as_str());
        paths.try_for_each(|path| check_path(path).map_err(bad))
    }
}

impl Large {
    fn read(&self) -> Outcome<([u8; 32], u64)> {
        let sha256 = unhex::<32>(&self.sha256);
        Ok((
            sha256.ok_or_else(|| odd("a large file has no sha256"))?,
            self.size,
        ))
    }
}

/// Where the other hub has a file.
fn place_of(name: &RepoName, rev: &str, path: &str) -> String {
    let path = path.split('/').map(encode).collect::<Vec<_>>().join("/");
    format!("/{}/resolve/{}/{path}", page_of(name), encode(rev))
}

/// Writes a file of a folder. Paths were checked: they cannot leave.
fn put(place: &std::path::Path, bytes: &[u8]) -> Outcome<()> {
    let folder = place.parent().unwrap_or(place);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(place, bytes));
    written.map_err(of_io("put what came together"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(url: &str, token: Option<&str>) -> Upstream {
        Upstream {
            url: url.to_owned(),
            token: token.map(str::to_owned),
            fresh: Duration::from_secs(60),
        }
    }

    fn info(text: &str) -> Info {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_a_hub_is_mirrored() {
        for url in [
            "https://hub.example/",
            "http://localhost:1",
            "https://hub.example/sub",
        ] {
            let mirror = Mirror::new(&upstream(url, Some("hf_x"))).unwrap();
            assert_eq!(mirror.base, url.trim_end_matches('/'));
            assert!(mirror.token.unwrap().is_sensitive());
        }
        for url in ["hub.example", "ftp://hub.example", ""] {
            let error = Mirror::new(&upstream(url, None)).unwrap_err();
            assert_eq!(error.kind(), mmh_core::ErrorKind::Invalid, "{url}");
        }
        assert!(Mirror::new(&upstream("http://h", Some("a\nb"))).is_err());
        let shown = format!("{:?}", upstream("http://h", Some("hf_secret")));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let sha = "1".repeat(40);
        info(&format!(
            r#"{{"sha":"{sha}","siblings":[{{"rfilename":"a/b.txt"}}],"x":1}}"#
        ))
        .check()
        .unwrap();
        info(&format!(r#"{{"sha":"{sha}"}}"#)).check().unwrap();
        for bad in [
            r#"{"sha":"main"}"#.to_owned(),
            format!(r#"{{"sha":"{}"}}"#, "1".repeat(41)),
            format!(r#"{{"sha":"{sha}","siblings":[{{"rfilename":"../a"}}]}}"#),
            format!(r#"{{"sha":"{sha}","siblings":[{{"rfilename":"/a"}}]}}"#),
            format!(r#"{{"sha":"{sha}","siblings":[{{"rfilename":"a\\b"}}]}}"#),
        ] {
            let fail = info(&bad).check().unwrap_err();
            assert_eq!(fail.status, StatusCode::BAD_GATEWAY, "{bad}");
        }
        let size = 3;
        let read = |sha256: &str| {
            Large {
                sha256: sha256.to_owned(),
                size,
            }
            .read()
        };
        assert_eq!(read(&"0f".repeat(32)).unwrap(), ([0x0f; 32], 3));
        assert!(read("x").is_err() && read(&"0F".repeat(32)).is_err());
    }

    #[test]
    fn places_of_the_other_hub_are_spelled_for_it() {
        let model: RepoName = "models/a/b".parse().unwrap();
        let set: RepoName = "datasets/s".parse().unwrap();
        assert_eq!(
            place_of(&model, "1f", "x y/z.bin"),
            "/a/b/resolve/1f/x%20y/z.bin"
        );
        assert_eq!(
            place_of(&set, "refs/pr/1", "a"),
            "/datasets/s/resolve/refs%2Fpr%2F1/a"
        );
    }

    #[test]
    fn names_are_fresh_for_their_time() {
        let name: RepoName = "models/a/b".parse().unwrap();
        for (kept, is_fresh) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
            let mut upstream = upstream("http://h", None);
            upstream.fresh = kept;
            let mirror = Mirror::new(&upstream).unwrap();
            assert!(!mirror.is_fresh(&name, "main"));
            mirror.refreshed(&name, "main");
            assert_eq!(mirror.is_fresh(&name, "main"), is_fresh);
            assert!(!mirror.is_fresh(&name, "other"));
        }
    }
}

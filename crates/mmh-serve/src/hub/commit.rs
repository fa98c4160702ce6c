//! Commits: one line of JSON for each thing that is done. What comes is put together in a folder,
//! whose content then goes the way of `mmh add`, in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mmh_core::name::{DEFAULT_BRANCH, RefName, RepoName, check_path};
use mmh_core::tree::Node;
use mmh_core::{ErrorKind, SnapshotId};
use mmh_repo::{Change, Onto};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::commits::{hex, oid, unhex};
use super::fail::{Fail, Outcome, of_io};
use super::ignore::{IGNORE_LEN_MAX, Ignore};
use super::proposals::{PROPOSALS, propose};
use super::settings::OWN;
use super::uploads::{Removed, Room};
use super::view::Kept;
use super::{Ask, Hub, bare_rev, facts, json_body, json_of};
use crate::body::Incoming;
use crate::token::Role;

/// Longest line: a regular file in base64, with room to spare.
const LINE_LEN_MAX: usize = 64 << 20;
/// Most bytes of a commit; large files do not come this way.
const BODY_LEN_MAX: u64 = 2 << 30;
/// Most lines of a commit.
const LINES_MAX: usize = 100_000;
/// Files of one question before an upload.
const PREUPLOAD_MAX: usize = 1000;
/// Bytes that are read before they are handed on.
const PIECE_LEN: usize = 256 << 10;
/// Pieces that wait to be read as lines.
const WAITING: usize = 4;

/// A line of a commit.
#[derive(Debug, Deserialize)]
#[serde(tag = "key", content = "value", rename_all = "camelCase")]
enum Line {
    Header(Header),
    File(Regular),
    LfsFile(Large),
    DeletedFile(Gone),
    DeletedFolder(Gone),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    summary: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parent_commit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Regular {
    content: String,
    path: String,
    #[serde(default)]
    encoding: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Large {
    path: String,
    #[serde(default)]
    algo: Option<String>,
    oid: String,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Gone {
    path: String,
}

/// What was read of a commit so far.
#[derive(Debug)]
struct Draft {
    header: Option<Header>,
    folder: Removed,
    /// Room for regular files.
    rooms: Vec<Room>,
    large: BTreeMap<String, ([u8; 32], Option<u64>)>,
    removed: BTreeSet<String>,
    /// Paths of regular files.
    regular: BTreeSet<String>,
    lines: usize,
}

impl Draft {
    fn new(hub: &Hub) -> Outcome<Self> {
        Ok(Self {
            header: None,
            folder: hub.uploads.change()?,
            rooms: Vec::new(),
            large: BTreeMap::new(),
            removed: BTreeSet::new(),
            regular: BTreeSet::new(),
            lines: 0,
        })
    }

    fn line(&mut self, hub: &Hub, text: &[u8]) -> Outcome<()> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        self.lines += 1;
        let n = self.lines;
        let bad = |why: String| Fail::invalid(format!("line {n} of the commit: {why}"));
        if n > LINES_MAX {
            return Err(bad(format!("there are more than {LINES_MAX}")));
        }
        let line: Line = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        match line {
            Line::Header(header) if self.header.is_none() && n == 1 => self.header = Some(header),
            Line::Header(_) => return Err(bad("the header comes first, and once".to_owned())),
            _ if self.header.is_none() => {
                return Err(bad("the header comes first".to_owned()));
            }
            Line::File(file) => self.regular(hub, file)?,
            Line::LfsFile(file) => {
                self.is_new(&file.path)?;
                if file.algo.is_some_and(|algo| algo != "sha256") {
                    return Err(bad("large files are known by sha256".to_owned()));
                }
                let sha256 = unhex::<32>(&file.oid);
                let sha256 = sha256.ok_or_else(|| bad("the oid is no sha256".to_owned()))?;
                self.large.insert(file.path, (sha256, file.size));
            }
            Line::DeletedFile(gone) | Line::DeletedFolder(gone) => {
                let path = gone.path.trim_end_matches('/');
                check_path(path).map_err(Fail::unprocessable)?;
                self.removed.insert(path.to_owned());
            }
        }
        Ok(())
    }

    fn is_new(&self, path: &str) -> Outcome<()> {
        check_path(path).map_err(Fail::unprocessable)?;
        if self.regular.contains(path) || self.large.contains_key(path) {
            return Err(Fail::invalid(format!("{path} comes twice in one commit")));
        }
        Ok(())
    }

    fn regular(&mut self, hub: &Hub, file: Regular) -> Outcome<()> {
        self.is_new(&file.path)?;
        let bytes = match file.encoding.as_deref() {
            Some("base64") => BASE64_STANDARD
                .decode(&file.content)
                .map_err(|error| Fail::invalid(format!("{}: no base64: {error}", file.path)))?,
            None | Some("utf-8") => file.content.into_bytes(),
            Some(other) => {
                let text = format!("{}: {other} is no encoding here", file.path);
                return Err(Fail::invalid(text));
            }
        };
        self.rooms.push(hub.uploads.room(bytes.len() as u64)?);
        let place = self.place(&file.path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let written = options
            .open(place)
            .and_then(|mut file| file.write_all(&bytes));
        written.map_err(|error| unplaced(&file.path, &error))?;
        self.regular.insert(file.path);
        Ok(())
    }

    /// Where a path lies in the folder, which is made for it. Paths were checked: they cannot leave.
    fn place(&self, path: &str) -> Outcome<PathBuf> {
        let place = self.folder.path().join(path);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(|error| unplaced(path, &error))?;
        }
        Ok(place)
    }

    /// Puts uploads into the folder, and finds what the name has already.
    fn large(&self, hub: &Hub, name: &RepoName) -> Outcome<BTreeMap<String, Node>> {
        let mut elsewhere = Vec::new();
        for (path, (sha256, size)) in &self.large {
            match hub.uploads.find(name, sha256) {
                Some((from, len)) if size.is_none_or(|size| size == len) => {
                    let place = self.place(path)?;
                    // One file may come twice in a commit.
                    let linked = fs::hard_link(&from, &place);
                    let placed = linked.or_else(|_| fs::copy(&from, &place).map(drop));
                    placed.map_err(|error| unplaced(path, &error))?;
                }
                _ => elsewhere.push((path, *sha256, *size)),
            }
        }
        let wanted: Vec<[u8; 32]> = elsewhere.iter().map(|(_, sha256, _)| *sha256).collect();
        let found = match wanted.is_empty() {
            true => Vec::new(),
            false => hub.committed(name, &wanted)?,
        };
        let mut placed = BTreeMap::new();
        for ((path, sha256, size), found) in elsewhere.into_iter().zip(found) {
            let fits = |(_, len): &(_, u64)| size.is_none_or(|size| size == *len);
            let Some((id, size)) = found.filter(fits) else {
                let text = format!("{path}: no file with the sha256 {} came", hex(&sha256));
                return Err(Fail::invalid(text));
            };
            let executable = false;
            let node = Node::File {
                id,
                size,
                executable,
            };
            placed.insert(path.clone(), node);
        }
        Ok(placed)
    }
}

/// A path that the folder does not take is the client's fault: it names what is no folder, or is
/// longer than file systems have it.
fn unplaced(path: &str, error: &std::io::Error) -> Fail {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::AlreadyExists | Io::NotADirectory | Io::IsADirectory | Io::InvalidFilename => {
            Fail::invalid(format!("{path} cannot be: {error}"))
        }
        kind => of_io("put a commit together")(kind.into()),
    }
}

/// `POST /api/{family}/{id}/commit/{branch}`.
pub(crate) async fn commit(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, rev): (RepoName, String),
    body: Body,
) -> Outcome<Response> {
    hub.may(&ask.caller, &name, Role::Writer)?;
    let (send, receive) = mpsc::channel(WAITING);
    let mut incoming = Incoming::new(body, &hub.limits, BODY_LEN_MAX);
    let reading = hub.apart(move |hub| {
        // Before the lines are read: a stranger to the repository is told so at once.
        let branch = branch_of(hub, &name, &rev)?;
        let draft = read_lines(hub, receive)?;
        publish(hub, &ask, (name, branch), draft)
    });
    // The sender goes with it: without its last word the commit broke off.
    let feeding = async move {
        loop {
            let (bytes, ended) = incoming.gather(PIECE_LEN).await?;
            // The reader has failed, and says why.
            if send.send(Some(bytes)).await.is_err() {
                return Ok(());
            }
            if ended {
                send.send(None).await.ok();
                return Ok::<_, Fail>(());
            }
        }
    };
    let (done, fed) = tokio::join!(reading, feeding);
    fed?;
    done
}

/// The branch that a commit is for.
pub(crate) fn branch_of(hub: &Hub, name: &RepoName, rev: &str) -> Outcome<RefName> {
    let refs = hub.repo.refs()?;
    let branch = RefName::branch(name.clone(), bare_rev(rev));
    let branch = branch.map_err(|_| Fail::no_revision(rev))?;
    not_own(branch.rev())?;
    hub.there(name)?;
    match refs.refs.contains_key(&branch) {
        true => Ok(branch),
        false => Err(Fail::no_revision(rev)),
    }
}

/// Refuses branches that only the server itself writes to.
pub(crate) fn not_own(rev: &str) -> Outcome<()> {
    match rev.starts_with(OWN) {
        true => Err(Fail::invalid(format!("{OWN} is the server's own"))),
        false => Ok(()),
    }
}

/// Reads lines as they come; `None` says that they came whole.
fn read_lines(hub: &Hub, mut receive: mpsc::Receiver<Option<bytes::Bytes>>) -> Outcome<Draft> {
    let mut draft = Draft::new(hub)?;
    let mut begun: Vec<u8> = Vec::new();
    let broken = || Fail::invalid("the commit broke off");
    loop {
        let Some(piece) = receive.blocking_recv().ok_or_else(broken)? else {
            break;
        };
        let mut piece = &piece[..];
        while let Some(end) = piece.iter().position(|b| *b == b'\n') {
            begun.extend_from_slice(&piece[..end]);
            draft.line(hub, &begun)?;
            begun.clear();
            piece = &piece[end + 1..];
        }
        begun.extend_from_slice(piece);
        if begun.len() > LINE_LEN_MAX {
            let text = format!("a line of the commit is longer than {LINE_LEN_MAX} bytes");
            return Err(Fail::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
    }
    draft.line(hub, &begun)?;
    Ok(draft)
}

fn publish(
    hub: &Hub,
    ask: &Ask,
    (name, branch): (RepoName, RefName),
    mut draft: Draft,
) -> Outcome<Response> {
    let header = draft.header.take();
    let header = header.ok_or_else(|| Fail::invalid("the commit has no header"))?;
    let onto = match header.parent_commit.as_deref() {
        None | Some("") => Onto::Any,
        Some(parent) => Onto::Exactly(parent_of(hub, &name, parent)?),
    };
    let placed = draft.large(hub, &name)?;
    let proposal = ask.says("create_pr");
    let branch = match proposal {
        true => propose(hub, &branch, onto)?,
        false => branch,
    };
    let message = match header.description.as_deref() {
        None | Some("") => header.summary,
        Some(more) => format!("{}\n\n{more}", header.summary),
    };
    let change = Change {
        folder: Some(draft.folder.path().to_owned()),
        placed,
        removed: std::mem::take(&mut draft.removed),
        onto,
        message,
        author: Some(ask.author()),
    };
    let step = hub.gate.traces().step("commit");
    let done = hub
        .repo
        .change(&branch, &change)
        .map_err(|error| match error.kind() {
            ErrorKind::Conflict => Fail::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
            ErrorKind::NotFound => Fail {
                code: Some("EntryNotFound"),
                ..error.into()
            },
            _ => error.into(),
        })?;
    drop(step);
    let id: SnapshotId = done.snapshot.parse()?;
    let large = draft
        .large
        .iter()
        .map(|(path, (sha256, _))| (path.as_str(), *sha256));
    let large: Vec<(&str, [u8; 32])> = large.collect();
    hub.keep_records(&name, &id, &large);
    for (_, sha256) in large {
        hub.uploads.done(&name, &sha256);
    }
    let commit = oid(&id);
    let page = ask.url_of(&name);
    let mut answer = json!({
        "success": true, "commitOid": commit, "commitUrl": format!("{page}/commit/{commit}"),
        "hookOutput": "",
    });
    if proposal {
        let number = branch.rev().trim_start_matches(PROPOSALS);
        answer["pullRequestUrl"] = format!("{page}/discussions/{number}").into();
    }
    Ok(json_of(&answer))
}

/// The snapshot that a client says it saw last.
fn parent_of(hub: &Hub, name: &RepoName, parent: &str) -> Outcome<SnapshotId> {
    let stale = || {
        let text = format!("{parent} is not what the branch names");
        Fail::new(StatusCode::PRECONDITION_FAILED, text)
    };
    if parent.len() == 40 {
        return hub.commits.find(&hub.repo, name, parent)?.ok_or_else(stale);
    }
    Ok(hub.resolved(name, parent)?.id)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Before {
    files: Vec<BeforeFile>,
    /// What the commit itself brings as `.gitignore`.
    #[serde(default)]
    git_ignore: Option<String>,
}

#[derive(Debug, Deserialize)]
struct BeforeFile {
    path: String,
    size: u64,
}

/// `POST /api/{family}/{id}/preupload/{rev}`: how each file is to come.
pub(crate) async fn preupload(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, rev): (RepoName, String),
    body: Body,
) -> Outcome<Response> {
    hub.may(&ask.caller, &name, Role::Writer)?;
    let before: Before = json_body(hub, body).await?;
    if before.files.len() > PREUPLOAD_MAX {
        let text = format!("more than {PREUPLOAD_MAX} files; ask in parts");
        return Err(Fail::invalid(text));
    }
    hub.apart(move |hub| {
        let seen = hub.seen(&name, &rev)?;
        let ignore = match (
            &before.git_ignore,
            hub.repo.node_in(&seen.found, ".gitignore")?,
        ) {
            (Some(text), _) => Ignore::parse(text),
            (None, Some(Node::File { id, .. })) => {
                Ignore::parse(&facts::text(&hub.repo, id, IGNORE_LEN_MAX)?)
            }
            _ => Ignore::default(),
        };
        let mut files: Vec<Value> = Vec::new();
        for file in &before.files {
            check_path(&file.path).map_err(Fail::unprocessable)?;
            let large = seen.attributes.is_large(&file.path, file.size);
            let mut said = json!({
                "path": file.path, "uploadMode": if large { "lfs" } else { "regular" },
                "shouldIgnore": ignore.ignores(&file.path),
            });
            if let Some(node) = hub.repo.node_in(&seen.found, &file.path)? {
                match hub.kept(&seen, &file.path, &node)? {
                    Some((Kept::Regular(git), _)) => said["oid"] = hex(&git).into(),
                    Some((Kept::Large(sha256), _)) => said["oid"] = hex(&sha256).into(),
                    None => {}
                }
            }
            files.push(said);
        }
        Ok(json_of(
            &json!({ "files": files, "commitOid": oid(&seen.found.id) }),
        ))
    })
    .await
}

impl Ask {
    /// Who changes something, as history names them.
    pub(crate) fn author(&self) -> String {
        match &*self.caller.name {
            "" => "hub".to_owned(),
            name => name.to_owned(),
        }
    }
}

/// The branch of new repositories.
pub(crate) fn main_of(name: &RepoName) -> Outcome<RefName> {
    Ok(RefName::branch(name.clone(), DEFAULT_BRANCH)?)
}

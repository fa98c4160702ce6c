//! What a revision holds: the repository's own description, its files, and some of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use mmh_core::SnapshotId;
use mmh_core::name::{DEFAULT_BRANCH, RepoName};
use mmh_core::tree::Node;
use mmh_repo::list::Listed;
use mmh_repo::refs::Resolved;
use serde_json::{Map, Value, json};

use super::attributes::Attributes;
use super::card::Card;
use super::commits::{hex, oid};
use super::date::iso;
use super::facts::{git_blob, pointer};
use super::fail::{Fail, Outcome};
use super::route::{id_of, pairs};
use super::settings::OWN;
use super::{Ask, Hub, is_yes, json_of};

/// Entries of a page; llama.cpp looks at the first page only.
const PAGE_MAX: usize = 5000;
/// Entries of a page that says which commit each came with.
const EXPANDED_MAX: usize = 500;
/// Commits that are looked through for those.
const EXPANDED_COMMITS_MAX: usize = 1000;
/// Most paths that are asked after at once.
const PATHS_MAX: usize = 1000;

/// A revision and its rules for large files.
pub(crate) struct Seen {
    pub(crate) found: Resolved,
    pub(crate) attributes: Arc<Attributes>,
    /// It came from another hub, so that pointers in it stand for large files.
    brought: bool,
}

/// A file as a hub knows it.
pub(crate) enum Kept {
    /// In git: the blob's id.
    Regular([u8; 20]),
    /// Beside git: SHA-256.
    Large([u8; 32]),
}

impl Hub {
    pub(crate) fn seen(&self, name: &RepoName, rev: &str) -> Outcome<Seen> {
        self.seen_of(name, self.resolved(name, rev)?)
    }

    pub(crate) fn seen_of(&self, name: &RepoName, found: Resolved) -> Outcome<Seen> {
        let id = match self.repo.node_in(&found, ".gitattributes")? {
            Some(Node::File { id, .. }) => Some(id),
            _ => None,
        };
        let attributes = self.facts.attributes(&self.repo, id)?;
        let brought = self.is_brought(name)?;
        Ok(Seen {
            found,
            attributes,
            brought,
        })
    }

    /// How a hub keeps a file, and its length; `None` for what is none.
    pub(crate) fn kept(
        &self,
        seen: &Seen,
        path: &str,
        node: &Node,
    ) -> Outcome<Option<(Kept, u64)>> {
        let Node::File { id, size, .. } = node else {
            return Ok(None);
        };
        if seen.brought
            && let Some((sha256, len)) = self.facts.pointer_in(&self.repo, node)?
        {
            return Ok(Some((Kept::Large(sha256), len)));
        }
        let kept = match seen.attributes.is_large(path, *size) {
            true => Kept::Large(self.facts.sha256(&self.repo, *id)?),
            false => Kept::Regular(self.facts.git(&self.repo, *id)?),
        };
        Ok(Some((kept, *size)))
    }

    /// The length of a file as it is shown.
    fn shown_len(&self, seen: &Seen, node: &Node) -> Outcome<Option<u64>> {
        let Node::File { size, .. } = node else {
            return Ok(None);
        };
        let pointed = match seen.brought {
            true => self.facts.pointer_in(&self.repo, node)?,
            false => None,
        };
        Ok(Some(pointed.map_or(*size, |(_, len)| len)))
    }

    /// An entry of a tree; `None` for links, which hubs do not have.
    fn entry(&self, seen: &Seen, path: &str, node: &Node) -> Outcome<Option<Value>> {
        if let Node::Dir { id } = node {
            let oid = hex(&id.digest().as_bytes()[..20]);
            let entry = json!({ "type": "directory", "oid": oid, "size": 0, "path": path });
            return Ok(Some(entry));
        }
        let Some((kept, size)) = self.kept(seen, path, node)? else {
            return Ok(None);
        };
        let mut entry = json!({ "type": "file", "size": size, "path": path });
        match kept {
            Kept::Regular(git) => entry["oid"] = hex(&git).into(),
            Kept::Large(sha256) => {
                let pointer = pointer(&sha256, size);
                entry["oid"] = hex(&git_blob(pointer.as_bytes())).into();
                entry["lfs"] = json!({
                    "oid": hex(&sha256), "size": size, "pointerSize": pointer.len(),
                });
            }
        }
        Ok(Some(entry))
    }

    /// Entries, and with which commit each came, if that is wanted.
    fn entries(&self, seen: &Seen, listed: &[Listed], expand: bool) -> Outcome<Vec<Value>> {
        let mut last = match expand {
            true => self.last_commits(seen, listed)?,
            false => BTreeMap::new(),
        };
        let mut entries = Vec::new();
        for Listed { path, node } in listed {
            if let Some(mut entry) = self.entry(seen, path, node)? {
                if let Some(commit) = last.remove(path.as_str()) {
                    entry["lastCommit"] = commit;
                }
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// With which commit each entry came to be what it is, along first parents; the oldest that was
    /// looked at for those that are older.
    fn last_commits<'a>(
        &self,
        seen: &Seen,
        listed: &'a [Listed],
    ) -> Outcome<BTreeMap<&'a str, Value>> {
        let mut open: BTreeMap<&str, &Node> =
            listed.iter().map(|l| (l.path.as_str(), &l.node)).collect();
        let mut found = BTreeMap::new();
        let mut at = seen.found.clone();
        for n in 1.. {
            let said = said(&at.id, &at.snapshot.message, at.snapshot.time_ms);
            let parent = at.snapshot.parents.first().copied();
            let Some(parent) = parent.filter(|_| n < EXPANDED_COMMITS_MAX) else {
                found.extend(open.into_keys().map(|path| (path, said.clone())));
                break;
            };
            let before = Resolved {
                id: parent,
                snapshot: self.repo.snapshot(parent)?,
                by: None,
            };
            let mut left = BTreeMap::new();
            for (path, node) in open {
                match self.repo.node_in(&before, path) {
                    Ok(Some(old)) if old == *node => drop(left.insert(path, node)),
                    // Given up by garbage collection, or other than it is now.
                    _ => drop(found.insert(path, said.clone())),
                }
            }
            if left.is_empty() {
                break;
            }
            (open, at) = (left, before);
        }
        Ok(found)
    }

    /// The card of a revision; empty without a README.
    pub(crate) fn card(&self, found: &Resolved) -> Outcome<Arc<Card>> {
        match self.repo.node_in(found, "README.md")? {
            Some(Node::File { id, .. }) => Ok(self.facts.card(&self.repo, id)?),
            _ => Ok(Arc::default()),
        }
    }

    /// What a list says of a repository.
    pub(crate) fn summary(
        &self,
        name: &RepoName,
        found: &Resolved,
        card: &Card,
    ) -> Outcome<Map<String, Value>> {
        let id = id_of(name);
        let settings = self.settings(name)?;
        let first = self.commits.first_ms(&self.repo, name)?;
        let author = id.split_once('/').map(|(author, _)| author);
        let mut tags = card.tags();
        let mut info = json!({
            "_id": oid(&found.id)[..24], "id": id, "author": author, "sha": oid(&found.id),
            "lastModified": iso(found.snapshot.time_ms),
            "createdAt": iso(first.min(found.snapshot.time_ms)),
            "private": self.gate.is_private() || settings.private, "gated": settings.gated.shown(),
            "disabled": false,
            "downloads": 0, "likes": 0,
        });
        if name.family() == "models" {
            info["modelId"] = id.into();
            for key in ["pipeline_tag", "library_name"] {
                if let Some(text) = card.text(key) {
                    info[key] = text.into();
                }
            }
        }
        if let (Some(sdk), "spaces") = (card.text("sdk"), name.family()) {
            info["sdk"] = sdk.into();
        }
        tags.dedup();
        info["tags"] = tags.into();
        match info {
            Value::Object(info) => Ok(info),
            _ => Ok(Map::new()),
        }
    }
}

/// A commit as entries name it.
fn said(id: &SnapshotId, message: &str, time_ms: u64) -> Value {
    let title = message.lines().next().unwrap_or_default();
    json!({ "id": oid(id), "title": title, "date": iso(time_ms) })
}

/// `GET /api/{family}/{id}[/revision/{rev}]`.
pub(crate) fn info(hub: &Hub, ask: &Ask, name: &RepoName, rev: &str) -> Outcome<Response> {
    // A name whose only branch is called otherwise is still described.
    let seen = match hub.seen(name, rev) {
        Err(fail) if fail.code == Some("RevisionNotFound") && rev == DEFAULT_BRANCH => {
            let refs = hub.repo.refs()?;
            let other = refs
                .refs
                .keys()
                .find(|r| r.repo == *name && r.is_by_people() && !r.rev().starts_with(OWN));
            hub.seen(name, other.ok_or(fail)?.rev())?
        }
        seen => seen?,
    };
    let card = hub.card(&seen.found)?;
    let mut info = hub.summary(name, &seen.found, &card)?;
    let (blobs, mut used, mut siblings) = (ask.says("blobs"), 0u64, Vec::new());
    let all = hub.repo.list_in(&seen.found, "", true)?.unwrap_or_default();
    for Listed { path, node } in all {
        let Some(size) = hub.shown_len(&seen, &node)? else {
            continue;
        };
        used = used.saturating_add(size);
        let mut sibling = json!({ "rfilename": path });
        if blobs && let Some(entry) = hub.entry(&seen, &path, &node)? {
            sibling["size"] = size.into();
            sibling["blobId"] = entry["oid"].clone();
            if let Some(sha256) = entry["lfs"]["oid"].as_str() {
                let pointer = &entry["lfs"]["pointerSize"];
                sibling["lfs"] = json!({ "sha256": sha256, "size": size, "pointerSize": pointer });
            }
        }
        siblings.push(sibling);
    }
    info.insert("siblings".to_owned(), siblings.into());
    info.insert("usedStorage".to_owned(), used.into());
    if !card.data.is_empty() {
        info.insert("cardData".to_owned(), card.data.clone().into());
    }
    Ok(json_of(&info.into()))
}

/// `GET /api/{family}/{id}/tree/{rev}[/{path}]`.
pub(crate) fn tree(
    hub: &Hub,
    ask: &Ask,
    name: &RepoName,
    (rev, path): (&str, &str),
) -> Outcome<Response> {
    let seen = hub.seen(name, rev)?;
    let (expand, path) = (ask.says("expand"), path.trim_matches('/'));
    let listed = hub.repo.list_in(&seen.found, path, ask.says("recursive"))?;
    let commit = oid(&seen.found.id);
    let mut listed = listed.ok_or_else(|| Fail::no_entry(path, commit))?;
    listed.retain(|l| !matches!(l.node, Node::Link { .. }));
    listed.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let from = ask.get("cursor").map_or(0, |cursor| {
        listed.partition_point(|l| l.path.as_str() <= cursor)
    });
    let limit = ask.limit(if expand { EXPANDED_MAX } else { PAGE_MAX });
    let page = &listed[from..listed.len().min(from.saturating_add(limit))];
    let more = from + page.len() < listed.len();
    let next = page.last().filter(|_| more).map(|l| l.path.as_str());
    let entries = hub.entries(&seen, page, expand)?;
    Ok(ask.page(entries, next))
}

/// `GET /api/{family}/{id}/treesize/{rev}[/{path}]`.
pub(crate) fn tree_size(
    hub: &Hub,
    name: &RepoName,
    (rev, path): (&str, &str),
) -> Outcome<Response> {
    let seen = hub.seen(name, rev)?;
    let listed = hub.repo.list_in(&seen.found, path, true)?;
    let listed = listed.ok_or_else(|| Fail::no_entry(path, oid(&seen.found.id)))?;
    let mut size = 0u64;
    for Listed { node, .. } in &listed {
        size = size.saturating_add(hub.shown_len(&seen, node)?.unwrap_or(0));
    }
    Ok(json_of(&json!({ "path": path, "size": size })))
}

/// Which paths are asked after.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    paths: Vec<String>,
    expand: bool,
}

/// Reads the form, or JSON, of a question about paths.
pub(crate) fn wanted_paths(ask: &Ask, body: &[u8]) -> Outcome<Wanted> {
    let kind = ask.headers.get("content-type");
    let json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    wanted(json, body)
}

fn wanted(json: bool, body: &[u8]) -> Outcome<Wanted> {
    let mut wanted = Wanted::default();
    if json {
        let value: Value =
            serde_json::from_slice(body).map_err(|e| Fail::invalid(format!("the body: {e}")))?;
        match &value["paths"] {
            Value::String(path) => wanted.paths.push(path.clone()),
            Value::Array(paths) => {
                let paths = paths.iter().filter_map(Value::as_str);
                wanted.paths.extend(paths.map(str::to_owned));
            }
            _ => {}
        }
        wanted.expand = value["expand"] == true;
    } else {
        let text = std::str::from_utf8(body).map_err(|_| Fail::invalid("the form is no text"))?;
        for (key, value) in pairs(text) {
            match key.as_str() {
                "paths" | "paths[]" => wanted.paths.push(value),
                "expand" => wanted.expand = is_yes(&value),
                _ => {}
            }
        }
    }
    if wanted.paths.len() > PATHS_MAX {
        let text = format!("more than {PATHS_MAX} paths; ask in parts");
        return Err(Fail::invalid(text));
    }
    Ok(wanted)
}

/// `POST /api/{family}/{id}/paths-info/{rev}`.
pub(crate) fn paths_info(
    hub: &Hub,
    name: &RepoName,
    rev: &str,
    wanted: &Wanted,
) -> Outcome<Response> {
    let seen = hub.seen(name, rev)?;
    let mut listed = Vec::new();
    for path in &wanted.paths {
        let path = path.trim_matches('/');
        if path.is_empty() {
            continue;
        }
        if let Some(node) = hub.repo.node_in(&seen.found, path)? {
            let path = path.to_owned();
            listed.push(Listed { path, node });
        }
    }
    let entries = hub.entries(&seen, &listed, wanted.expand)?;
    Ok(json_of(&entries.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_json_ask_alike() {
        let form = wanted(false, b"paths=a%2Fb&paths=c&expand=True").unwrap();
        let json = br#"{"paths":["a/b","c"],"expand":true}"#;
        assert_eq!(form, wanted(true, json).unwrap());
        let one = wanted(true, br#"{"paths":"a"}"#).unwrap();
        assert_eq!(one.paths, ["a"]);
        assert!(wanted(true, b"{").is_err());
        assert!(wanted(false, b"\xff").is_err());
        assert!(wanted(false, "paths=a&".repeat(PATHS_MAX + 1).as_bytes()).is_err());
    }
}

//! Branches, tags and commits of a name.

use std::num::IntErrorKind;

use axum::response::Response;
use mmh_core::name::{RefKind, RepoName};
use serde_json::{Value, json};

use super::commits::oid;
use super::date::iso;
use super::fail::{Fail, Outcome};
use super::proposals::PROPOSALS;
use super::settings::OWN;
use super::{Ask, Hub, json_of};

/// Commits of a page.
const PAGE_MAX: usize = 1000;

/// `GET /api/{family}/{id}/refs`.
pub(crate) fn refs(hub: &Hub, ask: &Ask, name: &RepoName) -> Outcome<Response> {
    let refs = hub.repo.refs()?;
    let (mut branches, mut tags, mut proposals) = (Vec::new(), Vec::new(), Vec::new());
    for (r, id) in refs.refs.iter().filter(|(r, _)| r.repo == *name) {
        let rev = r.rev();
        let one = |full: String| json!({ "name": rev, "ref": full, "targetCommit": oid(id) });
        match r.kind {
            RefKind::Branch if rev.starts_with(OWN) => {}
            RefKind::Branch if rev.starts_with(PROPOSALS) => proposals.push(one(rev.to_owned())),
            RefKind::Branch => branches.push(one(format!("refs/heads/{rev}"))),
            RefKind::Tag => tags.push(one(format!("refs/tags/{rev}"))),
            RefKind::Signature | RefKind::Note => {}
        }
    }
    if branches.is_empty() && tags.is_empty() && proposals.is_empty() {
        return Err(Fail::no_repo());
    }
    let mut all = json!({ "branches": branches, "tags": tags, "converts": [] });
    if ask.says("include_prs") || ask.says("include_pull_requests") {
        all["pullRequests"] = proposals.into();
    }
    Ok(json_of(&all))
}

/// `GET /api/{family}/{id}/commits/{rev}`, newest first.
pub(crate) fn commits(hub: &Hub, ask: &Ask, name: &RepoName, rev: &str) -> Outcome<Response> {
    let tip = hub.resolved(name, rev)?;
    let from = match ask.get("cursor").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(from)) => from,
        Some(Err(error)) if *error.kind() == IntErrorKind::PosOverflow => usize::MAX,
        Some(Err(_)) => return Err(Fail::invalid("the cursor is none of this server's")),
    };
    let limit = ask.limit(PAGE_MAX);
    let formatted = ask
        .query
        .iter()
        .any(|(key, value)| matches!(key.as_str(), "expand" | "expand[]") && value == "formatted");
    let mut history = hub.repo.history(vec![tip.id])?.skip(from);
    let mut items = Vec::new();
    for entry in history.by_ref().take(limit) {
        let (id, snapshot) = entry?;
        items.push(commit(&oid(&id), &snapshot, formatted));
    }
    let next = history
        .next()
        .map(|_| from.saturating_add(limit).to_string());
    Ok(ask.page(items, next.as_deref()))
}

fn commit(oid: &str, snapshot: &mmh_core::object::Snapshot, formatted: bool) -> Value {
    let (title, message) = match snapshot.message.split_once('\n') {
        Some((title, rest)) => (title, rest.trim()),
        None => (snapshot.message.as_str(), ""),
    };
    let mut said = json!({
        "id": oid, "title": title, "message": message, "authors": [{ "user": snapshot.author }],
        "date": iso(snapshot.time_ms),
    });
    if formatted {
        said["formatted"] = json!({ "title": html(title), "message": html(message) });
    }
    said
}

/// Text as HTML has it.
fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

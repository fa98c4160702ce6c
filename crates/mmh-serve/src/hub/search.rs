//! Lists of names: what is searched for, of whom, with which tags, in which order.

use std::cmp::Reverse;

use axum::response::Response;
use mmh_core::ErrorKind;
use mmh_core::name::{DEFAULT_BRANCH, RefKind, RepoName};
use mmh_repo::refs::Resolved;
use serde_json::Value;

use super::fail::{Fail, Outcome};
use super::route::id_of;
use super::{Ask, Hub};
use crate::token::Role;

/// Names of a page.
const PAGE_MAX: usize = 1000;

/// `GET /api/{family}`.
pub(crate) fn list(hub: &Hub, ask: &Ask, family: &str) -> Outcome<Response> {
    if ask.caller.anywhere() == Role::Nobody {
        hub.gate.check(&ask.caller, Role::Nobody, Role::Reader)?;
    }
    let mut found = matching(hub, ask, family)?;
    let newest_first = match ask.get("sort") {
        Some("lastModified" | "createdAt" | "last_modified" | "created_at") => true,
        // Nothing here is liked or counted, so all are equal by that.
        None | Some("downloads" | "likes" | "trending_score" | "trendingScore") => false,
        Some(other) => return Err(Fail::invalid(format!("cannot sort by {other}"))),
    };
    if newest_first {
        found.sort_by_key(|(_, found)| Reverse(found.snapshot.time_ms));
        if ask.get("direction") == Some("1") {
            found.reverse();
        }
    }
    let from = ask
        .get("cursor")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let limit = ask.limit(PAGE_MAX);
    let mut items = Vec::new();
    for (name, found) in found.iter().skip(from).take(limit) {
        let card = hub.card(found)?;
        let mut item = hub.summary(name, found, &card)?;
        if ask.says("cardData") {
            item.insert("cardData".to_owned(), card.data.clone().into());
        }
        items.push(Value::Object(item));
    }
    let next = from.saturating_add(items.len());
    let next = (next < found.len()).then(|| next.to_string());
    Ok(ask.page(items, next.as_deref()))
}

/// The names that fit, with what their main branch names.
fn matching(hub: &Hub, ask: &Ask, family: &str) -> Outcome<Vec<(RepoName, Resolved)>> {
    let search = ask.get("search").map(str::to_lowercase);
    let author = ask.get("author").map(str::to_lowercase);
    let filters = ask.query.iter().filter(|(key, _)| key == "filter");
    let filters: Vec<&str> = filters.flat_map(|(_, text)| text.split(',')).collect();
    let refs = hub.repo.refs()?;
    let mains = refs.refs.keys().filter(|name| {
        name.kind == RefKind::Branch && name.rev() == DEFAULT_BRANCH && name.repo.family() == family
    });
    let mut all = Vec::new();
    for name in mains {
        let id = id_of(&name.repo).to_lowercase();
        let by = id.split_once('/').map(|(author, _)| author);
        if search.as_ref().is_some_and(|text| !id.contains(text))
            || author.as_ref().is_some_and(|text| by != Some(text))
        {
            continue;
        }
        if hub.role(&ask.caller, &name.repo)? < Role::Reader {
            continue;
        }
        let found = match hub.resolved(&name.repo, DEFAULT_BRANCH) {
            Ok(found) => found,
            // Not signed as the rules demand, or gone since.
            Err(fail) if is_passed_over(&fail) => continue,
            Err(fail) => return Err(fail),
        };
        if !filters.is_empty() {
            let tags = hub.card(&found)?.tags();
            if !filters.iter().all(|f| tags.iter().any(|tag| tag == f)) {
                continue;
            }
        }
        all.push((name.repo.clone(), found));
    }
    Ok(all)
}

fn is_passed_over(fail: &Fail) -> bool {
    [ErrorKind::Denied, ErrorKind::NotFound]
        .iter()
        .any(|kind| kind.http_status() == fail.status.as_u16())
}

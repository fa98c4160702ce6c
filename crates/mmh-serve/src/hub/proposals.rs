//! Proposals to merge (pull requests): branches of their own, and what clients ask of them. They are
//! neither discussed nor merged here.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use mmh_core::ErrorKind;
use mmh_core::name::{DEFAULT_BRANCH, RefKind, RefName, RepoName, Target};
use mmh_repo::Onto;
use serde::Deserialize;
use serde_json::{Value, json};

use super::commit::branch_of;
use super::date::iso;
use super::fail::{Fail, Outcome};
use super::route::id_of;
use super::{Ask, Hub, json_body, json_of};
use crate::token::Role;

/// Before branches that are proposals to merge.
pub(crate) const PROPOSALS: &str = "refs/pr/";

/// What somebody wants to begin.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Begun {
    pull_request: bool,
}

/// `/api/{family}/{id}/discussions[/{n}]`.
pub(crate) async fn door(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, rest): (RepoName, Vec<String>),
    body: Body,
) -> Outcome<Response> {
    let number = match rest.as_slice() {
        [] => None,
        [n] => Some(n.parse::<u64>().map_err(|_| Fail::no_route())?),
        _ => return Err(Fail::no_route()),
    };
    match (&ask.method, number) {
        (&Method::POST, None) => {
            hub.may(&ask.caller, &name, Role::Writer)?;
            let begun: Begun = json_body(hub, body).await?;
            if !begun.pull_request {
                let text = "nothing is discussed here; proposals (pull requests) are branches";
                return Err(Fail::new(StatusCode::NOT_IMPLEMENTED, text));
            }
            hub.apart(move |hub| {
                let base = branch_of(hub, &name, DEFAULT_BRANCH)?;
                let branch = propose(hub, &base, Onto::Any)?;
                Ok(json_of(&said(hub, &name, &branch)?))
            })
            .await
        }
        (method, Some(n)) if method.is_safe() => {
            hub.may_read(&ask.caller, &name)?;
            hub.apart(move |hub| {
                let branch = RefName::branch(name.clone(), &format!("{PROPOSALS}{n}"))?;
                Ok(json_of(&said(hub, &name, &branch)?))
            })
            .await
        }
        (method, None) if method.is_safe() => {
            hub.may_read(&ask.caller, &name)?;
            hub.apart(move |hub| list(hub, &name)).await
        }
        _ => Err(Fail::no_route()),
    }
}

fn list(hub: &Hub, name: &RepoName) -> Outcome<Response> {
    hub.there(name)?;
    let mut numbers = numbers(hub, name)?;
    numbers.sort_unstable();
    let one = |n: &u64| {
        let branch = RefName::branch(name.clone(), &format!("{PROPOSALS}{n}"))?;
        said(hub, name, &branch)
    };
    let all = numbers.iter().rev().map(one).collect::<Outcome<Vec<_>>>()?;
    let said = json!({ "count": all.len(), "start": 0, "discussions": all });
    Ok(json_of(&said))
}

/// What clients are told of a proposal: its newest commit speaks for it.
fn said(hub: &Hub, name: &RepoName, branch: &RefName) -> Outcome<Value> {
    let number = branch.rev().trim_start_matches(PROPOSALS);
    let tip = hub.resolved(name, branch.rev()).map_err(|_| {
        let text = format!("there is no proposal {number}");
        Fail::new(StatusCode::NOT_FOUND, text)
    })?;
    let title = tip.snapshot.message.lines().next().unwrap_or_default();
    let kind = name.family().trim_end_matches('s');
    Ok(json!({
        "num": number.parse::<u64>().unwrap_or_default(), "title": title, "status": "open",
        "author": { "name": tip.snapshot.author }, "createdAt": iso(tip.snapshot.time_ms),
        "isPullRequest": true, "repo": { "name": id_of(name), "type": kind }, "events": [],
        "changes": { "base": format!("refs/heads/{DEFAULT_BRANCH}") }, "filesWithConflicts": [],
        "diff": "",
    }))
}

fn numbers(hub: &Hub, name: &RepoName) -> Outcome<Vec<u64>> {
    let refs = hub.repo.refs()?;
    let of_name = refs
        .refs
        .keys()
        .filter(|r| r.repo == *name && r.kind == RefKind::Branch);
    let numbers = of_name.filter_map(|r| r.rev().strip_prefix(PROPOSALS)?.parse::<u64>().ok());
    Ok(numbers.collect())
}

/// A new branch for a proposal, where the branch is that it is for.
pub(crate) fn propose(hub: &Hub, base: &RefName, onto: Onto) -> Outcome<RefName> {
    const ATTEMPTS: usize = 16;
    for _ in 0..ATTEMPTS {
        let numbers = numbers(hub, &base.repo)?;
        let next = numbers.into_iter().max().unwrap_or(0).saturating_add(1);
        let at = Target {
            repo: base.repo.clone(),
            rev: Some(match onto {
                Onto::Exactly(id) => id.to_string(),
                _ => base.rev().to_owned(),
            }),
            path: None,
        };
        let branch = format!("{PROPOSALS}{next}");
        match hub.repo.create_branch(&at, &branch) {
            Ok(_) => return Ok(RefName::branch(base.repo.clone(), &branch)?),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
    let text = "many propose at the same time; try again";
    Err(Fail::new(StatusCode::SERVICE_UNAVAILABLE, text))
}

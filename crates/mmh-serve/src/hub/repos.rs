//! Whole repositories and their branches and tags: made, moved, removed.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use mmh_core::ErrorKind;
use mmh_core::name::{RefName, RepoName, Target};
use mmh_repo::{Change, Onto};
use serde::Deserialize;
use serde_json::json;

use super::attributes::SEED;
use super::commit::main_of;
use super::fail::{Fail, Outcome, of_io};
use super::route::{full_name, id_of};
use super::{Ask, Hub, bare_rev, json_body, json_of};
use crate::token::Role;

/// What is asked of a whole repository.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Whole {
    name: Option<String>,
    organization: Option<String>,
    r#type: Option<String>,
    from_repo: Option<String>,
    to_repo: Option<String>,
    #[serde(flatten)]
    seen: Visibility,
}

/// Who is to see a repository.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Visibility {
    private: Option<bool>,
    visibility: Option<String>,
    gated: Option<serde_json::Value>,
}

impl Visibility {
    /// Refuses what would not hold: tokens decide who reads, of all names alike.
    fn check(&self, hub: &Hub) -> Outcome<()> {
        let private =
            self.private == Some(true) || self.visibility.as_deref().is_some_and(|v| v != "public");
        let gated = self
            .gated
            .as_ref()
            .is_some_and(|v| *v != false && !v.is_null());
        if gated {
            let text = "no repository is gated here: tokens decide who reads (`mmh token --scope`)";
            return Err(Fail::new(StatusCode::NOT_IMPLEMENTED, text));
        }
        if private && !hub.gate.is_private() {
            let text = "anybody may read here, so nothing is private: serve with --anonymous none \
                        and tokens";
            return Err(Fail::invalid(text));
        }
        Ok(())
    }
}

fn family(kind: Option<&str>) -> Outcome<&'static str> {
    match kind {
        None | Some("model" | "models") => Ok("models"),
        Some("dataset" | "datasets") => Ok("datasets"),
        Some("space" | "spaces") => Ok("spaces"),
        Some(_) => Err(Fail::invalid("the type is model, dataset or space")),
    }
}

fn named(family: &str, id: Option<&str>) -> Outcome<RepoName> {
    let id = id.ok_or_else(|| Fail::invalid("which repository?"))?;
    let refused = || Fail::invalid(format!("{id:?} is no name of a repository"));
    full_name(family, id).ok_or_else(refused)
}

/// `/api/repos/{what}`.
pub(crate) async fn whole(hub: &Arc<Hub>, ask: Ask, what: &str, body: Body) -> Outcome<Response> {
    match (what, &ask.method) {
        ("create", &Method::POST) => create(hub, ask, json_body(hub, body).await?).await,
        ("delete", &Method::DELETE) => {
            let asked: Whole = json_body(hub, body).await?;
            let name = asked.of()?;
            hub.may(&ask.caller, &name, Role::Admin)?;
            let target = Target {
                repo: name,
                rev: None,
                path: None,
            };
            hub.apart(move |hub| {
                let removed = hub.repo.remove(&target);
                removed.map_err(|error| not_there(error, &target.repo))?;
                Ok(StatusCode::OK.into_response())
            })
            .await
        }
        ("move", &Method::POST) => {
            let asked: Whole = json_body(hub, body).await?;
            let family = family(asked.r#type.as_deref())?;
            let from = named(family, asked.from_repo.as_deref())?;
            let to = named(family, asked.to_repo.as_deref())?;
            hub.may(&ask.caller, &from, Role::Admin)?;
            hub.may(&ask.caller, &to, Role::Writer)?;
            hub.apart(move |hub| {
                let moved = hub.repo.rename(&from, &to);
                moved.map_err(|error| not_there(error, &from))?;
                Ok(StatusCode::OK.into_response())
            })
            .await
        }
        _ => Err(Fail::no_route()),
    }
}

impl Whole {
    fn of(&self) -> Outcome<RepoName> {
        let family = family(self.r#type.as_deref())?;
        let id = match (&self.organization, &self.name) {
            (Some(owner), Some(name)) => Some(format!("{owner}/{name}")),
            (_, name) => name.clone(),
        };
        named(family, id.as_deref())
    }
}

fn not_there(error: mmh_repo::Error, name: &RepoName) -> Fail {
    match error.kind() {
        ErrorKind::NotFound => Fail::no_repo(name.short()),
        _ => error.into(),
    }
}

async fn create(hub: &Arc<Hub>, ask: Ask, asked: Whole) -> Outcome<Response> {
    let name = asked.of()?;
    hub.may(&ask.caller, &name, Role::Writer)?;
    asked.seen.check(hub)?;
    hub.apart(move |hub| {
        let url = ask.url_of(&name);
        let folder = hub.uploads.change()?;
        let place = folder.path().join(".gitattributes");
        std::fs::write(place, SEED).map_err(of_io("begin a repository"))?;
        let change = Change {
            folder: Some(folder.path().to_owned()),
            onto: Onto::Nothing,
            message: "initial commit".to_owned(),
            author: Some(ask.author()),
            ..Change::default()
        };
        hub.repo
            .change(&main_of(&name)?, &change)
            .map_err(|error| {
                let kind = error.kind();
                let more = (kind == ErrorKind::Conflict).then(|| ("url", url.clone()));
                Fail {
                    more,
                    ..error.into()
                }
            })?;
        let id = id_of(&name);
        Ok(json_of(&json!({ "url": url, "name": id, "id": id })))
    })
    .await
}

/// What is asked of a branch or tag.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Part {
    starting_point: Option<String>,
    tag: Option<String>,
    message: Option<String>,
    #[serde(flatten)]
    seen: Visibility,
}

/// `/api/{family}/{id}/{branch|tag|super-squash|settings}[/{rev}]`.
pub(crate) async fn part(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, verb, rev): (RepoName, &'static str, String),
    body: Body,
) -> Outcome<Response> {
    let settings = verb == "settings";
    let needed = if settings { Role::Admin } else { Role::Writer };
    hub.may(&ask.caller, &name, needed)?;
    let asked: Part = json_body(hub, body).await?;
    let (method, author) = (ask.method.clone(), ask.author());
    hub.apart(move |hub| {
        if hub.repo.tips(&name)?.is_empty() {
            return Err(Fail::no_repo(name.short()));
        }
        match (verb, &method) {
            ("settings", &Method::PUT) => asked.seen.check(hub)?,
            ("branch", &Method::POST) => {
                let start = asked.starting_point.as_deref().unwrap_or("main");
                let at = at(hub, &name, start)?;
                hub.repo.create_branch(&at, bare_rev(&rev))?;
            }
            ("tag", &Method::POST) => {
                let tag = asked.tag.as_deref();
                let tag = tag.ok_or_else(|| Fail::invalid("which tag?"))?;
                hub.repo.create_tag(&at(hub, &name, &rev)?, bare_rev(tag))?;
            }
            ("branch", &Method::DELETE) => {
                let branch = RefName::branch(name, bare_rev(&rev))?;
                if branch.rev() == mmh_core::name::DEFAULT_BRANCH {
                    let text = "the main branch stays; delete the repository instead";
                    return Err(Fail::new(StatusCode::FORBIDDEN, text));
                }
                remove(hub, branch)?;
            }
            ("tag", &Method::DELETE) => remove(hub, RefName::tag(name, bare_rev(&rev))?)?,
            ("super-squash", &Method::POST) => {
                let branch = RefName::branch(name, bare_rev(&rev))?;
                let message = asked.message.as_deref().filter(|m| !m.is_empty());
                let message = message.unwrap_or("Super-squash branch using mmh");
                let done = hub.repo.squash(&branch, message, Some(&author));
                done.map_err(|error| gone(error, &rev))?;
            }
            _ => return Err(Fail::no_route()),
        }
        Ok(json_of(&json!({})))
    })
    .await
}

/// The snapshot of a revision, as a target.
fn at(hub: &Hub, name: &RepoName, rev: &str) -> Outcome<Target> {
    let found = hub.resolved(name, rev)?;
    Ok(Target {
        repo: name.clone(),
        rev: Some(found.id.to_string()),
        path: None,
    })
}

fn remove(hub: &Hub, name: RefName) -> Outcome<()> {
    let rev = name.rev().to_owned();
    hub.repo.remove_ref(name).map_err(|error| gone(error, &rev))
}

fn gone(error: mmh_repo::Error, rev: &str) -> Fail {
    match error.kind() {
        ErrorKind::NotFound => Fail::no_revision(rev),
        _ => error.into(),
    }
}

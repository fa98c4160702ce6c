//! Whole repositories and their branches and tags: made, moved, removed.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use mmh_core::ErrorKind;
use mmh_core::name::{DEFAULT_BRANCH, RefName, RepoName, Target};
use mmh_repo::{Change, Onto};
use serde::Deserialize;
use serde_json::json;

use super::attributes::SEED;
use super::commit::{main_of, not_own};
use super::fail::{Fail, Outcome, of_io};
use super::route::{full_name, id_of};
use super::settings::{Gated, OWN, Settings};
use super::{Ask, Hub, bare_rev, json_body, json_of};
use crate::token::{Caller, Role};

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

/// Who is to see a repository, and who is to have its files.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Visibility {
    private: Option<bool>,
    visibility: Option<String>,
    gated: Option<serde_json::Value>,
}

impl Visibility {
    /// Changes settings to what is asked for, and refuses what would not hold.
    fn apply(&self, hub: &Hub, settings: &mut Settings) -> Outcome<()> {
        let private = match (self.private, self.visibility.as_deref()) {
            (Some(private), _) => Some(private),
            (None, Some("private")) => Some(true),
            (None, Some("public")) => Some(false),
            (None, Some(other)) => {
                return Err(Fail::invalid(format!("{other} is no visibility here")));
            }
            (None, None) => None,
        };
        let gated = self.gated.as_ref().map(|value| {
            let unknown = || Fail::invalid("gated is false, \"auto\" or \"manual\"");
            Gated::of(value).ok_or_else(unknown)
        });
        settings.private = private.unwrap_or(settings.private);
        settings.gated = gated.transpose()?.unwrap_or(settings.gated);
        let closed = settings.private || settings.gated != Gated::No;
        if closed && !hub.gate.is_private() && !hub.gate.has_tokens() {
            let text = "there are no tokens here to tell callers apart by, so nothing is private: \
                        serve with --tokens (`mmh token` makes them)";
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
            hub.apart(move |hub| {
                let name = hub.known_as(&ask.caller, name)?;
                hub.sees(&ask.caller, &name)?;
                hub.may(&ask.caller, &name, Role::Admin)?;
                let target = Target {
                    repo: name,
                    rev: None,
                    path: None,
                };
                let removed = hub.repo.remove(&target);
                removed.map_err(not_there)?;
                hub.uploads.give_up_all(&target.repo);
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
                hub.sees(&ask.caller, &from)?;
                let moved = hub.repo.rename(&from, &to);
                moved.map_err(|error| match error.kind() {
                    ErrorKind::Conflict => {
                        let kind = family.trim_end_matches('s');
                        let id = id_of(&to);
                        let text = format!("A {kind} repository called {id} already exists");
                        Fail::new(StatusCode::CONFLICT, text)
                    }
                    _ => not_there(error),
                })?;
                hub.moved(&from, &to, &ask.author())?;
                hub.uploads.give_up_all(&from);
                hub.uploads.give_up_all(&to);
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

fn not_there(error: mmh_repo::Error) -> Fail {
    match error.kind() {
        ErrorKind::NotFound => Fail::no_repo(),
        _ => error.into(),
    }
}

impl Hub {
    /// The full name of what a caller calls by one part: their own if they have a name of that kind.
    fn own(&self, caller: &Caller, name: &RepoName) -> Option<RepoName> {
        let id = id_of(name);
        if id.contains('/') || !caller.known || caller.name.is_empty() {
            return None;
        }
        let own = full_name(name.family(), &format!("{}/{id}", caller.name))?;
        (caller.with_name(&own) >= Role::Writer).then_some(own)
    }

    /// The name itself if it is there, else the caller's own of that kind.
    fn known_as(&self, caller: &Caller, name: RepoName) -> Outcome<RepoName> {
        match self.repo.tips(&name)?.is_empty() {
            true => Ok(self.own(caller, &name).unwrap_or(name)),
            false => Ok(name),
        }
    }

    /// Whether a name has branches or tags, and whether it has settings.
    fn begun(&self, name: &RepoName) -> Outcome<(bool, bool)> {
        let refs = self.repo.refs()?;
        let of_name = refs.refs.keys().filter(|r| r.repo == *name);
        let (own, others): (Vec<_>, Vec<_>) = of_name.partition(|r| r.rev().starts_with(OWN));
        Ok((!others.is_empty(), !own.is_empty()))
    }
}

async fn create(hub: &Arc<Hub>, ask: Ask, asked: Whole) -> Outcome<Response> {
    let name = asked.of()?;
    let name = hub.own(&ask.caller, &name).unwrap_or(name);
    hub.may(&ask.caller, &name, Role::Writer)?;
    hub.apart(move |hub| {
        let mut settings = Settings::default();
        asked.seen.apply(hub, &mut settings)?;
        let url = ask.url_of(&name);
        let taken = || Fail {
            more: Some(("url", url.clone())),
            ..Fail::new(StatusCode::CONFLICT, format!("`{name}` exists already"))
        };
        // Settings alone are what a creation left that broke off.
        let (there, left) = hub.begun(&name)?;
        if there {
            return Err(taken());
        }
        // First of all: it is never seen by those who are not to see it.
        if left || settings != Settings::default() {
            hub.set(&name, &settings, &ask.author())?;
        }
        let folder = hub.uploads.change()?;
        let place = folder.path().join(".gitattributes");
        std::fs::write(place, SEED).map_err(of_io("begin a repository"))?;
        let change = Change {
            folder: Some(folder.path().to_owned()),
            onto: Onto::NoBranch,
            message: "initial commit".to_owned(),
            author: Some(ask.author()),
            ..Change::default()
        };
        hub.repo
            .change(&main_of(&name)?, &change)
            .map_err(|error| match error.kind() {
                ErrorKind::Conflict => taken(),
                _ => error.into(),
            })?;
        hub.uploads.give_up_all(&name);
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
        hub.there(&name)?;
        match (verb, &method) {
            ("settings", &Method::PUT) => {
                let mut settings = Settings::clone(&*hub.settings(&name)?);
                let before = settings.clone();
                asked.seen.apply(hub, &mut settings)?;
                if settings != before {
                    hub.set(&name, &settings, &author)?;
                }
            }
            ("branch", &Method::POST) => {
                let branch = bare_rev(&rev);
                not_own(branch)?;
                let start = asked.starting_point.as_deref().unwrap_or("main");
                let made = hub.repo.create_branch(&at(hub, &name, start)?, branch);
                made.map_err(|error| taken(error, &format!("refs/heads/{branch}")))?;
            }
            ("tag", &Method::POST) => {
                let tag = asked.tag.as_deref();
                let tag = tag.ok_or_else(|| Fail::invalid("which tag?"))?;
                let tag = bare_rev(tag);
                let made = hub.repo.create_tag(&at(hub, &name, &rev)?, tag);
                made.map_err(|error| taken(error, &format!("refs/tags/{tag}")))?;
            }
            ("branch", &Method::DELETE) => {
                let branch = RefName::branch(name, bare_rev(&rev))?;
                not_own(branch.rev())?;
                if branch.rev() == DEFAULT_BRANCH {
                    let text = "Cannot delete refs/heads/main; delete the repository instead";
                    return Err(Fail::new(StatusCode::FORBIDDEN, text));
                }
                remove(hub, branch)?;
            }
            ("tag", &Method::DELETE) => remove(hub, RefName::tag(name, bare_rev(&rev))?)?,
            ("super-squash", &Method::POST) => {
                let branch = RefName::branch(name, bare_rev(&rev))?;
                not_own(branch.rev())?;
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
        ErrorKind::NotFound => Fail {
            text: format!("Invalid rev id: {rev}"),
            ..Fail::no_revision(rev)
        },
        _ => error.into(),
    }
}

fn taken(error: mmh_repo::Error, full: &str) -> Fail {
    match error.kind() {
        ErrorKind::Conflict => Fail::new(
            StatusCode::CONFLICT,
            format!("Reference {full} already exists"),
        ),
        _ => error.into(),
    }
}

//! The door for clients of model hubs: names as models, data sets and spaces, over the HTTP API that
//! `huggingface_hub` and others speak (HUB.md in `docs` lists the endpoints).
//!
//! What it shows is a view: commit ids and git ids are made of what the repository has. Reads go
//! through [`Repository::resolve`] and so under the rules of trust.

mod ahead;
mod attributes;
mod card;
mod commit;
mod commits;
mod compare;
mod content;
mod date;
mod disk;
mod facts;
mod fail;
mod history;
mod ignore;
mod lfs;
mod mirror;
mod pattern;
mod proposals;
mod repos;
mod route;
mod search;
mod settings;
mod uploads;
mod view;
mod xet;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, request};
use axum::response::{IntoResponse as _, Response};
use mmh_core::ErrorKind;
use mmh_core::name::{RepoName, Target, check_rev};
use mmh_core::ports::Clock;
use mmh_repo::refs::Resolved;
use mmh_repo::{FileCache, Repository};
use opentelemetry::Context;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::body::Incoming;
use crate::error::Result;
use crate::gate::Gate;
use crate::limits::Limits;
use crate::server::Scheme;
use crate::token::{Caller, Role};
use ahead::Ahead;
use commits::Commits;
use disk::OnDisk;
use facts::Facts;
use fail::{Fail, Outcome};
use mirror::Mirror;
use route::{Route, encode, page_of, pairs};
use settings::{Book, Stands};
use uploads::Uploads;

pub use mirror::Upstream;
pub use settings::OpenNames;

/// Most bytes of a JSON body.
const JSON_LEN_MAX: u64 = 4 << 20;

/// Bytes of a part of an upload, where nothing else is wanted.
pub const PART_LEN: u64 = 64 << 20;

/// How a hub is served.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Folder for what was uploaded and is not committed yet; no two servers may share it.
    pub uploads: PathBuf,
    /// Most bytes in there.
    pub uploads_len: u64,
    /// Longer uploads of git-LFS come in parts of that many bytes, from clients that can.
    pub part_len: u64,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Another hub, from which names come that are not here.
    pub upstream: Option<Upstream>,
    /// Whole decoded files of this machine.
    pub cache: Option<Arc<FileCache>>,
}

/// A repository as clients of hubs see it.
#[derive(Debug)]
pub struct Hub {
    repo: Arc<Repository>,
    gate: Gate,
    limits: Limits,
    commits: Commits,
    facts: Facts,
    uploads: Uploads,
    book: Book,
    mirror: Option<Mirror>,
    disk: Option<OnDisk>,
    /// Pieces that may be decoded before they are wanted.
    ahead: Arc<Ahead>,
    at_once: xet::AtOnce,
    index: xet::Index,
    later: xet::Later,
}

impl Hub {
    /// A hub over that repository.
    ///
    /// # Errors
    /// Those of the folder for uploads; Unavailable without random bytes.
    pub fn open(
        repo: Arc<Repository>,
        gate: &Gate,
        limits: Limits,
        options: HubOptions,
    ) -> Result<Self> {
        let uploads = Uploads::open(&options)?;
        Ok(Self {
            repo,
            gate: gate.clone(),
            limits,
            commits: Commits::new(),
            facts: Facts::new(),
            uploads,
            book: Book::new(),
            disk: options.cache.map(OnDisk::new),
            mirror: options.upstream.as_ref().map(Mirror::new).transpose()?,
            ahead: Arc::default(),
            at_once: xet::AtOnce::default(),
            index: xet::Index::default(),
            later: xet::Later::default(),
        })
    }

    /// What it answers: every path that no other route takes.
    pub fn router(self) -> Router {
        let gate = self.gate.clone();
        let router = Router::new().fallback(answer).with_state(Arc::new(self));
        gate.before("hub", router)
    }

    /// Whether a caller may read a name, private or not; one that may not is told that it is not
    /// there.
    fn may_read(&self, caller: &Caller, name: &RepoName) -> Outcome<()> {
        let has = caller.with_name(name);
        if has == Role::Nobody && caller.known {
            return Err(Fail::no_repo());
        }
        Ok(self.gate.check(caller, has, Role::Reader)?)
    }

    fn may(&self, caller: &Caller, name: &RepoName, needed: Role) -> Outcome<()> {
        self.may_read(caller, name)?;
        Ok(self.gate.check(caller, caller.with_name(name), needed)?)
    }

    /// Finds what a request is about, and whether the caller may see it and have its files.
    fn admit(&self, ask: &Ask, route: Route) -> Outcome<Admitted> {
        let Some(name) = route.repo() else {
            return Ok(Admitted::To(route));
        };
        // Signed, or asked by clients that show no token there; their handlers check.
        if route.is_signed(&ask.method) {
            return Ok(Admitted::To(route));
        }
        let (now, moved) = match self.stands(name)? {
            Stands::For(now) => (now, false),
            Stands::Moved(now) => (now, true),
        };
        self.sees(&ask.caller, &now)?;
        let changed = now != *name;
        if route.is_of_content() {
            self.gets(&ask.caller, &now)?;
        }
        let route = if changed { route.with_repo(now) } else { route };
        Ok(match moved {
            true => Admitted::Elsewhere(route.path()),
            false => Admitted::To(route),
        })
    }

    /// Whether a name is there.
    fn there(&self, name: &RepoName) -> Outcome<()> {
        match self.repo.tips(name)?.is_empty() {
            true => Err(Fail::no_repo()),
            false => Ok(()),
        }
    }

    /// The snapshot that a revision of a name is: a commit id, else a branch or tag.
    fn resolved(&self, name: &RepoName, rev: &str) -> Outcome<Resolved> {
        self.there(name)?;
        let known = match self.commits.find(&self.repo, name, rev)? {
            None => self.brought(name, rev)?,
            known => known,
        };
        if let Some(id) = known {
            return Ok(self.repo.resolve_known(name, id)?);
        }
        let bare = bare_rev(rev);
        if check_rev(bare).is_err() {
            return Err(Fail::no_revision(rev));
        }
        let target = Target {
            repo: name.clone(),
            rev: Some(bare.to_owned()),
            path: None,
        };
        self.repo
            .resolve(&target)
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => Fail::no_revision(rev),
                _ => error.into(),
            })
    }

    /// Does what blocks elsewhere than on the threads of the network.
    async fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let hub = Arc::clone(self);
        let within = self.gate.traces().current();
        let work = move || {
            let _within = within.map(Context::attach);
            work(&hub)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Err(Fail::new(status, format!("the server failed: {error}")))
        })
    }
}

/// Where a request goes on.
enum Admitted {
    To(Route),
    /// To a path: the name has another one now.
    Elsewhere(String),
}

/// A revision without what git writes before branches and tags.
fn bare_rev(rev: &str) -> &str {
    let bare = rev.strip_prefix("refs/heads/");
    bare.or_else(|| rev.strip_prefix("refs/tags/"))
        .unwrap_or(rev)
}

/// A request, taken apart.
#[derive(Debug)]
struct Ask {
    method: Method,
    caller: Caller,
    /// Where the client found this server: `http://localhost:8080`.
    base: String,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
}

impl Ask {
    fn new(parts: request::Parts) -> Outcome<Self> {
        let caller = parts.extensions.get::<Caller>().cloned();
        // The gate stands before every route.
        let caller = caller.ok_or_else(|| Fail::new(StatusCode::UNAUTHORIZED, "who are you?"))?;
        let scheme = parts.extensions.get::<Scheme>();
        let scheme = scheme.map_or("http", |Scheme(scheme)| scheme);
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let plain = |host: &&str| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".:-_[]".contains(&b);
            host.bytes().all(is_plain)
        };
        let host = host.filter(plain).unwrap_or("localhost");
        Ok(Self {
            base: format!("{scheme}://{host}"),
            path: parts.uri.path().to_owned(),
            query: pairs(parts.uri.query().unwrap_or_default()),
            method: parts.method,
            caller,
            headers: parts.headers,
        })
    }

    /// Sends the client to another path; a relative address, which clients of hubs follow.
    fn elsewhere(&self, path: &str) -> Response {
        let pairs = self.query.iter();
        let pairs = pairs.map(|(key, value)| format!("{}={}", encode(key), encode(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
        if let Ok(place) = HeaderValue::try_from(format!("{path}{mark}{query}")) {
            response.headers_mut().insert(LOCATION, place);
        }
        response
    }

    /// The first value of a parameter of the query.
    fn get(&self, key: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        let (_, value) = pairs.find(|(k, _)| k == key)?;
        Some(value)
    }

    /// A parameter that is a number.
    fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// A parameter that is there without a value, or says yes.
    fn says(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_yes)
    }

    /// How many items a page has: what is asked for, within bounds.
    fn limit(&self, most: usize) -> usize {
        let asked = self.get("limit").and_then(|text| text.parse().ok());
        asked.unwrap_or(most).clamp(1, most)
    }

    /// A page of a list as JSON, with a link to the next one, if there is one.
    fn page(&self, items: Vec<Value>, next: Option<&str>) -> Response {
        let mut response = json_of(&Value::Array(items));
        let Some(next) = next else {
            return response;
        };
        let kept = self.query.iter().filter(|(key, _)| key != "cursor");
        let kept = kept.map(|(key, value)| format!("{}={}&", encode(key), encode(value)));
        let query: String = kept.collect();
        let (base, path) = (&self.base, &self.path);
        let link = format!(
            "<{base}{path}?{query}cursor={}>; rel=\"next\"",
            encode(next)
        );
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().insert(LINK, link);
        }
        response
    }

    /// Where a name is seen in a browser; clients show it.
    fn url_of(&self, name: &RepoName) -> String {
        format!("{}/{}", self.base, page_of(name))
    }
}

fn is_yes(text: &str) -> bool {
    matches!(text, "" | "1" | "true" | "True")
}

/// A JSON body.
async fn json_body<T: DeserializeOwned>(hub: &Hub, body: Body) -> Outcome<T> {
    let bytes = whole_body(hub, body, JSON_LEN_MAX).await?;
    let bytes = if bytes.is_empty() { b"{}" } else { &bytes[..] };
    serde_json::from_slice(bytes).map_err(|error| Fail::invalid(format!("the body: {error}")))
}

async fn whole_body(hub: &Hub, body: Body, len_max: u64) -> Outcome<bytes::Bytes> {
    let mut incoming = Incoming::new(body, &hub.limits, len_max);
    let (bytes, _) = incoming.gather(usize::MAX).await?;
    Ok(bytes)
}

fn json_of(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn answer(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match dispatch(&hub, parts, body).await {
        Ok(response) => response,
        Err(fail) => fail.into_response(),
    }
}

async fn dispatch(hub: &Arc<Hub>, parts: request::Parts, body: Body) -> Outcome<Response> {
    let ask = Ask::new(parts)?;
    let route = Route::parse(&ask.path).ok_or_else(Fail::no_route)?;
    hub.gate.traces().routed(&ask.method, || route.template());
    if let Some((name, rev)) = route.read(&ask.method) {
        hub.may_read(&ask.caller, name)?;
        let _step = hub
            .mirror
            .as_ref()
            .map(|_| hub.gate.traces().step("upstream"));
        hub.bring(name, rev).await?;
    }
    let admit = move |hub: &Hub| {
        let _step = hub.gate.traces().step("admit");
        Ok((hub.admit(&ask, route)?, ask))
    };
    let (admitted, ask) = hub.apart(admit).await?;
    let route = match admitted {
        Admitted::To(route) => route,
        Admitted::Elsewhere(path) => return Ok(ask.elsewhere(&path)),
    };
    match route {
        Route::List(family) if ask.method == Method::GET => {
            hub.apart(move |hub| search::list(hub, &ask, family)).await
        }
        Route::File { .. } => content::file(hub, ask, route).await,
        Route::Repo { repo, verb, rest } => of_repo(hub, ask, (repo, verb, rest), body).await,
        Route::Repos(what) => repos::whole(hub, ask, &what, body).await,
        Route::Lfs { repo, what } => lfs::door(hub, ask, (repo, what), body).await,
        Route::Small(what) if what == "validate-yaml" && ask.method == Method::POST => {
            let asked: Validated = json_body(hub, body).await?;
            Ok(validate(&asked))
        }
        Route::Small(what) => small(hub, &ask, &what),
        Route::List(_) => Err(Fail::no_route()),
    }
}

async fn of_repo(
    hub: &Arc<Hub>,
    ask: Ask,
    (name, verb, rest): (RepoName, &'static str, Vec<String>),
    body: Body,
) -> Outcome<Response> {
    let reads = ask.method.is_safe();
    let (first, below) = match rest.split_first() {
        Some((first, below)) => (first.clone(), below.join("/")),
        None => (String::new(), String::new()),
    };
    match (verb, reads) {
        ("" | "revision" | "tree" | "refs" | "commits" | "compare" | "treesize", true) => {
            hub.may_read(&ask.caller, &name)?;
            hub.apart(move |hub| match verb {
                "" => view::info(hub, &ask, &name, "main"),
                "revision" => view::info(hub, &ask, &name, &first),
                "tree" => view::tree(hub, &ask, &name, (&first, &below)),
                "treesize" => view::tree_size(hub, &name, (&first, &below)),
                "refs" => history::refs(hub, &ask, &name),
                "compare" => compare::compare(hub, &ask, &name, &rest.join("/")),
                _ => history::commits(hub, &ask, &name, &first),
            })
            .await
        }
        ("paths-info", false) => {
            hub.may_read(&ask.caller, &name)?;
            let body = whole_body(hub, body, JSON_LEN_MAX).await?;
            let wanted = view::wanted_paths(&ask, &body)?;
            hub.apart(move |hub| view::paths_info(hub, &name, &first, &wanted))
                .await
        }
        // Whoever gets here may have its files, if it is there.
        ("auth-check", true) if rest.is_empty() => {
            hub.apart(move |hub| hub.there(&name).map(|()| json_of(&json!({}))))
                .await
        }
        ("discussions", _) => proposals::door(hub, ask, (name, rest), body).await,
        ("xet-read-token", true) => xet::token(hub, ask, (name, first), Role::Reader).await,
        ("xet-write-token", true) => xet::token(hub, ask, (name, first), Role::Writer).await,
        ("xet", _) => xet::door(hub, ask, (name, rest), body).await,
        ("commit", false) => commit::commit(hub, ask, (name, first), body).await,
        ("preupload", false) => commit::preupload(hub, ask, (name, first), body).await,
        ("branch" | "tag" | "super-squash" | "settings", false) => {
            let rev = rest.join("/");
            repos::part(hub, ask, (name, verb, rev), body).await
        }
        _ => Err(Fail::no_route()),
    }
}

/// Endpoints that stand alone.
fn small(hub: &Hub, ask: &Ask, what: &str) -> Outcome<Response> {
    let get = ask.method.is_safe();
    match what {
        "whoami-v2" if get => whoami(hub, &ask.caller),
        "agent-harnesses" if get => Ok(json_of(&json!({}))),
        _ if what.starts_with("telemetry/") => Ok(StatusCode::OK.into_response()),
        _ => Err(Fail::no_route()),
    }
}

/// A card that is to be looked at before it is committed.
#[derive(Debug, serde::Deserialize)]
struct Validated {
    #[serde(default)]
    content: String,
}

fn validate(asked: &Validated) -> Response {
    let (errors, warnings) = card::Card::parse(&asked.content).complaints();
    let said = |texts: Vec<String>| {
        let texts = texts.into_iter().map(|text| json!({ "message": text }));
        texts.collect::<Vec<_>>()
    };
    let refused = !errors.is_empty();
    let mut response = json_of(&json!({ "errors": said(errors), "warnings": said(warnings) }));
    if refused {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

fn whoami(hub: &Hub, caller: &Caller) -> Outcome<Response> {
    // Whoever may do something without a token is somebody too.
    hub.gate.check(caller, caller.anywhere(), Role::Reader)?;
    let name = match &*caller.name {
        "" if caller.known => "token",
        "" => "anonymous",
        name => name,
    };
    let role = caller.anywhere().as_str();
    Ok(json_of(&json!({
        "type": "user", "id": name, "name": name, "fullname": name, "email": null,
        "emailVerified": false, "canPay": false, "isPro": false, "orgs": [],
        "auth": {
            "type": "access_token",
            "accessToken": { "displayName": name, "role": role },
        },
    })))
}

#[cfg(test)]
pub(crate) mod tests {
    use mmh_repo::{Backend, Components, Settings};

    use super::*;

    /// An empty repository in memory, and what it runs on.
    pub(crate) fn memory() -> (tokio::runtime::Runtime, Arc<Repository>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let components = Components::new(runtime.handle().clone(), Arc::new(pool.unwrap()));
        let repo = Repository::init(Backend::memory(), Settings::default(), components);
        (runtime, Arc::new(repo.unwrap()))
    }

    #[test]
    fn revisions_may_be_spelled_as_refs() {
        assert_eq!(bare_rev("refs/heads/main"), "main");
        assert_eq!(bare_rev("refs/tags/v1"), "v1");
        assert_eq!(bare_rev("refs/pr/1"), "refs/pr/1");
    }
}

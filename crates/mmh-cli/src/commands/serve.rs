//! `serve`: a repository for other machines and for clients of hubs; `token`: who may use it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_core::ports::{Clock as _, SystemClock};
use mmh_repo::Backend;
use mmh_serve::{
    Gate, Hub, HubOptions, Identity, Keys, Limits, Node, Note, Role, Router, Server, Silent,
    Tokens, Upstream, Watch, health, new_token,
};
use serde_json::json;

use super::mount::cache;
use super::serve_nfs::{self, Nfs};
use crate::args::serve::{DoorArg, RoleArg, ServeArgs, TokenArgs};
use crate::config::{Process, files};
use crate::failure::Failure;
use crate::output::{DIM, GOOD, ID, plain, styled, time};
use crate::session::Session;
#[cfg(feature = "otlp")]
use crate::traces;

/// How long a branch of another hub is taken for what it was.
const UPSTREAM_FRESH: std::time::Duration = std::time::Duration::from_secs(60);

impl RoleArg {
    fn role(self) -> Role {
        match self {
            Self::None => Role::Nobody,
            Self::Read => Role::Reader,
            Self::Write => Role::Writer,
            Self::Admin => Role::Admin,
        }
    }
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) fn serve(session: &Session, args: &ServeArgs) -> Result<(), Failure> {
    let anonymous = anonymous(args)?;
    let tokens = tokens(args, anonymous)?;
    let limits = Limits {
        connections: usize::try_from(args.connections).unwrap_or(usize::MAX),
        ..Limits::default()
    };
    let watch: Arc<dyn Watch> = match args.requests {
        true => Arc::new(Lines {
            json: session.output.json,
        }),
        false => Arc::new(Silent),
    };
    let gate = Gate::with_rate(tokens, args.read_only, Arc::clone(&watch), args.rate)?;
    #[cfg(feature = "otlp")]
    let (gate, collector) = {
        let runtime = session.components().runtime;
        let (traces, collector) = traces::open(&Process, &runtime, session.output.json)?;
        (gate.traced(traces), collector)
    };
    let place = session.place()?.value;
    let (node, hub) = (args.has(DoorArg::Node), args.has(DoorArg::Hub));
    let hub = match hub {
        true => Some(hub_router(session, args, &gate, &limits)?),
        false => None,
    };
    let tls = match node {
        true => {
            let node = node_router(session, &place, &gate, &limits)?;
            let both = node.merge(hub.clone().unwrap_or_default());
            Some((identity(args)?, both))
        }
        // A certificate that stock clients know is for them.
        false if args.certificate.is_some() => {
            Some((identity(args)?, hub.clone().unwrap_or_default()))
        }
        false => None,
    };
    let run = async {
        // Before anybody can connect, so that no signal is missed.
        let stop = signals()?;
        let guarded = || (limits.clone(), Arc::clone(&watch));
        let secure = match &tls {
            Some((identity, router)) => {
                let shown = Some((identity, args.classic));
                Some(Server::bind(args.listen, shown, router.clone(), guarded()).await?)
            }
            None => None,
        };
        let clear = match hub {
            Some(router) => Some(Server::bind(args.http, None, router, guarded()).await?),
            None => None,
        };
        let nfs = serve_nfs::bind(session, args, anonymous).await?;
        let shown = tls.as_ref().map(|(identity, _)| identity).filter(|_| node);
        say_where(session, &place, (&secure, shown), (&clear, nfs.as_ref()))?;
        Ok::<_, Failure>(run_all((secure, clear, nfs), stop).await)
    };
    let ended = session.components().runtime.block_on(run);
    #[cfg(feature = "otlp")]
    collector.into_iter().for_each(traces::Collector::close);
    let broken_off = ended?;
    if broken_off > 0 {
        let what = format!("stopped; {broken_off} connections were not done and were broken off");
        return Err(Failure::Other(ErrorKind::Unavailable, what));
    }
    Ok(())
}

/// Runs all servers until told to stop; how many connections had to be broken off.
async fn run_all(
    (secure, clear, nfs): (Option<Server>, Option<Server>, Option<Nfs>),
    stop: impl Future<Output = ()>,
) -> usize {
    let (tell, told) = tokio::sync::watch::channel(false);
    let one = |server: Option<Server>, mut told: tokio::sync::watch::Receiver<bool>| async move {
        let Some(server) = server else {
            return 0;
        };
        // An error means that nobody can tell any longer.
        let stop = async { drop(told.wait_for(|stop| *stop).await) };
        server.run(stop).await.broken_off
    };
    let (first, second) = (one(secure, told.clone()), one(clear, told.clone()));
    let third = async move {
        let Some(nfs) = nfs else {
            return 0;
        };
        let mut told = told;
        nfs.run(async { drop(told.wait_for(|stop| *stop).await) })
            .await
    };
    let telling = async {
        stop.await;
        tell.send_replace(true);
    };
    let ((), first, second, third) = tokio::join!(telling, first, second, third);
    first + second + third
}

fn node_router(
    session: &Session,
    place: &str,
    gate: &Gate,
    limits: &Limits,
) -> Result<Router, Failure> {
    let backend = Backend::parse_existing(place, &session.config.access())?;
    let keys = Keys {
        key: Arc::new(session.keyring.clone()),
        ..Keys::default()
    };
    Ok(Node::new(backend, gate, limits.clone(), keys).router())
}

fn hub_router(
    session: &Session,
    args: &ServeArgs,
    gate: &Gate,
    limits: &Limits,
) -> Result<Router, Failure> {
    let repo = session.open_to_serve().map_err(|failure| {
        let why = failure.message().unwrap_or_default();
        let what = format!("{why} (nodes alone need no key: --doors node)");
        Failure::Other(failure.kind(), what)
    })?;
    let repo = Arc::new(repo);
    let uploads = match (&args.uploads, &session.config.cache) {
        (Some(folder), _) => folder.clone(),
        (None, Some(cache)) => {
            let id = match repo.store() {
                Ok(store) => store.config().repository.to_string(),
                Err(_) => "archive".to_owned(),
            };
            cache.value.join("hub").join(id)
        }
        (None, None) => {
            let what = "name a folder for uploads with --uploads";
            return Err(Failure::invalid(what.to_owned()));
        }
    };
    let options = HubOptions {
        uploads,
        uploads_len: u64::from(args.uploads_gib) << 30,
        part_len: mmh_serve::PART_LEN,
        upstream: upstream(args)?,
        cache: cache(session, &repo, args.cache)?.map(Arc::new),
        clock: session.components().clock,
    };
    let hub = Hub::open(Arc::clone(&repo), gate, limits.clone(), options)?;
    Ok(health(repo, gate).merge(hub.router()))
}

/// The hub that is mirrored, and the token for it.
fn upstream(args: &ServeArgs) -> Result<Option<Upstream>, Failure> {
    let Some(url) = &args.upstream else {
        return Ok(None);
    };
    let token = args.upstream_token.as_ref().map(|file| {
        let text = std::fs::read_to_string(file).map_err(|error| cannot("read", file, &error))?;
        Ok::<_, Failure>(text.trim().to_owned())
    });
    Ok(Some(Upstream {
        url: url.clone(),
        token: token.transpose()?,
        fresh: UPSTREAM_FRESH,
    }))
}

fn say_where(
    session: &Session,
    place: &str,
    (secure, identity): (&Option<Server>, Option<&Identity>),
    (clear, nfs): (&Option<Server>, Option<&Nfs>),
) -> Result<(), Failure> {
    let pin = identity.map(|identity| {
        let pin = identity.pin();
        pin.iter().map(|b| format!("{b:02x}")).collect::<String>()
    });
    let address = secure.as_ref().map(Server::address);
    let url = pin
        .as_ref()
        .zip(address)
        .map(|(pin, at)| format!("mmhs://{pin}@{at}"));
    let post_quantum = identity.map(Identity::is_post_quantum);
    let http = clear.as_ref().map(|server| endpoint(server.address()));
    let value = json!({
        "repository": place, "url": url, "address": address.map(|a| a.to_string()), "pin": pin,
        "post_quantum_certificate": post_quantum, "http": http,
        "nfs": nfs.map(|nfs| serve_nfs::said(nfs.address())),
    });
    session.output.report(&value, |out| {
        writeln!(out, "{} {} at", styled(GOOD, "serving"), plain(place))?;
        if let Some(url) = &url {
            writeln!(out, "{}  for nodes", styled(ID, url))?;
        }
        if let Some(http) = &http {
            writeln!(out, "{}  for clients of model hubs:", styled(ID, http))?;
            writeln!(out, "  export HF_ENDPOINT={http}")?;
        }
        if let Some(nfs) = nfs {
            serve_nfs::say(out, nfs.address())?;
        }
        if post_quantum == Some(false) {
            let honest = "its certificate does not withstand quantum computers";
            writeln!(out, "{}", styled(DIM, honest))?;
        }
        Ok(())
    })
}

/// How clients of hubs call an address: by a name if it is this machine's own.
fn endpoint(address: SocketAddr) -> String {
    match address.ip().is_loopback() && address.is_ipv4() {
        true => format!("http://localhost:{}", address.port()),
        false => format!("http://{address}"),
    }
}

impl ServeArgs {
    pub(super) fn has(&self, door: DoorArg) -> bool {
        self.doors.contains(&door)
    }

    /// Whether only this machine can connect.
    fn is_local(&self) -> bool {
        let node = self.has(DoorArg::Node) || self.certificate.is_some();
        let hub = self.has(DoorArg::Hub);
        (!node || self.listen.ip().is_loopback()) && (!hub || self.http.ip().is_loopback())
    }
}

/// What clients without a token may do, if that makes sense.
fn anonymous(args: &ServeArgs) -> Result<Role, Failure> {
    let anonymous = match args.anonymous {
        Some(role) => role.role(),
        None if args.tokens.is_none() && args.is_local() => Role::Admin,
        None => Role::Nobody,
    };
    if anonymous > Role::Reader && !args.read_only && !args.is_local() {
        let what = "anybody could change everything: without tokens only this machine may write \
                    (listen on 127.0.0.1 or [::1])";
        return Err(Failure::invalid(what.to_owned()));
    }
    if args.has(DoorArg::Hub) && !args.http.ip().is_loopback() && !args.http_anywhere {
        let what = "tokens would pass in the clear: put a proxy with TLS before it, or let clients \
                    use --listen with --certificate; --http-anywhere listens all the same";
        return Err(Failure::invalid(what.to_owned()));
    }
    Ok(anonymous)
}

fn tokens(args: &ServeArgs, anonymous: Role) -> Result<Tokens, Failure> {
    let Some(file) = &args.tokens else {
        if anonymous == Role::Nobody {
            let what = "nobody could read: name a file of tokens with --tokens (`mmh token` makes \
                        one), or say --anonymous read";
            return Err(Failure::invalid(what.to_owned()));
        }
        return Ok(Tokens::none(anonymous));
    };
    let text = std::fs::read_to_string(file).map_err(|error| cannot("read", file, &error))?;
    Ok(Tokens::parse(
        &text,
        &file.display().to_string(),
        anonymous,
    )?)
}

fn identity(args: &ServeArgs) -> Result<Identity, Failure> {
    if let (Some(certificate), Some(key)) = (&args.certificate, &args.certificate_key) {
        return Ok(Identity::load(certificate, key)?);
    }
    let beside = || -> Option<PathBuf> {
        let settings = files(&Process).pop()?;
        Some(settings.parent()?.join("node.pem"))
    };
    let file = args.node_key.clone().or_else(beside);
    let file = file.ok_or_else(|| Failure::invalid("name a file with --node-key".to_owned()))?;
    Ok(Identity::open(&file)?)
}

fn cannot(what: &str, file: &Path, error: &std::io::Error) -> Failure {
    let text = format!("cannot {what} {}: {error}", file.display());
    Failure::Other(ErrorKind::of_io(error), text)
}

impl From<mmh_serve::Error> for Failure {
    fn from(error: mmh_serve::Error) -> Self {
        Self::Other(error.kind(), error.to_string())
    }
}

/// Done at the first Ctrl-C or SIGTERM.
#[cfg(unix)]
pub(crate) fn signals() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let watch = |kind| {
        signal(kind).map_err(|error| {
            let what = format!("cannot listen for signals: {error}");
            Failure::Other(ErrorKind::of_io(&error), what)
        })
    };
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
pub(crate) fn signals() -> Result<impl Future<Output = ()>, Failure> {
    Ok(async {
        // If it cannot be waited for, the process ends as it did before.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Writes what a server does to standard error.
#[derive(Debug)]
struct Lines {
    json: bool,
}

impl Watch for Lines {
    fn note(&self, note: &Note) {
        let line = line(note, SystemClock.now_ms(), self.json);
        // Nobody is left to hear that standard error is closed.
        anstream::stderr().write_all(line.as_bytes()).ok();
    }
}

fn line(note: &Note, now_ms: u64, json: bool) -> String {
    let at = time(now_ms);
    match note {
        Note::Answered {
            peer,
            token,
            method,
            path,
            status,
            took,
            trace,
        } => {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            if json {
                let mut value = json!({ "request": {
                    "time_ms": now_ms, "peer": peer.to_string(), "token": token, "method": method,
                    "path": path, "status": status, "micros": micros,
                } });
                if !trace.is_empty() {
                    value["request"]["trace"] = trace.as_str().into();
                }
                return format!("{value}\n");
            }
            let who = if token.is_empty() { "-" } else { token };
            let (who, path) = (plain(who), plain(path));
            let mark = if trace.is_empty() { "" } else { " trace=" };
            format!("{at} {peer} {who} {method} {path} {status} {micros}us{mark}{trace}\n")
        }
        Note::Failed { peer, reason } if json => {
            let value = json!({ "failed": {
                "time_ms": now_ms, "peer": peer.to_string(), "reason": reason,
            } });
            format!("{value}\n")
        }
        Note::Failed { peer, reason } => format!("{at} {peer} failed: {}\n", plain(reason)),
        _ => String::new(),
    }
}

/// Makes a token, shows it once, and adds its digest to the file.
pub(crate) fn token(session: &Session, args: &TokenArgs) -> Result<(), Failure> {
    let (token, line) = new_token(args.role.role(), &args.scope, &args.name)?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&args.file).and_then(|mut file| {
        file.write_all(line.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| cannot("write", &args.file, &error))?;
    let value = json!({
        "token": token, "role": args.role.role().as_str(), "name": args.name,
        "scope": args.scope,
        "file": args.file.display().to_string(),
    });
    session.output.report(&value, |out| {
        writeln!(out, "{token}")?;
        let how = "it is shown once; clients give it as HF_TOKEN, nodes as MMH_NODE_TOKEN";
        writeln!(out, "{}", styled(DIM, how))
    })
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn requests_are_lines_for_people_and_for_programs() {
        let note = Note::Failed {
            peer: "127.0.0.1:5".parse().unwrap(),
            reason: "TLS:\nno".to_owned(),
        };
        let text = line(&note, 0, false);
        assert_eq!(
            text,
            "1970-01-01 00:00:00 UTC 127.0.0.1:5 failed: TLS:\\nno\n"
        );
        let parsed: serde_json::Value = serde_json::from_str(&line(&note, 7, true)).unwrap();
        assert_eq!(parsed["failed"]["time_ms"], 7);
        let answered = |trace: &str| Note::Answered {
            peer: "127.0.0.1:5".parse().unwrap(),
            token: String::new(),
            method: "GET".to_owned(),
            path: "/a".to_owned(),
            status: 200,
            took: std::time::Duration::from_micros(9),
            trace: trace.to_owned(),
        };
        let text = |trace: &str| line(&answered(trace), 0, false);
        assert!(text("").ends_with(" - GET /a 200 9us\n"), "{}", text(""));
        assert!(text("0af7").ends_with(" 200 9us trace=0af7\n"));
        let request = |trace: &str| -> serde_json::Value {
            serde_json::from_str(&line(&answered(trace), 0, true)).unwrap()
        };
        assert_eq!(request("0af7")["request"]["trace"], "0af7");
        assert!(request("")["request"].get("trace").is_none());
    }
}

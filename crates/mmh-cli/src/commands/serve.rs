//! `serve`: a repository for other machines; `token`: who may use it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_core::ports::{Clock as _, SystemClock};
use mmh_repo::Backend;
use mmh_serve::{
    Identity, Keys, Limits, Node, Note, Role, Server, Silent, Stopped, Tokens, Watch, new_token,
};
use serde_json::json;

use crate::args::serve::{RoleArg, ServeArgs, TokenArgs};
use crate::config::{Process, files};
use crate::failure::Failure;
use crate::output::{DIM, GOOD, ID, plain, styled, time};
use crate::session::Session;

impl RoleArg {
    fn role(self) -> Role {
        match self {
            Self::None => Role::Nobody,
            Self::Read => Role::Reader,
            Self::Write => Role::Writer,
        }
    }
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) fn serve(session: &Session, args: &ServeArgs) -> Result<(), Failure> {
    let tokens = tokens(args)?;
    let place = session.place()?.value;
    let backend = Backend::parse_existing(&place, &session.config.access())?;
    let identity = identity(args)?;
    let keys = Keys {
        key: Arc::new(session.keyring.clone()),
        ..Keys::default()
    };
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
    let guarded = (limits.clone(), Arc::clone(&watch));
    let node = Node::new(backend, (tokens, args.read_only), guarded, keys);
    let run = async {
        // Before anybody can connect, so that no signal is missed.
        let stop = signals()?;
        let listening = (&identity, args.classic);
        let router = node.router();
        let server = Server::bind(args.listen, listening, router, (limits, watch)).await?;
        say_where(session, &place, &server, &identity)?;
        Ok::<_, Failure>(server.run(stop).await)
    };
    let Stopped { broken_off } = session.components().runtime.block_on(run)?;
    if broken_off > 0 {
        let what = format!("stopped; {broken_off} connections were not done and were broken off");
        return Err(Failure::Other(ErrorKind::Unavailable, what));
    }
    Ok(())
}

fn say_where(
    session: &Session,
    place: &str,
    server: &Server,
    identity: &Identity,
) -> Result<(), Failure> {
    let pin: String = identity.pin().iter().map(|b| format!("{b:02x}")).collect();
    let address = server.address();
    let url = format!("mmhs://{pin}@{address}");
    let post_quantum = identity.is_post_quantum();
    let value = json!({
        "repository": place, "url": url, "address": address.to_string(), "pin": pin,
        "post_quantum_certificate": post_quantum,
    });
    session.output.report(&value, |out| {
        writeln!(out, "{} {} at", styled(GOOD, "serving"), plain(place))?;
        writeln!(out, "{}", styled(ID, &url))?;
        if !post_quantum {
            let honest = "its certificate does not withstand quantum computers";
            writeln!(out, "{}", styled(DIM, honest))?;
        }
        Ok(())
    })
}

/// Who may do what, if that makes sense.
fn tokens(args: &ServeArgs) -> Result<Tokens, Failure> {
    let anonymous = args.anonymous.role();
    if anonymous == Role::Writer && !args.read_only && !args.listen.ip().is_loopback() {
        let what = "anybody could change everything: without tokens only this machine may write \
                    (listen on 127.0.0.1 or [::1])";
        return Err(Failure::invalid(what.to_owned()));
    }
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
        } => {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            if json {
                let value = json!({ "request": {
                    "time_ms": now_ms, "peer": peer.to_string(), "token": token, "method": method,
                    "path": path, "status": status, "micros": micros,
                } });
                return format!("{value}\n");
            }
            let who = if token.is_empty() { "-" } else { token };
            let (who, path) = (plain(who), plain(path));
            format!("{at} {peer} {who} {method} {path} {status} {micros}us\n")
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
    let (token, line) = new_token(args.role.role(), &args.name)?;
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
        "file": args.file.display().to_string(),
    });
    session.output.report(&value, |out| {
        writeln!(out, "{token}")?;
        let how = "it is shown once; clients give it as MMH_NODE_TOKEN";
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
    }
}

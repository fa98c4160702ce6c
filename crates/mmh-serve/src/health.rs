//! Whether a server lives, whether it can work, and what it counted: `/healthz`, `/readyz`,
//! `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use mmh_core::ErrorKind;
use mmh_repo::Repository;

use crate::gate::Gate;
use crate::metrics::{head, line};
use crate::reply::{Refusal, Reply};
use crate::token::{Caller, Role};

/// What is asked after.
#[derive(Debug, Clone)]
struct Health {
    gate: Gate,
    repo: Arc<Repository>,
}

/// The routes of a server over that repository.
pub fn health(repo: Arc<Repository>, gate: &Gate) -> Router {
    let health = Health {
        gate: gate.clone(),
        repo,
    };
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    gate.before("health", router)
}

/// Whether refs can be read.
async fn ready(State(health): State<Health>) -> Reply {
    let read = tokio::task::spawn_blocking(move || health.repo.refs().map(drop)).await;
    match read {
        Ok(Ok(())) => Ok("ready\n".into_response()),
        // Whoever asks needs no token, and so is told no more.
        _ => Err(Refusal::with_status(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unavailable,
            "the repository cannot be read",
        )),
    }
}

async fn metrics(State(health): State<Health>, Extension(caller): Extension<Caller>) -> Reply {
    let gate = &health.gate;
    gate.check(&caller, caller.everywhere(), Role::Reader)?;
    let mut text = gate.metrics().text();
    text.push_str(&gate.traces().text());
    let facts = tokio::task::spawn_blocking(move || health.repo.facts()).await;
    if let Ok(Ok(facts)) = facts {
        for (name, help, value) in [
            ("mmh_packs", "Packs of the repository.", facts.packs),
            ("mmh_pack_bytes", "Their bytes.", facts.pack_bytes),
            ("mmh_chunks", "Chunks in the index.", facts.chunks),
            ("mmh_operations", "Operations in the log.", facts.operations),
        ] {
            head(&mut text, name, "gauge", help);
            line(&mut text, name, "", &value);
        }
    }
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let response: Response = (kind, text).into_response();
    Ok(response)
}

//! Doors of a repository over HTTP. One is for other nodes: its objects, slices of packs that prove
//! themselves, and reconciliation; PROTOCOL.md in `docs` has every byte. One is for the clients of
//! model hubs; HUB.md in `docs` has every endpoint.
//!
//! A [`Server`] listens, shakes hands and keeps to its [`Limits`]; what it answers is a router that
//! each door adds its paths to. Nothing here prints, reads the environment or ends the process.

mod body;
mod certificate;
mod error;
mod gate;
mod health;
mod hub;
mod identity;
mod limits;
mod metrics;
mod node;
mod outgoing;
mod rate;
mod reply;
mod server;
mod stall;
mod tls;
mod token;
mod trace;
mod watch;

pub use error::{Error, Result};
pub use gate::Gate;
pub use health::health;
pub use hub::{Hub, HubOptions, OpenNames, PART_LEN, Upstream};
pub use identity::{Identity, PIN_LEN};
pub use limits::Limits;
pub use node::{Keys, Node};
pub use outgoing::outgoing;
pub use server::{Server, Stopped};
pub use token::{Role, TOKEN_START, Tokens, new_token};
pub use trace::{SpanCounts, Traces};
pub use watch::{Note, Silent, Watch};

/// What a server answers with.
pub use axum::Router;

//! Who hears what a server did; the library itself is silent.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

/// A request that was answered, or a connection that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A request was answered; its body may still be on its way.
    Answered {
        /// Who asked.
        peer: SocketAddr,
        /// The name of the token, empty without one.
        token: String,
        /// GET, PUT and so on.
        method: String,
        /// The path, without the query.
        path: String,
        /// The status of the answer.
        status: u16,
        /// Time from the request's head to the answer's.
        took: Duration,
        /// The trace it belongs to, in hex; empty if it belongs to none.
        trace: String,
    },
    /// A connection failed before or between requests.
    Failed {
        /// Who had connected.
        peer: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// Hears what a server does. Called on its threads: it must not wait.
pub trait Watch: Send + Sync + Debug {
    /// Something happened.
    fn note(&self, note: &Note);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watch for Silent {
    fn note(&self, _: &Note) {}
}

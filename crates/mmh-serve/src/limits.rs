//! What one client may cost.

use std::time::Duration;

/// Bounds of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time; more wait until one ends.
    pub connections: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the head of a request, and until the next one comes.
    pub head: Duration,
    /// Bytes of the head of a request, at least 8 KiB.
    pub head_len: usize,
    /// Header fields of a request.
    pub head_fields: usize,
    /// Time between two pieces of a body, either way.
    pub stall: Duration,
    /// Bytes a second that a body brings at least, after the time of one stall.
    pub body_rate: u64,
    /// Bytes of bodies that are held in memory at the same time.
    pub bodies_len: u64,
    /// Bytes of memory for outlines of packs, so that slices need not read them again.
    pub outlines_len: u64,
    /// Time for what is under way when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            head_len: 32 << 10,
            head_fields: 64,
            stall: Duration::from_secs(30),
            body_rate: 16 << 10,
            bodies_len: 256 << 20,
            outlines_len: 64 << 20,
            grace: Duration::from_secs(20),
        }
    }
}

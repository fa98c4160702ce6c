//! Nodes: repositories that another process serves over HTTPS. What both sides must agree on, the
//! client's side, and what the server's asks of the store. PROTOCOL.md has every byte.

mod arrival;
#[cfg(feature = "node")]
pub(crate) mod client;
mod outline;
mod set;
pub mod sketch;
pub mod slice;
pub mod wire;

pub use arrival::Arrival;
pub use outline::{Outlined, outline};

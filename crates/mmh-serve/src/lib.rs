//! Doors of a repository over HTTPS. The first is the one for other nodes: its objects, slices of
//! packs that prove themselves, and reconciliation; PROTOCOL.md in `docs` has every byte.
//!
//! A [`Server`] listens, shakes hands and keeps to its [`Limits`]; what it answers is a router that
//! each door adds its paths to. Nothing here prints, reads the environment or ends the process.

mod certificate;
mod error;
mod identity;
mod limits;
mod node;
mod reply;
mod server;
mod stall;
mod tls;
mod token;
mod watch;

pub use error::{Error, Result};
pub use identity::{Identity, PIN_LEN};
pub use limits::Limits;
pub use node::{Keys, Node};
pub use server::{Server, Stopped};
pub use token::{Role, TOKEN_START, Tokens, new_token};
pub use watch::{Note, Silent, Watch};

//! The server's side of the handshake: TLS 1.3 (RFC 8446), X25519MLKEM768 before all else.

use std::sync::Arc;

use mmh_store::node::wire::ALPN;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::ResolvesServerCert;
use rustls::version::TLS13;

use crate::error::{Error, Result};
use crate::identity::Identity;

/// Shows the one identity to everybody.
#[derive(Debug)]
struct One(Identity);

impl ResolvesServerCert for One {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0.certified))
    }
}

/// How the server shakes hands; `classic` lets clients in that know no ML-KEM.
///
/// # Errors
/// [`Error::Tls`].
pub(crate) fn server(identity: &Identity, classic: bool) -> Result<Arc<ServerConfig>> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768];
    if classic {
        provider
            .kx_groups
            .extend([kx_group::X25519, kx_group::SECP256R1]);
    }
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::tls)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(One(identity.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

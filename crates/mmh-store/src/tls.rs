//! TLS for everything that leaves this machine: one provider of cryptography, `ring`, and the
//! root certificates of the system.

/// Makes `ring` the cryptography of every TLS connection of this process, unless the program has
/// chosen one already.
pub(crate) fn provide() {
    let provider = rustls::crypto::ring::default_provider();
    let _chosen_before = provider.install_default().is_err();
}

/// How clients of nodes shake hands, and know whom they talk to.
#[cfg(feature = "node")]
pub(crate) use node::client as node;

#[cfg(feature = "node")]
#[path = "tls/node.rs"]
mod node;

/// How clients of logs check whom they talk to.
#[cfg(any(feature = "postgres", feature = "nats"))]
pub(crate) fn client() -> std::io::Result<rustls::ClientConfig> {
    provide();
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let what = "the system has no root certificates (package ca-certificates)";
        return Err(std::io::Error::other(what));
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Ok(config.with_no_client_auth())
}

#[cfg(all(test, any(feature = "postgres", feature = "nats")))]
mod tests {
    use super::*;

    /// Twice in one process, as two backends do.
    #[test]
    fn a_client_is_made_from_the_systems_certificates_or_says_that_there_are_none() {
        for _ in 0..2 {
            match client() {
                Ok(config) => assert!(!config.alpn_protocols.contains(&b"h2".to_vec())),
                Err(error) => assert!(error.to_string().contains("ca-certificates"), "{error}"),
            }
        }
    }
}

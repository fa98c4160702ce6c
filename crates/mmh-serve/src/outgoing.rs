//! Requests to other servers: hubs that are mirrored, collectors of traces.

use std::sync::Arc;
use std::time::Duration;

/// TLS with the roots of the system; without any, no certificate is good.
pub(crate) fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A client whose requests are over after that time, answered or not, and that goes nowhere else
/// than it is told.
///
/// # Errors
/// Says why TLS cannot be had.
pub fn outgoing(time: Duration) -> Result<reqwest::Client, String> {
    let tls = tls().map_err(|error| error.to_string())?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("mmh/", env!("CARGO_PKG_VERSION")))
        .timeout(time)
        .build();
    client.map_err(|error| error.to_string())
}

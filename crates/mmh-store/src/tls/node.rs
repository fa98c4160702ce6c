//! TLS to nodes: version 1.3 only, a key exchange with ML-KEM unless it is told to do without, and
//! a certificate that is pinned or that the system's roots vouch for.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest as _, Sha256};

/// The handshake with a node that is known by its certificate's SHA-256, or by the system's roots.
///
/// # Errors
/// Where there is no pin, and the system has no roots.
pub(crate) fn client(pin: Option<&[u8; 32]>, classic: bool) -> Result<ClientConfig, Error> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768];
    if classic {
        provider.kx_groups.push(kx_group::X25519);
    }
    let provider = Arc::new(provider);
    let verifier: Arc<dyn ServerCertVerifier> = match pin {
        Some(pin) => Arc::new(Pinned {
            pin: *pin,
            provider: Arc::clone(&provider),
        }),
        None => by_roots(Arc::clone(&provider))?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(config.with_no_client_auth())
}

fn by_roots(provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|error| Error::General(format!("the system's root certificates: {error}")))
}

/// Accepts one certificate, whatever names and times stand in it. That its owner is there, the
/// signature over the handshake proves, as ever.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Sha256::digest(end_entity)[..] == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    /// Only TLS 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn only_the_hybrid_key_exchange_is_offered_unless_told_otherwise() {
        let groups = |classic| -> Vec<NamedGroup> {
            let config = client(Some(&[0; 32]), classic).unwrap();
            let groups = config.crypto_provider().kx_groups.iter();
            groups.map(|group| group.name()).collect()
        };
        assert_eq!(groups(false), [NamedGroup::X25519MLKEM768]);
        assert_eq!(
            groups(true),
            [NamedGroup::X25519MLKEM768, NamedGroup::X25519]
        );
    }

    #[test]
    fn only_the_pinned_certificate_is_taken() {
        let provider = Arc::new(default_provider());
        let pin = Sha256::digest(b"certificate").into();
        let pinned = Pinned { pin, provider };
        let name = ServerName::try_from("h").unwrap();
        let check = |cert: &[u8]| {
            let cert = CertificateDer::from(cert.to_vec());
            pinned.verify_server_cert(
                &cert,
                &[],
                &name,
                &[],
                UnixTime::since_unix_epoch(std::time::Duration::ZERO),
            )
        };
        check(b"certificate").unwrap();
        check(b"certificates").unwrap_err();
        let schemes = pinned.supported_verify_schemes();
        assert!(schemes.contains(&SignatureScheme::ML_DSA_65), "{schemes:?}");
    }
}

//! Who a node is: a key and the certificate over it. Its own is an ML-DSA-65 key in a file of its
//! own, known to others by the SHA-256 of its certificate; any other may be had from files too.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::certificate::{Parts, self_signed};
use crate::error::{Error, Result, random};

/// Bytes of a pin.
pub const PIN_LEN: usize = 32;
/// Longest file that is read: a chain of a few certificates with post-quantum signatures.
const FILE_LEN_MAX: u64 = 1 << 20;
/// The name that stands in certificates of our own.
const NAME: &str = "mmh node";

/// A key and its certificates.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
}

impl Identity {
    /// The identity in a file, which is made if there is none, for its owner's eyes only.
    ///
    /// # Errors
    /// Those of the file; Invalid if it holds no identity.
    pub fn open(path: &Path) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(_) => Self::load(path, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = make()?;
                write_new(path, text.as_bytes()).map_err(Error::io(path))?;
                Self::load(path, path)
            }
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    /// A key and its certificate, the leaf first, from files in PEM (RFC 7468), or one of both.
    ///
    /// # Errors
    /// Those of the files; Invalid if they do not fit.
    pub fn load(certificates: &Path, key: &Path) -> Result<Self> {
        let bad = |place: &Path, reason: String| Error::BadFile {
            place: place.display().to_string(),
            reason,
        };
        let chain = read(certificates)?;
        let chain: std::result::Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&chain).collect();
        let chain = chain.map_err(|error| bad(certificates, error.to_string()))?;
        if chain.is_empty() {
            return Err(bad(certificates, "it holds no certificate".to_owned()));
        }
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?);
        let secret = secret.map_err(|error| bad(key, error.to_string()))?;
        let secret = any_supported_type(&secret).map_err(|error| bad(key, error.to_string()))?;
        let certified = CertifiedKey::new(chain, secret);
        let fits = certified.keys_match();
        fits.map_err(|_| bad(key, "it is not the key of the certificate".to_owned()))?;
        Ok(Self {
            certified: Arc::new(certified),
        })
    }

    /// A new identity that lies in no file.
    ///
    /// # Errors
    /// Unavailable without random bytes.
    pub fn ephemeral() -> Result<Self> {
        let text = make()?;
        let chain = CertificateDer::from_pem_slice(text.as_bytes()).map_err(Error::tls)?;
        let secret = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(Error::tls)?;
        let secret = any_supported_type(&secret).map_err(Error::tls)?;
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(vec![chain], secret)),
        })
    }

    /// What a client pins: SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256`
    /// shows it.
    #[must_use]
    pub fn pin(&self) -> [u8; PIN_LEN] {
        let leaf = self.certified.cert.first();
        leaf.map_or([0; PIN_LEN], |leaf| Sha256::digest(leaf).into())
    }

    /// Whether the key withstands quantum computers, as far as is known: ML-DSA (FIPS 204).
    #[must_use]
    pub fn is_post_quantum(&self) -> bool {
        let schemes = [
            SignatureScheme::ML_DSA_44,
            SignatureScheme::ML_DSA_65,
            SignatureScheme::ML_DSA_87,
        ];
        let key = &self.certified.key;
        let classic = [
            SignatureAlgorithm::RSA,
            SignatureAlgorithm::ECDSA,
            SignatureAlgorithm::ED25519,
        ];
        !classic.contains(&key.algorithm()) && key.choose_scheme(&schemes).is_some()
    }
}

/// A new key and its certificate, in PEM.
fn make() -> Result<String> {
    use aws_lc_rs::signature::{ML_DSA_65_SIGNING, PqdsaKeyPair};
    let pair = PqdsaKeyPair::generate(&ML_DSA_65_SIGNING).map_err(Error::tls)?;
    let secret = pair.to_pkcs8v1().map_err(Error::tls)?;
    let public = pair.public_key().as_der().map_err(Error::tls)?;
    let parts = Parts {
        public_key: public.as_ref(),
        serial: random()?,
        name: NAME,
    };
    let sign = |bytes: &[u8]| {
        let mut signature = vec![0; pair.algorithm().signature_len()];
        let len = pair.sign(bytes, &mut signature).map_err(Error::tls)?;
        signature.truncate(len);
        Ok(signature)
    };
    let certificate = self_signed(&parts, sign)?;
    let mut text = String::new();
    pem(&mut text, "PRIVATE KEY", secret.as_ref());
    pem(&mut text, "CERTIFICATE", &certificate);
    Ok(text)
}

/// Adds a block of PEM, in lines of 64 characters.
fn pem(text: &mut String, label: &str, bytes: &[u8]) {
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let encoded = BASE64_STANDARD.encode(bytes);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let meta = fs::metadata(path).map_err(Error::io(path))?;
    if meta.len() > FILE_LEN_MAX {
        return Err(Error::BadFile {
            place: path.display().to_string(),
            reason: format!("{} bytes, more than {FILE_LEN_MAX}", meta.len()),
        });
    }
    fs::read(path).map_err(Error::io(path))
}

/// Writes a file that was not there, which only its owner may read.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;

    #[test]
    fn an_identity_is_made_once_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/identity.pem");
        let made = Identity::open(&path).unwrap();
        assert!(made.is_post_quantum());
        assert_eq!(Identity::open(&path).unwrap().pin(), made.pin());
        assert_ne!(Identity::ephemeral().unwrap().pin(), made.pin());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "for its owner only");
        }
    }

    #[test]
    fn files_that_hold_no_identity_are_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        Identity::open(&one).unwrap();
        Identity::open(&other).unwrap();
        let error = Identity::load(&one, &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "another's key: {error}");
        let text = fs::read_to_string(&one).unwrap();
        let (key, certificate) = text.split_at(text.find("-----BEGIN CERT").unwrap());
        for half in ["", key, certificate, "-----BEGIN CERTIFICATE-----\n!\n"] {
            fs::write(&other, half).unwrap();
            let error = Identity::open(&other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{half}");
        }
        fs::write(&other, vec![b'x'; 1 << 21]).unwrap();
        assert_eq!(
            Identity::open(&other).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        let missing = Identity::load(&dir.path().join("none"), &one).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    /// Cut at any place, the file is refused and not replaced.
    #[test]
    fn a_cut_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        Identity::open(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in (0..whole.len() - 1).step_by(97) {
            fs::write(&path, &whole[..len]).unwrap();
            Identity::open(&path).unwrap_err();
            assert_eq!(fs::read(&path).unwrap().len(), len);
        }
    }
}

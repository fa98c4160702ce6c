//! Signed models: bundles of OpenSSF Model Signing, which the stock tool verifies.
//!
//! A bundle is a Sigstore bundle (JSON, v0.3) with a DSSE envelope around an in-toto statement that
//! lists a model's files with their SHA-256. The first signature is ECDSA over P-256, the only
//! kind that the stock tool takes from a key; a second one may be of our own algorithms, and so
//! withstand quantum computers. The stock tool looks at the first alone.
//!
//! Sources: <https://github.com/ossf/model-signing-spec>, in-toto Statement v1, DSSE 1.0.2.

pub mod p256;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mmh_core::name::check_path;
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sign::{PublicKey, Signer, pae};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// Context of signatures by our own algorithms.
const CONTEXT: &[u8] = b"mmh-rs bundle v1";
/// Longest bundle that is parsed: some hundred thousand files.
const BUNDLE_LEN_MAX: usize = 64 << 20;
/// Most signatures that are looked at.
const SIGNATURES_MAX: usize = 16;
const WHAT: &str = "model signing bundle";

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// Its path within the model, with `/`.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

/// What is signed: a model's name and all of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    model: String,
    resources: Vec<Resource>,
    ignored: Vec<String>,
}

impl Statement {
    /// Puts the files in the order of their names.
    ///
    /// # Errors
    /// Invalid, if there is no file, a name is no relative path, or two are alike.
    pub fn new(model: &str, mut resources: Vec<Resource>) -> Result<Self> {
        resources.sort_unstable();
        let are_alike = |pair: &[Resource]| matches!(pair, [a, b] if a.name == b.name);
        if resources.is_empty() || resources.windows(2).any(are_alike) {
            return Err(malformed("it lists no file, or one twice"));
        }
        for resource in &resources {
            check_path(&resource.name).map_err(|error| malformed(&error.to_string()))?;
        }
        Ok(Self {
            model: model.to_owned(),
            resources,
            ignored: Vec::new(),
        })
    }

    /// The model's name, as its signer put it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Says that files at or below these paths are not signed, whether they are there or not.
    #[must_use]
    pub fn ignoring(self, paths: &[&str]) -> Self {
        let ignored = paths.iter().map(|path| (*path).to_owned()).collect();
        Self { ignored, ..self }
    }

    /// Whether a file is one that the signer left out on purpose.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        self.ignored
            .iter()
            .any(|folder| is_at_or_below(path, folder))
    }

    /// The files, by name.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// SHA-256 of all files' digests, which names the model as a whole.
    fn digest(&self) -> String {
        let mut context = Context::new(&SHA256);
        let digests = self.resources.iter().map(|resource| &resource.sha256);
        digests.for_each(|digest| context.update(digest));
        hex(context.finish().as_ref())
    }

    fn to_json(&self) -> Vec<u8> {
        let resource = |resource: &Resource| json::Resource {
            name: resource.name.clone(),
            algorithm: "sha256".to_owned(),
            digest: hex(&resource.sha256),
        };
        let statement = json::Statement {
            r#type: STATEMENT_TYPE.to_owned(),
            subject: vec![json::Subject {
                name: self.model.clone(),
                digest: json::Digests {
                    sha256: self.digest(),
                },
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: json::Predicate {
                serialization: json::Serialization {
                    method: "files".to_owned(),
                    hash_type: "sha256".to_owned(),
                    allow_symlinks: false,
                    ignore_paths: self.ignored.clone(),
                },
                resources: self.resources.iter().map(resource).collect(),
            },
        };
        serde_json::to_vec(&statement).expect("strings, lists and maps are JSON")
    }

    fn from_json(payload: &[u8]) -> Result<Self> {
        let statement: json::Statement =
            serde_json::from_slice(payload).map_err(|error| malformed(&error.to_string()))?;
        let json::Predicate {
            serialization,
            resources,
        } = statement.predicate;
        if statement.r#type != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
            return Err(unsupported("statement", &statement.predicate_type));
        }
        if serialization.method != "files" {
            return Err(unsupported("serialization", &serialization.method));
        }
        let [subject] = statement.subject.as_slice() else {
            return Err(malformed("it has not one subject"));
        };
        let resources: Result<Vec<Resource>> = resources.into_iter().map(resource_of).collect();
        let parsed = Self {
            ignored: serialization.ignore_paths,
            ..Self::new(&subject.name, resources?)?
        };
        if parsed.digest() != subject.digest.sha256 {
            return Err(malformed("its digest is not that of its files"));
        }
        Ok(parsed)
    }
}

/// Whether a path is `folder` or lies in it.
#[must_use]
pub fn is_at_or_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Signs `statement` with `key`, and with `second` besides if there is one.
///
/// # Errors
/// Whatever the signers have to say.
pub fn sign(
    statement: &Statement,
    key: &dyn p256::Signer,
    second: Option<&dyn Signer>,
) -> Result<String> {
    let payload = statement.to_json();
    let message = pae(PAYLOAD_TYPE, &payload);
    let mut signatures = vec![json::Signature {
        sig: STANDARD.encode(key.sign(&message)?),
        keyid: String::new(),
    }];
    if let Some(signer) = second {
        signatures.push(json::Signature {
            sig: STANDARD.encode(signer.sign(CONTEXT, &message)?),
            keyid: signer.public_key().id().to_string(),
        });
    }
    let bundle = json::Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: json::Material {
            public_key: json::Hint {
                hint: Some(key_hint(&key.public_key())),
            },
            tlog_entries: Vec::new(),
        },
        dsse_envelope: json::Envelope {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures,
        },
    };
    Ok(serde_json::to_string(&bundle).expect("strings, lists and maps are JSON"))
}

/// A bundle whose signatures nobody has checked yet.
#[derive(Debug, Clone)]
pub struct Bundle {
    hint: Option<String>,
    message: Vec<u8>,
    payload: Vec<u8>,
    signatures: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    /// Parses a bundle, but not what it says: that is for verifying.
    ///
    /// # Errors
    /// Invalid, if it is malformed; Unsupported, for another version or payload.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > BUNDLE_LEN_MAX {
            return Err(Error::TooLarge {
                what: "length of a bundle",
                value: text.len() as u64,
                limit: BUNDLE_LEN_MAX as u64,
            });
        }
        let bundle: json::Bundle =
            serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
        let envelope = bundle.dsse_envelope;
        if bundle.media_type != MEDIA_TYPE {
            return Err(unsupported("bundle", &bundle.media_type));
        }
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(unsupported("payload", &envelope.payload_type));
        }
        if envelope.signatures.len() > SIGNATURES_MAX {
            return Err(malformed("it has too many signatures"));
        }
        let payload = decode(&envelope.payload)?;
        let signatures: Result<_> = envelope
            .signatures
            .into_iter()
            .map(|signature| Ok((signature.keyid, decode(&signature.sig)?)))
            .collect();
        Ok(Self {
            hint: bundle.verification_material.public_key.hint,
            message: pae(PAYLOAD_TYPE, &payload),
            payload,
            signatures: signatures?,
        })
    }

    /// What the bundle says, if its first signature is by `key`.
    ///
    /// # Errors
    /// Denied, if it names another key; Corrupt, if the signature does not verify; Invalid or
    /// Unsupported, if what it says makes no sense.
    pub fn verify_p256(&self, key: &p256::VerifyingKey) -> Result<Statement> {
        if self
            .hint
            .as_ref()
            .is_some_and(|hint| *hint != key_hint(key))
        {
            return Err(Error::NoMatch);
        }
        let Some((_, signature)) = self.signatures.first() else {
            return Err(malformed("it has no signature"));
        };
        key.verify(&self.message, signature)?;
        Statement::from_json(&self.payload)
    }

    /// What the bundle says, if `key` signed it.
    ///
    /// # Errors
    /// Denied, if it has no signature by this key; else as [`Self::verify_p256`].
    pub fn verify(&self, key: &PublicKey) -> Result<Statement> {
        let id = key.id().to_string();
        let found = self.signatures.iter().find(|(keyid, _)| *keyid == id);
        let Some((_, signature)) = found else {
            return Err(Error::NoMatch);
        };
        key.verify(CONTEXT, &self.message, signature)?;
        Statement::from_json(&self.payload)
    }
}

/// How bundles name a P-256 key: SHA-256 of its PEM.
pub(crate) fn key_hint(key: &p256::VerifyingKey) -> String {
    hex(digest(&SHA256, key.to_pem().as_bytes()).as_ref())
}

fn resource_of(resource: json::Resource) -> Result<Resource> {
    if resource.algorithm != "sha256" {
        return Err(unsupported("digest", &resource.algorithm));
    }
    let sha256 = unhex(&resource.digest).ok_or_else(|| malformed("a digest is not hexadecimal"))?;
    Ok(Resource {
        name: resource.name,
        sha256,
    })
}

fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|_| malformed("a field is not Base64"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("strings take everything");
    }
    text
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, mmh_core::error::shorten(reason))
}

fn unsupported(what: &'static str, name: &str) -> Error {
    Error::Unsupported {
        what,
        name: mmh_core::error::shorten(name),
    }
}

/// Verifies hostile text, which must fail.
///
/// # Panics
/// If it verifies: that is its purpose.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_bundle(text: &str) {
    if let Ok(bundle) = Bundle::parse(text) {
        let key =
            crate::sign::composite::SigningKey::from_seed(crate::Secret::from_bytes(&[9; 64]));
        assert!(bundle.verify(&key.public_key()).is_err());
    }
    // What it says is parsed too, as if it had been signed.
    if let Ok(statement) = Statement::from_json(text.as_bytes()) {
        let again = Statement::from_json(&statement.to_json());
        assert_eq!(again.expect("our own JSON"), statement);
    }
}

/// The JSON of bundle and statement. Fields that are not here are passed over, as the
/// specifications ask.
mod json {
    use super::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Bundle {
        pub(super) media_type: String,
        pub(super) verification_material: Material,
        pub(super) dsse_envelope: Envelope,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Material {
        pub(super) public_key: Hint,
        #[serde(default)]
        pub(super) tlog_entries: Vec<serde_json::Value>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Hint {
        pub(super) hint: Option<String>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Envelope {
        pub(super) payload: String,
        pub(super) payload_type: String,
        pub(super) signatures: Vec<Signature>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Signature {
        pub(super) sig: String,
        #[serde(default)]
        pub(super) keyid: String,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Statement {
        #[serde(rename = "_type")]
        pub(super) r#type: String,
        pub(super) subject: Vec<Subject>,
        pub(super) predicate_type: String,
        pub(super) predicate: Predicate,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Subject {
        pub(super) name: String,
        pub(super) digest: Digests,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Digests {
        pub(super) sha256: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Predicate {
        pub(super) serialization: Serialization,
        pub(super) resources: Vec<Resource>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Serialization {
        pub(super) method: String,
        pub(super) hash_type: String,
        #[serde(default)]
        pub(super) allow_symlinks: bool,
        #[serde(default)]
        pub(super) ignore_paths: Vec<String>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Resource {
        pub(super) name: String,
        pub(super) algorithm: String,
        pub(super) digest: String,
    }
}

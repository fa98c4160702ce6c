//! Models signed for stock tools: bundles of OpenSSF Model Signing over what a name holds.
//!
//! A bundle lists every file with its SHA-256, so that it is checked against a folder that was
//! exported long ago, by people who have never heard of this repository.

use std::collections::BTreeMap;

use mmh_core::name::Target;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, FileId};
use mmh_crypto::bundle::{self, Bundle, Resource, Statement, is_at_or_below, p256};
use mmh_crypto::sign::{AnyPublicKey, Signer};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::list::Listed;
use crate::repository::Repository;

/// What the stock tool passes over when it verifies, unless told otherwise.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// What lies below a folder, by path.
#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<String, FileId>,
    links: Vec<String>,
}

/// How a name differs from what a bundle says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    /// The model's name, as its signer put it.
    pub model: String,
    /// Files that are as they were signed.
    pub files: u64,
    /// Files with other content.
    pub changed: Vec<String>,
    /// Files that were signed and are not there.
    pub missing: Vec<String>,
    /// Files and links that are there and were not signed.
    pub unsigned: Vec<String>,
}

impl BundleReport {
    /// Whether all is as it was signed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.changed.is_empty() && self.missing.is_empty() && self.unsigned.is_empty()
    }
}

impl Repository {
    /// Signs the files of a folder for stock tools, which look at the signature of `key` alone;
    /// `second` may sign beside it for those who fear quantum computers. Nothing is stored.
    ///
    /// # Errors
    /// NotFound; Invalid if it is no folder or has no file; Unsupported if there is a link in it;
    /// Corrupt; what the signers say.
    pub fn sign_bundle(
        &self,
        target: &Target,
        key: &dyn p256::Signer,
        second: Option<&dyn Signer>,
    ) -> Result<String> {
        let content = self.content_of(target)?;
        if let Some(link) = content.links.first() {
            let what = format!("`{link}` is a link, which a bundle cannot carry");
            return Err(Error::Unsupported(what));
        }
        let mut resources = Vec::new();
        for (name, id) in content.files {
            if !IGNORED.iter().any(|path| is_at_or_below(&name, path)) {
                let sha256 = self.sha256(id)?;
                resources.push(Resource { name, sha256 });
            }
        }
        let statement = Statement::new(target.repo.short(), resources)?.ignoring(&IGNORED);
        Ok(bundle::sign(&statement, key, second)?)
    }

    /// Compares a folder with what a bundle says, if it is signed by `key`.
    ///
    /// # Errors
    /// Denied if it names another key; Corrupt if its signature does not verify; Invalid or
    /// Unsupported if it makes no sense; NotFound. Differences are in the report.
    pub fn check_bundle(
        &self,
        target: &Target,
        bundle: &str,
        key: &AnyPublicKey,
    ) -> Result<BundleReport> {
        let bundle = Bundle::parse(bundle)?;
        let statement = match key {
            AnyPublicKey::P256(key) => bundle.verify_p256(key)?,
            AnyPublicKey::Signing(key) => bundle.verify(key)?,
            _ => return Err(Error::Unsupported("this type of key".to_owned())),
        };
        let Content { mut files, links } = self.content_of(target)?;
        let mut report = BundleReport {
            model: statement.model().to_owned(),
            ..BundleReport::default()
        };
        for Resource { name, sha256 } in statement.resources() {
            match files.remove(name) {
                None => report.missing.push(name.clone()),
                Some(id) if self.sha256(id)? == *sha256 => report.files += 1,
                Some(_) => report.changed.push(name.clone()),
            }
        }
        let rest = files.into_keys().chain(links);
        report.unsigned = rest.filter(|path| !statement.ignores(path)).collect();
        Ok(report)
    }

    /// What a folder holds, whoever signed it.
    fn content_of(&self, target: &Target) -> Result<Content> {
        let Node::Dir { id } = self.find_node(target)? else {
            return Err(Error::Invalid(format!("`{target}` is not a folder")));
        };
        let mut all = Vec::new();
        self.list_below(id, "", true, &mut all)?;
        let mut content = Content::default();
        for Listed { path, node } in all {
            match node {
                Node::File { id, .. } => drop(content.files.insert(path, id)),
                Node::Link { .. } => content.links.push(path),
                Node::Dir { .. } => {}
            }
        }
        Ok(content)
    }

    /// SHA-256 of a file, which is read if nobody noted it.
    fn sha256(&self, id: FileId) -> Result<[u8; 32]> {
        let reader = self.open_file(id)?;
        if let Some(digest) = reader.file().sha256 {
            return Ok(*digest.as_bytes());
        }
        let mut hasher = Sha256::new();
        let all = ByteRange::all(reader.size());
        self.read_range(&reader, all, &mut |piece| {
            hasher.update(&piece[..]);
            Ok(())
        })?;
        Ok(hasher.finalize().into())
    }
}

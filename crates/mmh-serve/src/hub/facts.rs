//! By which digests hubs know files: SHA-256 of large ones, the id of a git blob of others. The
//! first stands in the file's object; the second is computed when it is first wanted, and kept.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use lru::LruCache;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, FileId, TreeId};
use mmh_repo::refs::Resolved;
use mmh_repo::{Repository, Result};

use super::attributes::{ATTRIBUTES_LEN_MAX, Attributes, SEED};
use super::card::{CARD_LEN_MAX, Card};
use super::commits::{hex, unhex};

/// Files of which digests are remembered: 100 bytes each.
const FACTS_MAX: NonZeroUsize = NonZeroUsize::new(1 << 18).expect("not zero");
/// Texts that are remembered as what they say.
const TEXTS_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");

/// Most bytes of a pointer to a large file.
const POINTER_LEN_MAX: u64 = 160;
/// Whole trees whose files are remembered by their digest.
const TREES_MAX: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");

/// The files of a tree with their lengths, by SHA-256.
pub(crate) type BySha256 = HashMap<[u8; 32], (FileId, u64)>;

/// SHA-256 and length of the file that a pointer stands for.
type Pointed = ([u8; 32], u64);

/// What is remembered of files; all of it can be computed again.
#[derive(Debug)]
pub(crate) struct Facts {
    digests: Mutex<LruCache<FileId, Digests>>,
    attributes: Mutex<LruCache<FileId, Arc<Attributes>>>,
    cards: Mutex<LruCache<FileId, Arc<Card>>>,
    trees: Mutex<LruCache<TreeId, Arc<BySha256>>>,
    pointers: Mutex<LruCache<FileId, Option<Pointed>>>,
    seed: Arc<Attributes>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Digests {
    sha256: Option<[u8; 32]>,
    git: Option<[u8; 20]>,
}

/// Of a thing that keeps on although somebody who held it panicked: it is a cache.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Facts {
    pub(crate) fn new() -> Self {
        Self {
            digests: Mutex::new(LruCache::new(FACTS_MAX)),
            attributes: Mutex::new(LruCache::new(TEXTS_MAX)),
            cards: Mutex::new(LruCache::new(TEXTS_MAX)),
            trees: Mutex::new(LruCache::new(TREES_MAX)),
            pointers: Mutex::new(LruCache::new(FACTS_MAX)),
            seed: Arc::new(Attributes::parse(SEED)),
        }
    }

    fn known(&self, id: FileId) -> Digests {
        lock(&self.digests).get(&id).copied().unwrap_or_default()
    }

    /// SHA-256 of a file.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn sha256(&self, repo: &Repository, id: FileId) -> Result<[u8; 32]> {
        if let Some(digest) = self.known(id).sha256 {
            return Ok(digest);
        }
        let stated = repo.open_file(id)?.file().sha256;
        let digest = match stated {
            Some(digest) => *digest.as_bytes(),
            None => {
                let mut context = Context::new(&SHA256);
                read(repo, id, u64::MAX, &mut |bytes| context.update(bytes))?;
                let mut digest = [0; 32];
                digest.copy_from_slice(context.finish().as_ref());
                digest
            }
        };
        let mut digests = lock(&self.digests);
        digests.get_or_insert_mut(id, Digests::default).sha256 = Some(digest);
        Ok(digest)
    }

    /// All files of a snapshot, by SHA-256.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn by_sha256(&self, repo: &Repository, of: &Resolved) -> Result<Arc<BySha256>> {
        let tree = of.snapshot.tree;
        if let Some(known) = lock(&self.trees).get(&tree) {
            return Ok(Arc::clone(known));
        }
        let mut files = BySha256::new();
        for listed in repo.list_in(of, "", true)?.unwrap_or_default() {
            if let Node::File { id, size, .. } = listed.node {
                files.insert(self.sha256(repo, id)?, (id, size));
            }
        }
        let files = Arc::new(files);
        lock(&self.trees).put(tree, Arc::clone(&files));
        Ok(files)
    }

    /// The id that git gives to a file of that content.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn git(&self, repo: &Repository, id: FileId) -> Result<[u8; 20]> {
        if let Some(digest) = self.known(id).git {
            return Ok(digest);
        }
        let mut context = blob(repo.open_file(id)?.size());
        read(repo, id, u64::MAX, &mut |bytes| context.update(bytes))?;
        let digest = sha1(context);
        let mut digests = lock(&self.digests);
        digests.get_or_insert_mut(id, Digests::default).git = Some(digest);
        Ok(digest)
    }

    /// What a file says if it is a pointer to a large one.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn pointer_in(&self, repo: &Repository, node: &Node) -> Result<Option<Pointed>> {
        let Node::File { id, size, .. } = node else {
            return Ok(None);
        };
        if *size > POINTER_LEN_MAX {
            return Ok(None);
        }
        if let Some(known) = lock(&self.pointers).get(id) {
            return Ok(*known);
        }
        let found = pointed(&text(repo, *id, POINTER_LEN_MAX)?);
        lock(&self.pointers).put(*id, found);
        Ok(found)
    }

    /// The rules in a `.gitattributes`; those of a new repository without one.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn attributes(
        &self,
        repo: &Repository,
        id: Option<FileId>,
    ) -> Result<Arc<Attributes>> {
        let Some(id) = id else {
            return Ok(Arc::clone(&self.seed));
        };
        let parse = |text: &str| Attributes::parse(text);
        remembered(&self.attributes, repo, (id, ATTRIBUTES_LEN_MAX), parse)
    }

    /// What the card in a README says.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn card(&self, repo: &Repository, id: FileId) -> Result<Arc<Card>> {
        remembered(&self.cards, repo, (id, CARD_LEN_MAX), Card::parse)
    }
}

fn remembered<T>(
    cache: &Mutex<LruCache<FileId, Arc<T>>>,
    repo: &Repository,
    (id, len_max): (FileId, u64),
    parse: impl FnOnce(&str) -> T,
) -> Result<Arc<T>> {
    if let Some(known) = lock(cache).get(&id) {
        return Ok(Arc::clone(known));
    }
    let value = Arc::new(parse(&text(repo, id, len_max)?));
    lock(cache).put(id, Arc::clone(&value));
    Ok(value)
}

/// The beginning of a file, as text.
///
/// # Errors
/// Those of reading.
pub(crate) fn text(repo: &Repository, id: FileId, len_max: u64) -> Result<String> {
    let mut text = Vec::new();
    read(repo, id, len_max, &mut |bytes| {
        text.extend_from_slice(bytes)
    })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Hands the first bytes of a file on.
fn read(
    repo: &Repository,
    id: FileId,
    len_max: u64,
    take: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<()> {
    let reader = repo.open_file(id)?;
    let range = ByteRange::all(reader.size().min(len_max));
    repo.read_range(&reader, range, &mut |piece| {
        take(&piece);
        Ok(())
    })
}

/// What git hashes before the bytes of a file.
fn blob(len: u64) -> Context {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {len}\0").as_bytes());
    context
}

fn sha1(context: Context) -> [u8; 20] {
    let mut digest = [0; 20];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The pointer by which git keeps a large file (git-lfs, specification 1).
pub(crate) fn pointer(sha256: &[u8; 32], len: u64) -> String {
    let oid = hex(sha256);
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len}\n")
}

/// What a pointer says: SHA-256 and length of the file that it stands for.
fn pointed(text: &str) -> Option<Pointed> {
    let mut lines = text.lines().skip(1);
    let sha256 = unhex::<32>(lines.next()?.strip_prefix("oid sha256:")?)?;
    let len = lines.next()?.strip_prefix("size ")?.parse().ok()?;
    // There is one way to write it.
    (pointer(&sha256, len) == text).then_some((sha256, len))
}

/// The id that git gives to these bytes.
pub(crate) fn git_blob(bytes: &[u8]) -> [u8; 20] {
    let mut context = blob(bytes.len() as u64);
    context.update(bytes);
    sha1(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | git hash-object --stdin`, and the example of git-lfs's specification.
    #[test]
    fn ids_are_those_of_git() {
        assert_eq!(
            hex(&git_blob(b"hello")),
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
        );
        assert_eq!(
            hex(&git_blob(b"")),
            "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        );
        let text = pointer(&[0x4d; 32], 12345);
        assert!(text.ends_with("4d4d\nsize 12345\n"), "{text}");
        assert_eq!(text.len(), 130);
        assert_eq!(pointed(&text), Some(([0x4d; 32], 12345)));
        for other in [
            String::new(),
            text.replace("12345", "012345"),
            text.replace("spec/v1", "spec/v2"),
            text.clone() + "x",
            text.replace("4d4d", "4D4D"),
        ] {
            assert_eq!(pointed(&other), None, "{other}");
        }
    }
}

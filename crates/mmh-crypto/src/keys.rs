//! The key tree of a sealed repository: everything is derived from one root seed of 32 bytes.
//!
//! ```text
//! root seed ─┬─ read key ─┬─ id key        ids of chunks and objects
//!            │            ├─ content key   sealing of chunks
//!            │            ├─ index key     sealing of packs' tables, index runs and the log
//!            │            └─ config key    proof of a configuration, and of the key
//!            ├─ chunker key                where content is cut
//!            └─ signing seed               the repository's own signing key
//! ```
//!
//! Who has the read key reads everything and can write nothing that a signature check would
//! accept. Each arrow is BLAKE3's key derivation under a context of its own (FORMAT.md, "Keys"),
//! so no child says anything about its parent or siblings.

use mmh_core::Digest;
use mmh_core::ports::{Entropy, Ids};
use zeroize::Zeroizing;

use crate::error::Result;
use crate::seal::Sealer;
use crate::secret::Secret;

/// Context strings, fixed for ever: a changed one is another repository.
mod context {
    pub(super) const READ: &str = "mmh-rs 2026-11-25 read key v1";
    pub(super) const ID: &str = "mmh-rs 2026-11-25 id key v1";
    pub(super) const CONTENT: &str = "mmh-rs 2026-11-25 content key v1";
    pub(super) const INDEX: &str = "mmh-rs 2026-11-25 index key v1";
    pub(super) const CONFIG: &str = "mmh-rs 2026-11-30 config key v1";
    pub(super) const CHUNKER: &str = "mmh-rs 2026-11-25 chunker key v1";
    pub(super) const SIGNING: &str = "mmh-rs 2026-11-25 signing seed v1";
}

/// Derives `N` bytes from `parent` under `context`.
pub(crate) fn derive<const N: usize>(context: &str, parent: &[u8]) -> Secret<N> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(parent);
    Secret::fill_with(|out| hasher.finalize_xof().fill(out))
}

/// The one secret of a repository; all others follow from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSeed(Secret<32>);

impl RootSeed {
    /// Draws a new one.
    ///
    /// # Errors
    /// Unavailable, if the generator fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self> {
        Secret::generate(entropy).map(Self)
    }

    /// Restores one from a seed string, shares or a key slot.
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The secret itself, for a seed string, shares or a key slot.
    #[must_use]
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// What a reader needs, and no more.
    #[must_use]
    pub fn read_key(&self) -> ReadKey {
        ReadKey(derive(context::READ, self.0.expose()))
    }

    /// What decides where content is cut.
    #[must_use]
    pub fn chunker_key(&self) -> ChunkerKey {
        ChunkerKey(derive(context::CHUNKER, self.0.expose()))
    }

    /// The start of the repository's own signing key.
    #[must_use]
    pub fn signing_seed(&self) -> Secret<64> {
        derive(context::SIGNING, self.0.expose())
    }
}

/// Opens everything in a repository, but neither cuts nor signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadKey(Secret<32>);

impl ReadKey {
    /// Restores one from a read-only seed string.
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The secret itself, for a read-only seed string or a key slot.
    #[must_use]
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// Gives chunks and objects their ids.
    #[must_use]
    pub fn id_key(&self) -> IdKey {
        IdKey(derive(context::ID, self.0.expose()))
    }

    /// Seals frames of chunks.
    #[must_use]
    pub fn content(&self) -> Sealer {
        Sealer::new(&derive(context::CONTENT, self.0.expose()))
    }

    /// Vouches for a repository's configuration: a keyed hash of `bytes` that also tells whether
    /// this is the repository's key at all.
    #[must_use]
    pub fn vouch(&self, bytes: &[u8]) -> Digest {
        let key = derive::<32>(context::CONFIG, self.0.expose());
        Digest::from_bytes(*blake3::keyed_hash(key.expose(), bytes).as_bytes())
    }

    /// Seals structure; the name of a sealed thing is its object name in the store.
    #[must_use]
    pub fn index(&self) -> Sealer {
        Sealer::new(&derive(context::INDEX, self.0.expose()))
    }
}

/// Gives ids that say nothing to those who lack it: whether a repository holds a known file
/// cannot be tested from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdKey(Secret<32>);

impl IdKey {
    /// The id of `bytes` in this repository: BLAKE3 in keyed mode.
    #[must_use]
    pub fn id(&self, bytes: &[u8]) -> Digest {
        Digest::from_bytes(*blake3::keyed_hash(self.0.expose(), bytes).as_bytes())
    }

    /// What makes the id of bytes that come one piece after the other.
    #[must_use]
    pub fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(self.0.expose())
    }
}

impl Ids for IdKey {
    fn digest(&self, content: &[u8]) -> Digest {
        self.id(content)
    }
}

/// Decides where content is cut, so that the lengths of chunks do not betray known files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkerKey(Secret<32>);

impl ChunkerKey {
    /// The table of a gear hash: 256 words, little-endian, from BLAKE3's extendable output.
    #[must_use]
    pub fn gear(&self) -> Box<Zeroizing<[u64; 256]>> {
        let mut reader = blake3::Hasher::new_keyed(self.0.expose()).finalize_xof();
        let mut table = Box::new(Zeroizing::new([0; 256]));
        for word in table.iter_mut() {
            let mut bytes = Zeroizing::new([0; 8]);
            reader.fill(&mut bytes[..]);
            *word = u64::from_le_bytes(*bytes);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counter;

    fn root() -> RootSeed {
        RootSeed::from_secret(Secret::from_bytes(&[7; 32]))
    }

    /// Changing a context string changes every repository: this vector must never change.
    #[test]
    fn the_tree_of_a_known_seed() {
        let root = root();
        let read = root.read_key();
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        assert_eq!(
            hex(read.secret().expose()),
            "b1a74ec7f29bedcb9cacdd67cadb1e77e485a3fe1f4751cae2d8a7123c06db0f"
        );
        assert_eq!(
            read.id_key().id(b"abc").to_string(),
            "7995229681a49aee0898985b60a786959686882050eba603a9240e36ca2120fa"
        );
        assert_eq!(
            hex(&root.signing_seed().expose()[..16]),
            "64ca2c5a912cf2eccc6ed7c4eeda69b5"
        );
        assert_eq!(
            hex(&root.chunker_key().gear()[255].to_le_bytes()),
            "5cd5f3bd73a534ef"
        );
    }

    /// Derivation as BLAKE3 defines it, written out with its own function.
    #[test]
    fn children_are_blake3_derived_keys() {
        let root = root();
        let expected = blake3::derive_key("mmh-rs 2026-11-25 read key v1", &[7; 32]);
        assert_eq!(root.read_key().secret().expose(), &expected);
    }

    #[test]
    fn ids_of_another_repository_differ() {
        let other = RootSeed::generate(&Counter::default()).unwrap();
        let id = root().read_key().id_key().id(b"abc");
        assert_ne!(id, other.read_key().id_key().id(b"abc"));
        assert_ne!(id, Digest::of(b"abc"));
    }

    /// Neither another key nor another configuration has the same proof.
    #[test]
    fn a_configuration_is_vouched_for_by_its_key_alone() {
        let read = root().read_key();
        let other = RootSeed::generate(&Counter::default()).unwrap().read_key();
        let proof = read.vouch(b"config");
        assert_eq!(proof, read.vouch(b"config"));
        assert_ne!(proof, other.vouch(b"config"));
        assert_ne!(proof, read.vouch(b"other"));
        assert_ne!(proof, read.id_key().id(b"config"));
    }

    #[test]
    fn a_gear_table_has_no_equal_words() {
        let mut gear = **root().chunker_key().gear();
        gear.sort_unstable();
        assert!(gear.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn keys_are_not_printed() {
        let shown = format!("{:?} {:?}", root(), root().read_key());
        assert_eq!(
            shown,
            "RootSeed(Secret(32 bytes)) ReadKey(Secret(32 bytes))"
        );
    }
}

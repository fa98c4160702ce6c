//! Changing a tree: only the directories on the way to a change are read and written.

use std::collections::BTreeMap;

use mmh_core::TreeId;
use mmh_core::tree::{self, Entry, Node};
use mmh_store::{ChunkSink, ChunkSource};

use crate::error::{Error, Result};
use crate::objects;
use crate::recycle::Encoders;

/// What happens to one path.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    /// Put this there, replacing what was there.
    Put(Node),
    /// Make sure that a directory is there.
    MakeDir,
    /// Take away whatever is there.
    Remove,
}

/// Where trees are read from and written to.
#[derive(Clone, Copy)]
pub(crate) struct Editor<'a> {
    pub(crate) source: &'a dyn ChunkSource,
    pub(crate) sink: &'a dyn ChunkSink,
    pub(crate) encoders: &'a Encoders,
}

#[derive(Debug, Default)]
struct Below {
    here: Option<Edit>,
    inside: BTreeMap<String, Edit>,
}

impl Editor<'_> {
    /// Applies edits (by path) to a tree; `None` is the empty tree.
    ///
    /// # Errors
    /// `NotFound` for a removal of what is not there; `Invalid` when a file and something inside
    /// it are both put.
    pub(crate) fn apply(
        &self,
        root: Option<TreeId>,
        edits: BTreeMap<String, Edit>,
    ) -> Result<TreeId> {
        Ok(self.directory(root, edits)?.0)
    }

    /// As [`Self::apply`]; says also whether the directory is empty now.
    fn directory(
        &self,
        root: Option<TreeId>,
        edits: BTreeMap<String, Edit>,
    ) -> Result<(TreeId, bool)> {
        let mut entries: BTreeMap<String, Node> = match root {
            Some(id) => {
                let list = objects::entries(self.source, id)?;
                list.into_iter().map(|e| (e.name, e.node)).collect()
            }
            None => BTreeMap::new(),
        };
        let mut children: BTreeMap<String, Below> = BTreeMap::new();
        for (path, edit) in edits {
            match path.split_once('/') {
                Some((name, rest)) => {
                    let below = children.entry(name.to_owned()).or_default();
                    below.inside.insert(rest.to_owned(), edit);
                }
                None => children.entry(path).or_default().here = Some(edit),
            }
        }
        for (name, below) in children {
            self.child(&mut entries, name, below)?;
        }
        let empty = entries.is_empty();
        Ok((self.write(entries)?, empty))
    }

    fn child(
        &self,
        entries: &mut BTreeMap<String, Node>,
        name: String,
        below: Below,
    ) -> Result<()> {
        match below.here {
            Some(Edit::Put(_) | Edit::Remove) if !below.inside.is_empty() => {
                return Err(Error::Invalid(format!(
                    "`{name}` cannot be a file and a folder"
                )));
            }
            Some(Edit::Put(node)) => {
                entries.insert(name, node);
                return Ok(());
            }
            Some(Edit::Remove) => {
                let removed = entries.remove(&name);
                return removed
                    .map(drop)
                    .ok_or_else(|| Error::not_found("path", &name));
            }
            Some(Edit::MakeDir) | None => {}
        }
        let old = match entries.get(&name) {
            Some(Node::Dir { id }) => Some(*id),
            _ => None,
        };
        let shrinks = below.inside.values().all(|e| matches!(e, Edit::Remove));
        let keep_empty = below.here.is_some() || !shrinks;
        if old.is_none() && !keep_empty {
            return Err(Error::not_found("path", &name));
        }
        let (id, empty) = self.directory(old, below.inside)?;
        if empty && !keep_empty {
            entries.remove(&name);
        } else {
            entries.insert(name, Node::Dir { id });
        }
        Ok(())
    }

    fn write(&self, entries: BTreeMap<String, Node>) -> Result<TreeId> {
        let list = entries
            .into_iter()
            .map(|(name, node)| Entry { name, node })
            .collect();
        tree::write(list, &mut |id, bytes| {
            objects::put(self.sink, self.encoders, id, &bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use bytes::Bytes;
    use mmh_core::{ChunkId, FileId, Verified};
    use mmh_store::ChunkInfo;
    use proptest::prelude::*;

    use super::*;
    use crate::list::Listed;

    /// Frames in memory, decoded when they are read.
    #[derive(Default)]
    struct Memory(Mutex<HashMap<ChunkId, Vec<u8>>>);

    impl ChunkSink for Memory {
        fn contains(&self, id: &ChunkId) -> mmh_store::Result<bool> {
            Ok(self.0.lock().unwrap().contains_key(id))
        }

        fn put(&self, id: ChunkId, _raw_len: u32, frame: &[u8]) -> mmh_store::Result<bool> {
            Ok(self.0.lock().unwrap().insert(id, frame.to_vec()).is_none())
        }
    }

    impl ChunkSource for Memory {
        fn locate(&self, _id: &ChunkId) -> mmh_store::Result<Option<ChunkInfo>> {
            Ok(None)
        }

        fn get(&self, id: &ChunkId) -> mmh_store::Result<Verified<Bytes>> {
            let frames = self.0.lock().unwrap();
            let frame = frames
                .get(id)
                .ok_or(mmh_store::Error::NoSuchChunk { chunk: *id })?;
            let mut raw = Vec::new();
            mmh_codec::Decoder::new()
                .decode(frame, 1 << 22, &mut raw)
                .unwrap();
            Ok(Verified::chunk(id, raw.into()).unwrap())
        }
    }

    fn file(n: u64) -> Node {
        Node::File {
            id: FileId::of(&n.to_le_bytes()),
            size: n,
            executable: false,
        }
    }

    fn apply(memory: &Memory, root: Option<TreeId>, edits: &[(&str, Edit)]) -> Result<TreeId> {
        let encoders = Encoders::new(mmh_codec::Settings::default());
        let editor = Editor {
            source: memory,
            sink: memory,
            encoders: &encoders,
        };
        editor.apply(
            root,
            edits
                .iter()
                .map(|(p, e)| ((*p).to_owned(), e.clone()))
                .collect(),
        )
    }

    fn paths(memory: &Memory, root: TreeId, prefix: &str) -> Vec<Listed> {
        let mut all = Vec::new();
        for entry in objects::entries(memory, root).unwrap() {
            let path = format!("{prefix}{}", entry.name);
            match entry.node {
                Node::Dir { id } => all.extend(paths(memory, id, &format!("{path}/"))),
                node => all.push(Listed { path, node }),
            }
        }
        all
    }

    #[test]
    fn a_folder_that_becomes_empty_by_removal_is_gone() {
        let memory = Memory::default();
        let put = Edit::Put(file(1));
        let root = apply(&memory, None, &[("a/b/c", put.clone()), ("d", put)]).unwrap();
        let root = apply(&memory, Some(root), &[("a/b/c", Edit::Remove)]).unwrap();
        let names: Vec<_> = objects::entries(&memory, root)
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert_eq!(names, ["d"]);
    }

    #[test]
    fn a_folder_made_on_purpose_stays_empty() {
        let memory = Memory::default();
        let root = apply(&memory, None, &[("void/deep", Edit::MakeDir)]).unwrap();
        assert!(matches!(
            objects::find(&memory, root, "void/deep").unwrap(),
            Some(Node::Dir { .. })
        ));
        let again = apply(&memory, Some(root), &[("void/deep", Edit::MakeDir)]).unwrap();
        assert_eq!(again, root);
    }

    #[test]
    fn files_and_folders_take_each_others_place() {
        let memory = Memory::default();
        let put = |n| Edit::Put(file(n));
        let root = apply(&memory, None, &[("x", put(1))]).unwrap();
        let root = apply(&memory, Some(root), &[("x/y", put(2))]).unwrap();
        assert_eq!(paths(&memory, root, "")[0].path, "x/y");
        let root = apply(&memory, Some(root), &[("x", put(3))]).unwrap();
        assert_eq!(paths(&memory, root, "")[0].path, "x");
        let both = apply(&memory, None, &[("x", put(1)), ("x/y", put(2))]);
        assert!(matches!(both, Err(Error::Invalid(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Edits in any order of steps behave like a map from paths to files.
        #[test]
        fn edits_behave_like_a_map(
            steps in prop::collection::vec(prop::collection::btree_map("[ab](/[ab]){0,1}", 0u64..5, 1..4), 1..6),
        ) {
            let memory = Memory::default();
            let (mut root, mut model) = (None, BTreeMap::<String, u64>::new());
            for step in steps {
                let edits: Vec<_> = step.iter().map(|(p, n)| (p.as_str(), Edit::Put(file(*n)))).collect();
                let clash = step.keys().any(|p| step.keys().any(|q| q.starts_with(&format!("{p}/"))));
                let applied = apply(&memory, root, &edits);
                prop_assert_eq!(applied.is_err(), clash);
                let Ok(new) = applied else { continue };
                for (path, n) in &step {
                    model.retain(|q, _| {
                        !q.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{q}/"))
                    });
                    model.insert(path.clone(), *n);
                }
                let listed = paths(&memory, new, "");
                let expected: Vec<_> =
                    model.iter().map(|(p, n)| Listed { path: p.clone(), node: file(*n) }).collect();
                prop_assert_eq!(listed, expected);
                root = Some(new);
            }
        }
    }
}

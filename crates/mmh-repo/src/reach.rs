//! What a folder is made of: a walk over pages of trees, files and pages of files, down to the ids
//! of chunks. Each object is read once; nothing but objects is read.

use mmh_core::object::{ChunkRef, File, PageRef, Segment, SegmentPage, Segments};
use mmh_core::tree::{Body, Node};
use mmh_core::{ChunkId, FileId, ObjectId, TreeId, limits};
use mmh_store::ChunkSource;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::objects;
use crate::repository::Repository;

/// File objects that are in memory at once.
const FILES_AT_ONCE: usize = 512;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A page of a folder.
    Tree,
    /// A file, or a page of one.
    File,
}

/// Hears what a walk meets.
pub(crate) trait Visit {
    /// An object; returns whether to go on below it.
    fn object(&mut self, id: ObjectId, kind: Kind) -> bool;

    /// A chunk of a file.
    fn chunk(&mut self, id: ChunkId);

    /// An object that cannot be read.
    ///
    /// # Errors
    /// If that ends the walk.
    fn unread(&mut self, id: ObjectId, error: Error) -> Result<()>;
}

/// A repository, and what reads its objects: itself, or a reader for passes over everything.
pub(crate) type Place<'a> = (&'a Repository, &'a dyn ChunkSource);

/// Walks a folder and everything below it.
pub(crate) fn walk(repo: &Repository, root: TreeId, visit: &mut dyn Visit) -> Result<()> {
    walk_by((repo, repo.source()), root, visit)
}

/// As [`walk`], with a reader of its own.
pub(crate) fn walk_by(place: Place<'_>, root: TreeId, visit: &mut dyn Visit) -> Result<()> {
    tree(place, root, 0, visit)
}

fn tree(place: Place<'_>, page: TreeId, depth: usize, visit: &mut dyn Visit) -> Result<()> {
    let deepest = limits::TREE_DEPTH_MAX * (limits::TREE_PAGE_DEPTH_MAX + 1);
    if !visit.object(page.object(), Kind::Tree) {
        return Ok(());
    }
    let (repo, source) = place;
    repo.shop.components.cancel.check()?;
    let read = if depth > deepest {
        Err(Error::Corrupt(format!("tree {page} is nested too deep")))
    } else {
        objects::tree_page(source, page)
    };
    let body = match read {
        Ok(tree) => tree.body,
        Err(error) => return visit.unread(page.object(), error),
    };
    match body {
        Body::Pages(pages) => pages
            .iter()
            .try_for_each(|page| tree(place, page.1, depth + 1, visit)),
        Body::Entries(entries) => {
            let mut open = Vec::new();
            for entry in &entries {
                match &entry.node {
                    Node::Dir { id } => tree(place, *id, depth + 1, visit)?,
                    Node::File { id, .. } if visit.object(id.object(), Kind::File) => {
                        open.push(*id);
                    }
                    Node::File { .. } | Node::Link { .. } => {}
                }
            }
            open.chunks(FILES_AT_ONCE)
                .try_for_each(|ids| files(place, ids, visit))
        }
    }
}

/// Visits what files are made of; they are read in parallel.
fn files((repo, source): Place<'_>, ids: &[FileId], visit: &mut dyn Visit) -> Result<()> {
    let components = &repo.shop.components;
    let read = |id: &FileId| -> Result<File> {
        components.cancel.check()?;
        objects::file(source, *id)
    };
    let all = || ids.par_iter().map(read).collect::<Vec<_>>();
    for (id, file) in ids.iter().zip(components.pool.install(all)) {
        match file.map(|file| file.segments) {
            Ok(Segments::Inline(segments)) => segments_of(&segments, visit),
            Ok(Segments::Pages(pages)) => {
                for PageRef(page, _) in pages {
                    if !visit.object(page, Kind::File) {
                        continue;
                    }
                    match objects::read::<SegmentPage>(source, page) {
                        Ok(page) => segments_of(&page.segments, visit),
                        Err(error) => visit.unread(page, error)?,
                    }
                }
            }
            Err(error) => visit.unread(id.object(), error)?,
        }
    }
    Ok(())
}

fn segments_of(segments: &[Segment], visit: &mut dyn Visit) {
    for ChunkRef(id, _, _) in segments.iter().flat_map(|segment| &segment.chunks) {
        visit.chunk(*id);
    }
}

//! What differs between two revisions, in lines as `git diff --raw` writes them, each with the kind and
//! the length of the file before it: `{T|B} {length}\t:{mode} {mode} {id}... {id}... {A|D|M}\t{path}`.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use mmh_core::FileId;
use mmh_core::name::RepoName;
use mmh_core::tree::Node;

use super::commits::{hex, oid};
use super::facts::{self, git_blob, pointer};
use super::fail::{Fail, Outcome, REPO_COMMIT};
use super::view::{Kept, Seen};
use super::{Ask, Hub};

/// Most lines of an answer: for each of them files may have to be read.
const LINES_MAX: usize = 20_000;
/// Bytes in which git looks for a zero, to tell what is no text.
const LOOKED_AT: u64 = 8000;
/// What stands for a file that is not there.
const NO_ID: &str = "0000000000000000000000000000000000000000";
const NO_MODE: &str = "000000";

/// A file of one of both sides.
struct File {
    id: FileId,
    kept: Kept,
    size: u64,
    mode: &'static str,
}

/// `GET /api/{family}/{id}/compare/{base}..{head}?raw=true`; without a base it is what came before.
pub(crate) fn compare(hub: &Hub, ask: &Ask, name: &RepoName, spec: &str) -> Outcome<Response> {
    if !ask.says("raw") {
        let text = "differences come as lines only: ask with raw=true";
        return Err(Fail::new(StatusCode::NOT_IMPLEMENTED, text));
    }
    let parent = format!("{spec}^");
    let (base, head) = spec.split_once("..").unwrap_or((&parent, spec));
    if base.is_empty() || head.is_empty() || head.starts_with('.') {
        let text = "two revisions are named as base..head";
        return Err(Fail::invalid(text));
    }
    let new = side(hub, name, head)?.ok_or_else(|| Fail::no_revision(head))?;
    let old = side(hub, name, base)?;
    let tree = |seen: &Seen| seen.found.snapshot.tree;
    let different = hub.repo.diff_of(old.as_ref().map(tree), tree(&new))?;
    if different.len() > LINES_MAX {
        let text = format!("more than {LINES_MAX} files differ");
        return Err(Fail::unprocessable(text));
    }
    let mut lines = String::new();
    for difference in &different {
        let path = difference.path();
        let before = match &old {
            Some(old) => hub.file(old, path)?,
            None => None,
        };
        let after = hub.file(&new, path)?;
        if let Some(line) = line(hub, path, before.as_ref(), after.as_ref())? {
            lines.push_str(&line);
        }
    }
    let mut response = Response::new(Body::from(lines));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, kind);
    if let Ok(commit) = HeaderValue::try_from(oid(&new.found.id)) {
        headers.insert(REPO_COMMIT, commit);
    }
    Ok(response)
}

/// A revision, or with `^` behind it the one before, as often as that stands there; `None` is before
/// the first.
fn side(hub: &Hub, name: &RepoName, text: &str) -> Outcome<Option<Seen>> {
    let rev = text.trim_end_matches('^');
    let mut found = hub.resolved(name, rev)?;
    for left in (0..text.len() - rev.len()).rev() {
        match found.snapshot.parents.first() {
            Some(parent) => found = hub.repo.resolve_known(name, *parent)?,
            None if left == 0 => return Ok(None),
            // Nothing is before nothing.
            None => return Err(Fail::no_revision(text)),
        }
    }
    Ok(Some(hub.seen_of(name, found)?))
}

impl Hub {
    fn file(&self, seen: &Seen, path: &str) -> Outcome<Option<File>> {
        let Some(node) = self.repo.node_in(&seen.found, path)? else {
            return Ok(None);
        };
        let Node::File { id, executable, .. } = node else {
            return Ok(None);
        };
        let kept = self.kept(seen, path, &node)?;
        Ok(kept.map(|(kept, size)| File {
            id,
            kept,
            size,
            mode: if executable { "100755" } else { "100644" },
        }))
    }

    /// Whether git would show it as text. Of a large file it has the pointer.
    fn is_text(&self, file: &File) -> Outcome<bool> {
        match file.kept {
            Kept::Large(_) => Ok(true),
            Kept::Regular(_) => {
                let start = facts::text(&self.repo, file.id, LOOKED_AT)?;
                Ok(!start.contains('\0'))
            }
        }
    }
}

impl File {
    /// The id of its blob in git.
    fn blob(&self) -> String {
        match &self.kept {
            Kept::Regular(git) => hex(git),
            Kept::Large(sha256) => hex(&git_blob(pointer(sha256, self.size).as_bytes())),
        }
    }
}

/// One line; `None` if nothing of it is seen here.
fn line(
    hub: &Hub,
    path: &str,
    before: Option<&File>,
    after: Option<&File>,
) -> Outcome<Option<String>> {
    let (status, shown) = match (before, after) {
        (None, None) => return Ok(None),
        (None, Some(after)) => ('A', after),
        (Some(before), None) => ('D', before),
        (Some(_), Some(after)) => ('M', after),
    };
    let mode = |file: Option<&File>| file.map_or(NO_MODE, |file| file.mode);
    let blob = |file: Option<&File>| file.map_or_else(|| NO_ID.to_owned(), File::blob);
    let (old, new) = (blob(before), blob(after));
    if old == new && mode(before) == mode(after) {
        return Ok(None);
    }
    let kind = if hub.is_text(shown)? { 'T' } else { 'B' };
    let (size, modes) = (shown.size, [mode(before), mode(after)].join(" "));
    let path = quoted(path);
    Ok(Some(format!(
        "{kind} {size}\t:{modes} {old}... {new}... {status}\t{path}\n"
    )))
}

/// A path as git writes it: in quotes if it would be read wrongly without.
fn quoted(path: &str) -> String {
    let odd = |c: char| c.is_ascii_control() || c == '"' || c == '\\';
    if !path.contains(odd) {
        return path.to_owned();
    }
    let mut out = String::from("\"");
    for c in path.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\{:03o}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_stand_in_quotes() {
        for (path, written) in [
            ("a/b c.bin", "a/b c.bin"),
            ("ü/エ", "ü/エ"),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("a\tb\n\u{1}", "\"a\\tb\\n\\001\""),
        ] {
            assert_eq!(quoted(path), written);
        }
    }
}

"""Changes of a branch that become one commit."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, Dict, Optional, Set, Union, cast

from .errors import Invalid

if TYPE_CHECKING:
    from .repository import Progress, Repository


class Change:
    """Files that are written, copied and removed, and then committed together or not at all.

    >>> with repo.change("acme/minilm", "a card") as change:
    ...     change.write("README.md", "# MiniLM")
    ...     change.remove("old.bin")

    Leaving the block commits, leaving it by an exception does not. What is written waits in a folder
    of this machine's temporary files.
    """

    def __init__(
        self, repository: Repository, branch: str, message: Optional[str], parent: Optional[str]
    ) -> None:
        self._repository, self._branch = repository, branch
        #: Why.
        self.message = message
        #: The snapshot that it must be put on: any without one.
        self.parent = parent
        self._folder = tempfile.mkdtemp(prefix="mmh-change-")
        self._written: Set[str] = set()
        self._placed: Dict[str, str] = {}
        self._removed: Set[str] = set()
        self._done = False

    def __enter__(self) -> Change:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self.discard()
        elif not self._done:
            self.commit()

    def __del__(self) -> None:
        # Nobody committed it.
        folder = getattr(self, "_folder", None)
        if folder is not None and not self._done:
            shutil.rmtree(folder, ignore_errors=True)

    def is_empty(self) -> bool:
        """Whether nothing would be changed."""
        return not (self._written or self._placed or self._removed)

    def write(self, path: str, content: Union[bytes, bytearray, memoryview, str]) -> None:
        """Writes a file of this content; text is UTF-8."""
        with self.open(path) as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def open(self, path: str) -> BinaryIO:
        """Opens a file for writing. It must be closed before the commit."""
        return cast(BinaryIO, open(self._stage(path), "wb"))

    def put(self, source: Union[str, "os.PathLike[str]"], path: str) -> None:
        """Puts a plain file of this machine. It must not change before the commit."""
        source = os.path.realpath(os.path.expanduser(source))
        if not os.path.isfile(source):
            raise Invalid(f"{source} is no file")
        staged = self._stage(path)
        try:
            os.link(source, staged)
        except OSError:
            shutil.copyfile(source, staged)
            shutil.copymode(source, staged)

    def copy(self, target: str, path: str) -> None:
        """Makes ``path`` what a target (``NAME[@REV]:PATH``) is, a file or a folder, unread."""
        self._drop(_checked(path))
        self._placed[path] = target

    def remove(self, path: str) -> None:
        """Removes a file or folder, which must be there."""
        path = _checked(path)
        if not self._drop(path):
            self._removed.add(path)

    def _stage(self, path: str) -> str:
        path = _checked(path)
        self._drop(path)
        staged = os.path.join(self._folder, *path.split("/"))
        os.makedirs(os.path.dirname(staged), exist_ok=True)
        self._written.add(path)
        return staged

    def _drop(self, path: str) -> bool:
        """What comes later wins."""
        if self._done:
            raise Invalid("the change is over")
        if path in self._written:
            self._written.discard(path)
            os.remove(os.path.join(self._folder, *path.split("/")))
        elif path in self._placed:
            del self._placed[path]
        else:
            self._removed.discard(path)
            return False
        return True

    def commit(self, progress: Optional[Progress] = None) -> Optional[Dict[str, Any]]:
        """Commits; returns what was added, or ``None`` if there was nothing to do."""
        if self._done:
            raise Invalid("the change is over")
        try:
            if self.is_empty():
                return None
            changing = {
                "folder": self._folder if self._written else None,
                "placed": self._placed,
                "removed": self._removed,
                "message": self.message if self.message is not None else self._said(),
                "parent": self.parent,
            }
            return json.loads(self._repository._repo.change(self._branch, changing, progress))
        finally:
            self.discard()

    def discard(self) -> None:
        """Forgets everything that was not committed."""
        self._done = True
        shutil.rmtree(self._folder, ignore_errors=True)

    def _said(self) -> str:
        put, removed = len(self._written) + len(self._placed), len(self._removed)
        one = [*self._written, *self._placed, *self._removed]
        if len(one) == 1:
            return f"{'remove' if removed else 'write'} {one[0]}"
        parts = [f"write {put} files"] if put else []
        parts += [f"remove {removed}"] if removed else []
        return ", ".join(parts)


def _checked(path: str) -> str:
    """A path inside a name, before anything of it touches the disk."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise Invalid(f"`{path}` is no path inside a name")
    return path

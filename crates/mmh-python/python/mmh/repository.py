"""Repositories: names, history, files, and what goes between two of them."""

from __future__ import annotations

import io
import json
import os
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Union

from . import _keys, _native
from .change import Change
from .errors import Conflict, Corrupt
from .tensors import TensorFile

Path = Union[str, "os.PathLike[str]"]
#: Hears how far something is: stage, bytes done, bytes in all if known, item.
Progress = Callable[[str, int, Optional[int], str], Any]

#: Decoded chunks that an open repository keeps in memory, in bytes.
MEMORY = 256 << 20


@dataclass(frozen=True)
class Entry:
    """A file, folder or link of a name."""

    path: str
    #: ``file``, ``directory`` or ``link``.
    type: str
    #: Bytes of a file.
    size: int = 0
    executable: bool = False
    #: The id of what it holds: equal ids, equal bytes.
    id: Optional[str] = None
    #: Where a link leads.
    target: Optional[str] = None


class File(io.RawIOBase):
    """A file of a repository. Every byte was compared with its digest before it is handed out."""

    def __init__(self, native: _native.File, name: str) -> None:
        super().__init__()
        self._native = native
        self._at = 0
        #: The target that it was opened by.
        self.name = name
        #: Its length in bytes.
        self.size = native.size
        #: The container that was recognised, as ``safetensors``; ``unknown`` for plain bytes.
        self.container = native.container
        #: Why it is kept as bytes although it looked like a container.
        self.note = native.note
        #: Digests of the whole content, where they are stated.
        self.blake3 = native.blake3
        self.sha256 = native.sha256

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``offset``: fewer only at the end. For many threads at once."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length are not negative")
        return self._native.read(offset, length)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}
        if whence not in base:
            raise ValueError(f"whence {whence}")
        if base[whence] + offset < 0:
            raise ValueError("before the beginning of the file")
        self._at = base[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        data = self._native.read(self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        self._check_open()
        data = self._native.read(self._at, max(self.size - self._at, 0))
        self._at += len(data)
        return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")


class Repository:
    """A repository that is open. Threads may share it; a forked child opens it anew by itself."""

    def __init__(
        self,
        place: Optional[Path] = None,
        *,
        key: Optional[_keys.Key] = None,
        passphrase: Optional[str] = None,
        author: Optional[str] = None,
        threads: Optional[int] = None,
        level: Optional[str] = None,
        log: Optional[str] = None,
        untrusted: bool = False,
        memory: int = MEMORY,
    ) -> None:
        self._key, self._passphrase = key, passphrase
        self._how: Dict[str, Any] = {
            "author": author,
            "threads": threads,
            "level": level,
            "log": log,
            "untrusted": untrusted,
            "memory": memory,
        }
        self._lock = threading.Lock()
        self._handle: Optional[_native.Repository] = None
        self._place = None if place is None else os.fspath(place)
        self._handle = _native.open(self._options())
        # A folder is the same one wherever a child or another process opens it.
        self._place = _absolute(self._handle.place)
        _alive.add(self)

    @classmethod
    def _of(cls, handle: _native.Repository, like: Dict[str, Any]) -> Repository:
        made = cls.__new__(cls)
        made._key, made._passphrase = None, like.pop("passphrase")
        made._how = like
        made._lock = threading.Lock()
        made._handle = handle
        made._place = _absolute(handle.place)
        _alive.add(made)
        return made

    def _options(self) -> Dict[str, Any]:
        variables = _variables()
        keys = _keys.texts(self._key, self._passphrase, variables)
        return _options(self._place, keys, variables, self._how)

    @property
    def _repo(self) -> _native.Repository:
        with self._lock:
            if self._handle is None:
                self._handle = _native.open(self._options())
            return self._handle

    def __repr__(self) -> str:
        return f"mmh.Repository({self._place!r})"

    def __reduce__(self) -> Any:
        if self._passphrase is not None or _keys.is_secret(self._key):
            raise TypeError("secrets are not pickled: give keys by the names of their files")
        return (_reopen, (self._place, self._key, self._how))

    @property
    def place(self) -> str:
        """Where it is: a folder, an archive or a URL."""
        return str(self._place)

    def facts(self) -> Dict[str, Any]:
        """What it is and how much it holds."""
        return json.loads(self._repo.facts())

    # Names and history.

    def names(self) -> List[Dict[str, Any]]:
        """Names with their branches and tags, as ``mmh ls --json``."""
        return json.loads(self._repo.names())

    def log(self, target: str, count: Optional[int] = None) -> List[Dict[str, Any]]:
        """Snapshots, newest first, at most ``count``."""
        return json.loads(self._repo.log(target, count))

    def resolve(self, target: str) -> Dict[str, Any]:
        """The snapshot that ``NAME[@REV]`` names; ``Denied`` if it is not signed as it must be."""
        return json.loads(self._repo.resolve(target))

    def branch(self, at: str, name: str) -> str:
        """Makes a branch of the name ``at``; returns its snapshot."""
        return self._repo.mark(at, name, False)

    def tag(self, at: str, name: str) -> str:
        """Makes a tag of the name ``at``; returns its snapshot."""
        return self._repo.mark(at, name, True)

    def rm(self, target: str) -> None:
        """Removes a name, a branch or tag, or a path (in a new snapshot). ``undo`` takes it back."""
        self._repo.remove(target)

    def undo(self, operation: Optional[int] = None) -> str:
        """Takes the last change back, or that of a number; returns what it was."""
        return self._repo.undo(operation)

    # Files.

    def ls(self, target: str, recursive: bool = False) -> List[Entry]:
        """What a target holds; a file holds itself."""
        return [Entry(**row) for row in json.loads(self._repo.list(target, recursive))]

    def info(self, target: str) -> Entry:
        """What a target is."""
        return Entry(**json.loads(self._repo.node(target)))

    def open(self, target: str, buffering: int = 1 << 20) -> Union[File, io.BufferedReader]:
        """Opens a file for reading; with ``buffering=0`` without a buffer of its own."""
        raw = File(self._repo.file(target), target)
        return io.BufferedReader(raw, buffering) if buffering else raw

    def read(self, target: str, start: int = 0, end: Optional[int] = None) -> bytes:
        """Bytes ``start`` to ``end`` of a file; negative ones count from its end."""
        file = self._repo.file(target)
        first, last, _ = slice(start, end).indices(file.size)
        return file.read(first, max(last - first, 0))

    def safe_open(self, target: str, framework: str = "numpy", device: str = "cpu") -> TensorFile:
        """The tensors of a file by name: see :func:`mmh.safe_open`."""
        return TensorFile(self._repo.file(target), target, framework, device)

    def stat(self, *targets: str) -> Dict[str, Any]:
        """Where the bytes are, and what was saved; of everything without targets."""
        return json.loads(self._repo.stat(list(targets)))

    def add(
        self,
        paths: Union[Path, Iterable[Path]],
        to: str,
        *,
        message: Optional[str] = None,
        replace: bool = False,
        follow: bool = False,
        base: Optional[str] = None,
        progress: Optional[Progress] = None,
    ) -> Dict[str, Any]:
        """Adds files and folders to ``NAME[@BRANCH][:FOLDER]`` and commits, as ``mmh add``."""
        many = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        adding = {
            "paths": [_path(path) for path in many],
            "to": to,
            "message": message,
            "replace": replace,
            "follow": follow,
            "base": base,
        }
        return json.loads(self._repo.add(adding, progress))

    def change(
        self, branch: str, message: Optional[str] = None, *, parent: Optional[str] = None
    ) -> Change:
        """A change of ``NAME[@BRANCH]`` that becomes one commit: see :class:`mmh.Change`."""
        return Change(self, branch, message, parent)

    def get(
        self,
        target: str,
        dest: Path,
        *,
        overwrite: bool = False,
        unsafe_links: bool = False,
        progress: Optional[Progress] = None,
    ) -> Dict[str, Any]:
        """Restores what a target names, byte for byte, to ``dest``."""
        getting = {
            "target": target,
            "dest": _path(dest),
            "overwrite": overwrite,
            "unsafe_links": unsafe_links,
        }
        return json.loads(self._repo.get(getting, progress))

    def verify(self, *targets: str, progress: Optional[Progress] = None) -> Dict[str, Any]:
        """Reads everything, or what targets reach, and compares it with its digests. Damage is no
        exception but a finding."""
        return json.loads(self._repo.verify(list(targets), progress))

    # Others.

    def push(self, remote: Optional[Path] = None, names: Sequence[str] = (), **how: Any) -> Any:
        """Sends names to a remote or a place: only what is missing there, as it is stored.

        ``names``: all without any. ``force``: move branches even if they lose what they have.
        ``prune``: remove there what is not here. ``dry_run``: only say what would be done.
        ``key``, ``passphrase``: of the other side. ``progress``: as in :meth:`add`.

        Raises ``Conflict`` if branches diverged and ``Corrupt`` if what they reach is damaged;
        everything else was sent then, and the exception's ``report`` says so.
        """
        return self._send(True, remote, names, **how)

    def pull(self, remote: Optional[Path] = None, names: Sequence[str] = (), **how: Any) -> Any:
        """Fetches names from a remote or a place: the other way of :meth:`push`."""
        return self._send(False, remote, names, **how)

    def _send(
        self,
        push: bool,
        remote: Optional[Path],
        names: Sequence[str],
        *,
        force: bool = False,
        prune: bool = False,
        dry_run: bool = False,
        key: Optional[_keys.Key] = None,
        passphrase: Optional[str] = None,
        progress: Optional[Progress] = None,
    ) -> Dict[str, Any]:
        sending = {
            "push": push,
            "remote": None if remote is None else os.fspath(remote),
            "names": [names] if isinstance(names, str) else list(names),
            "force": force,
            "prune": prune,
            "dry_run": dry_run,
            "keys": _keys.texts(key, passphrase, {}),
        }
        done = json.loads(self._repo.send(sending, progress))
        if not done.pop("complete"):
            damaged = [row["name"] for row in done["report"]["refs"] if row["what"] == "damaged"]
            diverged = [row["name"] for row in done["report"]["refs"] if row["what"] == "diverged"]
            error = (
                Corrupt(f"left out, for what they reach is damaged: {', '.join(damaged)}")
                if damaged
                else Conflict(f"each side has what the other lacks: {', '.join(diverged)}")
            )
            error.report = done
            raise error
        return done


def open(place: Optional[Path] = None, **how: Any) -> Repository:
    """Opens a repository: a folder, a ``.mmh`` archive, or a URL (``s3://…``, ``mmhs://…``).

    Without a place: that of the settings (``MMH_REPOSITORY``), else the nearest folder above.
    ``key``: an identity of age, a seed (``mmh1…``), or the name of a file with one; or several.
    ``passphrase``; ``author``; ``threads``; ``level`` (``fast``, ``default``, ``archive``); ``log``;
    ``untrusted``: read names that are not signed as the rules of ``mmh trust`` demand;
    ``memory``: bytes of decoded chunks that are kept.
    """
    return Repository(place, **how)


def init(
    place: Path,
    *,
    sealed_for: Sequence[str] = (),
    passphrase: Optional[str] = None,
    author: Optional[str] = None,
    threads: Optional[int] = None,
    level: Optional[str] = None,
    log: Optional[str] = None,
    memory: int = MEMORY,
) -> Repository:
    """Makes a new repository and opens it. With recipients of age (``sealed_for``) or a passphrase
    it is sealed for its whole life; who loses all keys loses everything, so keep ``mmh seed show``."""
    how = {
        "author": author,
        "threads": threads,
        "level": level,
        "log": log,
        "untrusted": False,
        "memory": memory,
    }
    variables = _variables()
    keys = {"identities": [], "passphrase": passphrase, "seed": None}
    options = _options(os.fspath(place), keys, variables, how)
    to = [sealed_for] if isinstance(sealed_for, str) else list(sealed_for)
    return Repository._of(_native.init(options, to), {**how, "passphrase": passphrase})


def _reopen(place: str, key: Any, how: Dict[str, Any]) -> Repository:
    return Repository(place, key=key, **how)


def _path(path: Path) -> str:
    return os.path.expanduser(os.fspath(path))


def _absolute(place: str) -> str:
    return place if "://" in place or "," in place else os.path.abspath(place)


def _variables() -> Dict[str, str]:
    """The environment, without what is no text."""

    def is_text(text: str) -> bool:
        return not any("\ud800" <= c <= "\udfff" for c in text)

    return {name: text for name, text in os.environ.items() if is_text(name) and is_text(text)}


def _options(
    place: Optional[str], keys: Dict[str, Any], variables: Dict[str, str], how: Dict[str, Any]
) -> Dict[str, Any]:
    place = None if place is None else os.path.expanduser(place)
    # A place that is named needs no current folder.
    here = os.getcwd() if place is None else "."
    return {"place": place, "here": here, "variables": variables, "keys": keys, **how}


#: Repositories whose threads a forked child would not have.
_alive: "weakref.WeakSet[Repository]" = weakref.WeakSet()
#: What a child inherited and must neither use nor end.
_inherited: List[Any] = []


def _forked() -> None:
    for repository in list(_alive):
        _inherited.append(repository._handle)
        repository._handle = None
        repository._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

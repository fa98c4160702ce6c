"""The file system ``mmh://`` for fsspec, and so for pandas, pyarrow, dask, zarr and others.

Paths are those of a mounted repository: ``mmh://acme/minilm/config.json`` is the head of ``main``,
``mmh://acme/minilm@v1/…`` a branch, tag or snapshot (``%2F`` for a slash in its name),
``mmh://datasets/squad/…`` a dataset. What is written is a commit: one for each file, or one for all of
``with fs.transaction:``.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Union, cast

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from fsspec.transaction import Transaction

from .errors import Conflict, Invalid, NotFound
from .repository import Entry, File, Repository
from .repository import open as open_repository

FAMILIES = ("models", "datasets", "spaces", "trees")
#: The branch that is meant when none is named.
MAIN = "main"


class Place(NamedTuple):
    """What a path stands for: a folder of names, or a path of a revision."""

    #: The folder, or the name with its revision as the path spells it.
    above: str
    #: ``NAME@REV`` where the path reaches into a revision; else ``None``.
    target: Optional[str] = None
    #: The path in that revision, empty for its root.
    inside: str = ""

    def of(self, inside: str) -> str:
        """A path of the same revision, as this file system spells it."""
        return f"{self.above}/{inside}" if inside else self.above

    def named(self) -> str:
        """As ``mmh`` spells it: ``NAME@REV:PATH``."""
        return f"{self.target}:{self.inside}" if self.inside else str(self.target)


class MMHTransaction(Transaction):
    """Everything that happens in it is one commit for each branch."""

    fs: MMHFileSystem

    def complete(self, commit: bool = True) -> None:
        """Commits, or forgets what was to be."""
        fs, files = self.fs, list(self.files)
        try:
            for file in files:
                if commit:
                    file.close()
                else:
                    file.discard()
            for change in fs._changes.values() if commit else ():
                change.commit()
        finally:
            for change in fs._changes.values():
                change.discard()
            fs._changes = {}
            self.files.clear()
            fs._intrans = False
            fs._transaction = None
            self.fs = None
            fs.invalidate_cache()


class MMHFileSystem(AbstractFileSystem):
    """A repository as a file system."""

    protocol = "mmh"
    root_marker = ""
    transaction_type = MMHTransaction
    #: As long as a chunk of a tensor: shorter reads cost as much.
    blocksize = 4 << 20

    def __init__(
        self,
        repository: Union[None, str, "os.PathLike[str]", Repository] = None,
        message: Optional[str] = None,
        **options: Any,
    ) -> None:
        """``repository``: its place, as for :func:`mmh.open`, which the other options are for.
        ``message``: why things are written."""
        own = {name: options.pop(name) for name in _OPENING if name in options}
        super().__init__(**options)
        opened = isinstance(repository, Repository)
        self.repository = repository if opened else open_repository(repository, **own)
        self.message = message
        self._known: Optional[Dict[str, List[str]]] = None
        self._changes: Dict[str, Any] = {}

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = os.fspath(path)
        text = text[len("mmh://") :] if text.startswith("mmh://") else text
        parts = [part for part in text.split("/") if part]
        if parts and parts[0] not in FAMILIES:
            parts.insert(0, "models")
        return "/".join(parts)

    def unstrip_protocol(self, name: str) -> str:
        return f"mmh://{self._strip_protocol(name)}"

    # Names.

    def invalidate_cache(self, path: Optional[str] = None) -> None:
        """Forgets which names there are; what is in them is never remembered."""
        self._known = None
        super().invalidate_cache(path)

    def _names(self, fresh: bool = False) -> Dict[str, List[str]]:
        """The revisions of each full name."""
        if self._known is None or fresh:
            self._known = {
                row["name"]: [*row["branches"], *row["tags"]] for row in self.repository.names()
            }
        return self._known

    def _place(self, path: str, to_write: bool = False) -> Place:
        """Finds where the name ends in a path."""
        path = self._strip_protocol(path)
        for fresh in (False, True):
            known = self._names(fresh)
            found = _split(path, known)
            if found is not None:
                return found
        if to_write:
            return _new(path)
        raise NotFound(f"mmh://{path} is not there")

    def _list_names(self, folder: str) -> List[Dict[str, Any]]:
        if not folder:
            return [_folder(family) for family in FAMILIES]
        found: Dict[str, None] = {}
        for full, revisions in sorted(self._names(fresh=True).items()):
            if not full.startswith(f"{folder}/"):
                continue
            below = full[len(folder) + 1 :].split("/")
            path = f"{folder}/{below[0]}"
            is_folder = any(other.startswith(f"{path}/") for other in self._known or ())
            if len(below) > 1:
                found[path] = None
                continue
            if MAIN in revisions or is_folder:
                found[path] = None
            for rev in sorted(revisions):
                if rev != MAIN or is_folder:
                    found[f"{path}@{rev.replace('/', '%2F')}"] = None
        return [_folder(path) for path in found]

    # Reading.

    def info(self, path: str, **_: Any) -> Dict[str, Any]:
        """Name, size and type; ``id`` is the same for the same content."""
        place = self._place(path)
        if place.target is None:
            return _folder(place.above)
        return _row(place.of(place.inside), self.repository.info(place.named()))

    def ls(self, path: str, detail: bool = True, **_: Any) -> List[Any]:
        """What is in a folder; a file alone."""
        place = self._place(path)
        if place.target is None:
            rows = self._list_names(place.above)
        else:
            entries = self.repository.ls(place.named())
            alone = len(entries) == 1 and entries[0].path == place.inside and place.inside
            below = "" if alone or not place.inside else f"{place.inside}/"
            rows = [_row(place.of(f"{below}{entry.path}"), entry) for entry in entries]
        return rows if detail else [row["name"] for row in rows]

    def find(
        self,
        path: str,
        maxdepth: Optional[int] = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """All files below a path: of a revision by one walk of its tree."""
        try:
            place = self._place(path)
        except NotFound:
            return {} if detail else []
        if place.target is None or maxdepth is not None:
            return super().find(path, maxdepth, withdirs, detail, **kwargs)
        try:
            own = self.repository.info(place.named())
        except NotFound:
            return {} if detail else []
        found = {}
        if own.type == "directory":
            below = f"{place.inside}/" if place.inside else ""
            for entry in self.repository.ls(place.named(), recursive=True):
                if withdirs or entry.type != "directory":
                    row = _row(place.of(f"{below}{entry.path}"), entry)
                    found[row["name"]] = row
        if withdirs or own.type != "directory":
            row = _row(place.of(place.inside), own)
            found[row["name"]] = row
        return dict(sorted(found.items())) if detail else sorted(found)

    def ukey(self, path: str) -> str:
        """Changes when the content does, and only then."""
        return str(self.info(path)["id"])

    def checksum(self, path: str) -> int:
        """As :meth:`ukey`, as a number."""
        import hashlib

        return int.from_bytes(hashlib.sha256(self.ukey(path).encode()).digest()[:8], "big")

    def _target(self, path: str) -> str:
        place = self._place(path)
        if place.target is None or not place.inside:
            raise IsADirectoryError(f"mmh://{self._strip_protocol(path)} is a folder")
        return place.named()

    def _file(self, path: str) -> File:
        try:
            return cast(File, self.repository.open(self._target(path), buffering=0))
        except Invalid:
            if self.isdir(path):
                raise IsADirectoryError(f"{path} is a folder") from None
            raise

    def cat_file(
        self, path: str, start: Optional[int] = None, end: Optional[int] = None, **_: Any
    ) -> bytes:
        """Bytes ``start`` to ``end`` of a file; negative ones count from its end."""
        return _sliced(self._file(path), start, end)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Union[int, None, Sequence[Optional[int]]],
        ends: Union[int, None, Sequence[Optional[int]]],
        max_gap: Optional[int] = None,
        on_error: str = "return",
        **_: Any,
    ) -> List[Any]:
        """Ranges of many files, each of which is opened once."""
        if isinstance(paths, str):
            raise TypeError("paths is a list")
        first = [starts] * len(paths) if starts is None or isinstance(starts, int) else starts
        last = [ends] * len(paths) if ends is None or isinstance(ends, int) else ends
        if len(first) != len(paths) or len(last) != len(paths):
            raise ValueError("paths, starts and ends are of different lengths")
        files: Dict[str, Any] = {}
        out: List[Any] = []
        for path, start, end in zip(paths, first, last):
            try:
                if path not in files:
                    files[path] = self._file(path)
                out.append(_sliced(files[path], start, end))
            except Exception as error:
                if on_error != "return":
                    raise
                out.append(error)
        return out

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Union[None, int, str] = None,
        autocommit: bool = True,
        cache_options: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> Any:
        if mode == "rb":
            raw = self._file(path)
            size = self.blocksize if block_size in (None, "default") else block_size
            return MMHFile(
                self, path, mode, size, cache_options=cache_options, size=raw.size, raw=raw, **kwargs
            )
        if mode not in ("wb", "xb"):
            raise NotImplementedError(f"mode {mode}: use rb, wb or xb")
        if mode == "xb" and self.exists(path):
            raise FileExistsError(path)
        place = self._to_write(path)
        return MMHWriting(self, path, place, autocommit)

    # Writing.

    def _to_write(self, path: str) -> Place:
        place = self._place(path, to_write=True)
        if place.target is None or not place.inside:
            raise IsADirectoryError(f"mmh://{self._strip_protocol(path)} is a folder")
        return place

    def _change(self, place: Place, what: Any) -> None:
        """Does something to a branch: now, or when the transaction ends."""
        branch = str(place.target)
        change = self._changes.get(branch)
        if change is None:
            change = self.repository.change(branch, self.message)
        if self._intrans:
            self._changes[branch] = change
            what(change)
            return
        try:
            what(change)
            change.commit()
        finally:
            change.discard()
            self.invalidate_cache()

    def rm_file(self, path: str) -> None:
        """Removes a file."""
        place = self._to_write(path)
        self._change(place, lambda change: change.remove(place.inside))

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rm(
        self, path: Any, recursive: bool = False, maxdepth: Optional[int] = None
    ) -> None:
        """Removes files, and folders with ``recursive``, in one commit; a whole name, too."""
        if maxdepth is not None:
            raise NotImplementedError("rm with maxdepth")
        wanted = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        places: Dict[str, List[Place]] = {}
        for one in self._globbed(wanted):
            place = self._place(one)
            if place.target is None:
                raise Invalid(f"mmh://{place.above} is a folder of names; remove them one by one")
            if not recursive and self.isdir(one):
                raise IsADirectoryError(f"{one} is a folder; remove it with recursive=True")
            places.setdefault(place.target, []).append(place)
        for target, below in places.items():
            if any(not place.inside for place in below):
                self.repository.rm(target if "@" in below[0].above else target.split("@")[0])
                self.invalidate_cache()
                continue

            def remove(change: Any, below: List[Place] = below) -> None:
                for place in below:
                    change.remove(place.inside)

            self._change(below[0], remove)

    def _globbed(self, paths: Iterable[Any]) -> List[str]:
        found: Dict[str, None] = {}
        for path in paths:
            text = os.fspath(path)
            for one in self.glob(text) if any(c in text for c in "*?[") else [text]:
                found[one] = None
        return list(found)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copies a file without reading it."""
        if self.isdir(path1):
            return
        source, place = self._target(path1), self._to_write(path2)
        self._change(place, lambda change: change.copy(source, place.inside))

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Moves a file or folder: one commit, if both are in one branch."""
        source, place = self._place(path1), self._to_write(path2)
        if source.target is None or not source.inside:
            raise Invalid(f"{path1} is a name; make a branch or tag of it instead")
        self.repository.info(source.named())

        def move(change: Any) -> None:
            change.copy(source.named(), place.inside)
            if source.target == place.target:
                change.remove(source.inside)

        self._change(place, move)
        if source.target != place.target:
            self._change(source, lambda change: change.remove(source.inside))

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Nothing to do: folders are there when files are in them."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing to do: folders are there when files are in them."""

    def rmdir(self, path: str) -> None:
        """Folders go with their last file."""
        if self.exists(path):
            raise Conflict(f"{path} is not empty")

    def created(self, path: str) -> Any:
        """Files have no times of their own: that of the snapshot."""
        return self.modified(path)

    def modified(self, path: str) -> Any:
        """Files have no times of their own: that of the snapshot."""
        import datetime

        place = self._place(path)
        if place.target is None:
            raise NotImplementedError("a folder of names has no time")
        time = self.repository.resolve(place.target)["time_ms"] / 1000
        return datetime.datetime.fromtimestamp(time, tz=datetime.timezone.utc)


class MMHFile(AbstractBufferedFile):
    """A file that is open for reading."""

    def __init__(self, fs: MMHFileSystem, path: str, *args: Any, raw: Any, **kwargs: Any) -> None:
        self._raw = raw
        super().__init__(fs, path, *args, **kwargs)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._raw.read_at(start, end - start)


class MMHWriting(AbstractBufferedFile):
    """A file that is open for writing. It waits on this machine until it is closed."""

    def __init__(self, fs: MMHFileSystem, path: str, place: Place, autocommit: bool) -> None:
        self._place = place
        self._staged = tempfile.NamedTemporaryFile(prefix="mmh-write-", delete=False)
        super().__init__(fs, path, "wb", MMHFileSystem.blocksize, autocommit=autocommit)

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self._abandon()
        self.close()

    def __del__(self) -> None:
        # Who did not close it did not finish it.
        if not self.closed:
            self._abandon()

    def _abandon(self) -> None:
        self.discard()
        self.closed = True

    def _initiate_upload(self) -> None:
        pass

    def _upload_chunk(self, final: bool = False) -> bool:
        self.buffer.seek(0)
        self._staged.write(self.buffer.read())
        if final:
            self._staged.close()
            try:
                self._fs_change()
            finally:
                self.discard()
        return True

    def _fs_change(self) -> None:
        inside = self._place.inside
        self.fs._change(self._place, lambda change: change.put(self._staged.name, inside))

    def commit(self) -> None:
        """The transaction commits."""

    def discard(self) -> None:
        """Forgets what was written; the transaction has a link of its own."""
        self._staged.close()
        if os.path.exists(self._staged.name):
            os.unlink(self._staged.name)


#: Options of :func:`mmh.open`.
_OPENING = ("key", "passphrase", "author", "threads", "level", "log", "untrusted", "memory")


def _folder(path: str) -> Dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


def _row(name: str, entry: Entry) -> Dict[str, Any]:
    row: Dict[str, Any] = {"name": name, "size": entry.size, "type": entry.type, "id": entry.id}
    if entry.type == "file":
        row["executable"] = entry.executable
    if entry.type == "link":
        row["destination"] = entry.target
    return row


def _sliced(file: File, start: Optional[int], end: Optional[int]) -> bytes:
    first, last, _ = slice(start, end).indices(file.size)
    return file.read_at(first, max(last - first, 0))


def _split(path: str, known: Dict[str, List[str]]) -> Optional[Place]:
    """Where the name ends, among the names that are known; the rules are those of `mmh mount`: a
    name that others lie below is the folder of those, and its own files are in ``NAME@main``."""
    if not path or path in FAMILIES:
        return Place(path)
    parts = path.split("/")
    for n in range(2, len(parts) + 1):
        above, inside = "/".join(parts[:n]), "/".join(parts[n:])
        full, at, rev = above.partition("@")
        if at:
            if full in known:
                return Place(above, f"{full}@{rev.replace('%2F', '/')}", inside)
            return None
        if any(name.startswith(f"{full}/") for name in known):
            continue
        if full in known:
            return Place(above, f"{full}@{MAIN}", inside) if MAIN in known[full] else None
        return None
    return Place(path)


def _new(path: str) -> Place:
    """Where the name ends in a path that is to be written: at its revision, else after
    ``ORG/NAME``, and in trees after one part."""
    parts = path.split("/")
    n = next((n for n, part in enumerate(parts) if "@" in part), None)
    n = (1 if parts[0] == "trees" else 2) if n is None else n
    above, inside = "/".join(parts[: n + 1]), "/".join(parts[n + 1 :])
    full, _, rev = above.partition("@")
    return Place(above, f"{full}@{rev.replace('%2F', '/') or MAIN}", inside)

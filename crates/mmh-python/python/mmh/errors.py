"""What goes wrong, by what the caller can do about it.

Each kind is the same at every door: the command line's exit status (``exit_code``), HTTP, Python.
Where the builtin exceptions have a word for it, the kind is one of those as well, so that code which
knows nothing of mmh (``except FileNotFoundError``) works.
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional


class Error(Exception):
    """Everything that mmh raises by itself."""

    #: The kind in lower case with underscores, as it stands in ``mmh --json``.
    kind: ClassVar[str] = "internal"
    #: The exit status of the command line.
    exit_code: ClassVar[int] = 1
    #: What was done before it went wrong, where there is something to say.
    report: Optional[Any] = None


class NotFound(Error, FileNotFoundError):
    """It is not there: look elsewhere."""

    kind = "not_found"
    exit_code = 3


class Invalid(Error, ValueError):
    """The request makes no sense: correct it."""

    kind = "invalid"
    exit_code = 2


class Unsupported(Error, NotImplementedError):
    """A newer version, or another build, may do it."""

    kind = "unsupported"
    exit_code = 4


class Denied(Error, PermissionError):
    """The key, the signatures or the permissions at hand do not allow it."""

    kind = "denied"
    exit_code = 5


class Conflict(Error):
    """Somebody else was first, or something is in the way: look again, and try again."""

    kind = "conflict"
    exit_code = 6


class Unavailable(Error, OSError):
    """A disk or a network does not answer: try later."""

    kind = "unavailable"
    exit_code = 7


class Corrupt(Error, OSError):
    """Stored bytes are not what they should be: repair, or take another copy."""

    kind = "corrupt"
    exit_code = 8


class Internal(Error):
    """A fault of mmh: report it."""


class Cancelled(Unavailable):
    """Another thread was asked to stop (Ctrl-C), and this work with it."""

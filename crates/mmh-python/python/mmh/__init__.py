"""One content-addressed repository for models, checkpoints and datasets.

>>> import mmh
>>> repo = mmh.open("store")
>>> repo.add("~/models/minilm", to="acme/minilm")
>>> with repo.safe_open("acme/minilm:model.safetensors") as f:
...     weight = f.get_tensor("encoder.layer.0.attention.self.query.weight")

With fsspec installed, ``mmh://acme/minilm/config.json`` is a path for pandas, pyarrow and others.
docs/PYTHON.md has the whole of it.
"""

from __future__ import annotations

from ._native import VERSION as __version__
from .change import Change
from .errors import Cancelled, Conflict, Corrupt, Denied, Error, Internal, Invalid
from .errors import NotFound, Unavailable, Unsupported
from .repository import Entry, File, Repository, init, open
from .tensors import RawDtypeWarning, TensorFile, TensorInfo, TensorSlice, safe_open

__all__ = [
    "Cancelled", "Change", "Conflict", "Corrupt", "Denied", "Entry", "Error", "File", "Internal",
    "Invalid", "NotFound", "RawDtypeWarning", "Repository", "TensorFile", "TensorInfo",
    "TensorSlice", "Unavailable", "Unsupported", "__version__", "init", "open", "safe_open",
]

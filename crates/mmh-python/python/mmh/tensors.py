"""Tensors by name, out of any container that mmh knows, without a download of the whole file."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple, Union

from . import _native
from .errors import Invalid, NotFound, Unsupported

if TYPE_CHECKING:
    from .repository import Repository

Path = Union[str, "os.PathLike[str]"]

#: Element types that numpy has by itself.
_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
    "C128": "<c16",
}
#: Element types that the package ml_dtypes brings, and what stands for them without it.
_MORE = {
    "BF16": ("bfloat16", "<u2"), "F8_E4M3": ("float8_e4m3fn", "u1"),
    "F8_E5M2": ("float8_e5m2", "u1"), "F8_E8M0": ("float8_e8m0fnu", "u1"),
}
_TORCH = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "C64": "complex64", "C128": "complex128",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
}
_FRAMEWORKS = {
    "numpy": "numpy", "np": "numpy", "pt": "torch", "torch": "torch", "pytorch": "torch",
    "raw": "raw",
}


class RawDtypeWarning(UserWarning):
    """A tensor came as integers with the bits of its elements, for want of its element type."""


@dataclass(frozen=True)
class TensorInfo:
    """What a container says of a tensor."""

    name: str
    #: ``F32``, ``BF16``, ``Q4_K``: the names of safetensors and GGUF.
    dtype: str
    #: Outermost dimension first.
    shape: Tuple[int, ...]
    #: Where its first byte lies in the file.
    offset: int
    #: Its length in bytes.
    nbytes: int


class TensorFile:
    """A file with tensors that are read by name. It reads what is asked for, and the header once.

    ``f.keys()``, ``f.metadata()``, ``f.get_tensor(name)`` and ``f.get_slice(name)[…]`` are those of
    ``safetensors.safe_open``. Blocks of quantised numbers (``Q4_K`` and its like) and packed 4-bit
    numbers come as rows of bytes; ``f.info(name)`` says what they are.
    """

    def __init__(
        self, native: _native.File, name: str, framework: str = "numpy", device: Any = "cpu"
    ) -> None:
        if framework not in _FRAMEWORKS:
            raise Invalid(f"framework `{framework}`: use numpy, pt or raw")
        self._kind = _FRAMEWORKS[framework]
        self._makers = {"numpy": _numpy, "torch": _torch, "raw": _raw}[self._kind]()
        self._file: Optional[_native.File] = native
        self._device = device
        #: The path or target that it was opened by.
        self.name = name
        #: The container that was recognised.
        self.container = native.container
        rows = native.tensors()
        if not rows and native.container in ("unknown", "text"):
            why = native.note or "no container that mmh knows"
            raise Invalid(f"no tensors in `{name}`: {why}")
        self._infos: Dict[str, TensorInfo] = {}
        for key, dtype, shape, offset, nbytes in rows:
            # Two arrays of one name are told apart by where they lie.
            key = key if key not in self._infos else f"{key}@{offset}"
            self._infos[key] = TensorInfo(key, dtype, tuple(shape), offset, nbytes)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; tensors that were read stay."""
        self._file = None

    def __len__(self) -> int:
        return len(self._infos)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def keys(self) -> List[str]:
        """Names, sorted."""
        return sorted(self._infos)

    def offset_keys(self) -> List[str]:
        """Names in the order of the file: the fastest to read all of them."""
        return sorted(self._infos, key=lambda name: self._infos[name].offset)

    def metadata(self) -> Optional[Dict[str, str]]:
        """The metadata of a safetensors header; ``None`` without any."""
        return self._native.metadata() or None

    def info(self, name: str) -> TensorInfo:
        """What is known of a tensor, unread."""
        if name not in self._infos:
            raise NotFound(f"no tensor `{name}` in `{self.name}`")
        return self._infos[name]

    def get_tensor(self, name: str) -> Any:
        """Reads a tensor; memory that nobody else has."""
        info = self.info(name)
        data = self._native.read_array(info.offset, info.nbytes)
        return self._made(info, data, _shape(info))

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor of which parts are read: ``f.get_slice(name)[10:20, :64]``."""
        return TensorSlice(self, self.info(name))

    @property
    def _native(self) -> _native.File:
        if self._file is None:
            raise Invalid("the file is closed")
        return self._file

    def _made(self, info: TensorInfo, data: bytearray, shape: Tuple[int, ...]) -> Any:
        made = self._makers(info.dtype, data, shape)
        return made.to(self._device) if self._kind == "torch" and self._device != "cpu" else made


class TensorSlice:
    """A tensor that is read by parts."""

    def __init__(self, file: TensorFile, info: TensorInfo) -> None:
        self._of, self._info = file, info
        self._shape = _shape(info)

    def get_shape(self) -> List[int]:
        """Its dimensions; of blocks, those of the rows of bytes."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """Its element type as its container names it."""
        return self._info.dtype

    def __getitem__(self, index: Any) -> Any:
        """Reads the run of rows that the leading dimensions of ``index`` choose, and cuts the rest
        out of it. Integers and slices forwards are understood."""
        if self._of._kind == "raw":
            raise Unsupported("parts of a tensor need numpy or torch")
        shape, wanted = self._shape, _spelled(index, len(self._shape))
        size = self._info.nbytes // max(prod(shape), 1)
        skip, at = 0, 0
        while at < len(shape) and isinstance(wanted[at], int):
            skip += _within(wanted[at], shape[at]) * prod(shape[at + 1 :])
            at += 1
        rest: List[Any] = []
        read = shape[at:]
        if at < len(shape):
            first, last, step = _forwards(wanted[at], shape[at])
            skip += first * prod(shape[at + 1 :])
            read = (max(last - first, 0), *shape[at + 1 :])
            rest = [slice(None, None, step), *wanted[at + 1 :]]
            rest = [one if isinstance(one, int) else slice(*_bounds(one, read[n]))
                    for n, one in enumerate(rest)]
            for one, length in zip(rest, read):
                if isinstance(one, int):
                    _within(one, length)
        data = self._of._native.read_array(self._info.offset + skip * size, prod(read) * size)
        all_read = self._of._made(self._info, data, read)
        if all(one == slice(0, n, 1) for one, n in zip(rest, read)):
            return all_read
        cut = all_read[tuple(rest)]
        # A view of a few columns would hold on to all that was read for it.
        return cut.copy() if self._of._kind == "numpy" else cut.clone()


def safe_open(
    path: Path,
    framework: str = "numpy",
    device: Any = "cpu",
    *,
    repository: Union[None, Path, Repository] = None,
) -> TensorFile:
    """Opens a file for its tensors, like ``safetensors.safe_open``.

    ``path``: ``NAME[@REV]:PATH`` of a repository (``repository``, else the one of the settings or the
    nearest folder above), of which only the chunks that are needed are read, each compared with its
    digest; or a plain file of this machine. ``framework``: ``numpy``, ``pt`` or ``raw`` (a
    ``memoryview``). safetensors, GGUF, npz, npy, PyTorch and whatever else mmh finds tensors in.
    """
    text = os.fspath(path)
    target = text[len("mmh://") :] if text.startswith("mmh://") else text
    if repository is None and target is text and os.path.isfile(os.path.expanduser(text)):
        plain = _native.open_plain(os.path.expanduser(text))
        return TensorFile(plain, text, framework, device)
    from .repository import Repository, open

    repo = repository if isinstance(repository, Repository) else open(repository)
    return repo.safe_open(target, framework, device)


def _shape(info: TensorInfo) -> Tuple[int, ...]:
    """The shape as it is handed out: blocks have no elements of their own, but rows of bytes."""
    if info.dtype in _NUMPY or info.dtype in _MORE:
        return info.shape
    rows = prod(info.shape[:-1])
    if rows and info.nbytes % rows == 0:
        return (*info.shape[:-1], info.nbytes // rows)
    return (info.nbytes,)


def _spelled(index: Any, rank: int) -> List[Any]:
    """One integer or slice for each dimension."""
    wanted = list(index) if isinstance(index, tuple) else [index]
    if any(one is Ellipsis for one in wanted):
        at = next(n for n, one in enumerate(wanted) if one is Ellipsis)
        wanted[at : at + 1] = [slice(None)] * (rank - len(wanted) + 1)
    if len(wanted) > rank:
        raise IndexError(f"{len(wanted)} indices for {rank} dimensions")
    wanted += [slice(None)] * (rank - len(wanted))
    for n, one in enumerate(wanted):
        if hasattr(one, "__index__"):
            wanted[n] = one.__index__()
        elif not isinstance(one, slice):
            raise TypeError("only integers, slices and `...` choose parts of a tensor")
    return wanted


def _within(index: int, length: int) -> int:
    if not -length <= index < length:
        raise IndexError(f"{index} is out of bounds for {length}")
    return index % length


def _forwards(one: slice, length: int) -> Tuple[int, int, int]:
    first, last, step = one.indices(length)
    if step < 1:
        raise IndexError("a tensor is read forwards: use steps of 1 and more")
    return first, last, step


def _bounds(one: slice, length: int) -> Tuple[int, int, int]:
    first, last, step = _forwards(one, length)
    return first, max(first, last), step


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise Unsupported("numpy is not installed; `framework` may be pt or raw") from error

    def made(dtype: str, data: bytearray, shape: Tuple[int, ...]) -> Any:
        kind = _numpy_type(dtype)
        return numpy.frombuffer(data, kind).reshape(shape) if data else numpy.empty(shape, kind)

    return made


def _numpy_type(dtype: str) -> Any:
    if dtype in _NUMPY:
        return _NUMPY[dtype]
    if dtype not in _MORE:
        return "u1"
    name, instead = _MORE[dtype]
    try:
        import ml_dtypes

        return getattr(ml_dtypes, name)
    except (ImportError, AttributeError):
        what = f"{dtype} comes as integers with its bits: numpy has it with `pip install ml_dtypes`"
        warnings.warn(what, RawDtypeWarning, stacklevel=5)
        return instead


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise Unsupported("torch is not installed; `framework` may be numpy or raw") from error

    def made(dtype: str, data: bytearray, shape: Tuple[int, ...]) -> Any:
        kind = getattr(torch, _TORCH.get(dtype, "uint8"), None)
        if kind is None:
            raise Unsupported(f"this torch has no {dtype}")
        if not data:
            return torch.empty(shape, dtype=kind)
        return torch.frombuffer(data, dtype=kind).reshape(shape)

    return made


def _raw() -> Any:
    def made(_dtype: str, data: bytearray, _shape: Tuple[int, ...]) -> Any:
        return memoryview(data)

    return made

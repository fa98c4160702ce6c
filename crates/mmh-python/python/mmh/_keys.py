"""Keys as they are handed in: texts, or the files that hold them."""

from __future__ import annotations

import os
from typing import Dict, List, Mapping, Optional, Sequence, Union

from .errors import Invalid

Path = Union[str, "os.PathLike[str]"]
#: An identity of age, a seed (``mmh1…``), or a file that holds one; or several.
Key = Union[Path, Sequence[Path]]

#: Longest file with a secret that is read, in bytes.
_SECRET_LEN_MAX = 1 << 20
_IDENTITY = "AGE-SECRET-KEY-"
_SEED = "mmh1"


def _is_text(key: Path) -> bool:
    return isinstance(key, str) and key.lstrip().startswith((_IDENTITY, _SEED))


def _secret(path: Path) -> str:
    with open(os.path.expanduser(path), "rb") as file:
        text = file.read(_SECRET_LEN_MAX + 1)
    if len(text) > _SECRET_LEN_MAX:
        raise Invalid(f"{os.fspath(path)} is too long for a secret")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{os.fspath(path)} holds no text") from None


def _line(text: str) -> str:
    """A passphrase is a file without its last line end."""
    text = text[:-1] if text.endswith("\n") else text
    return text[:-1] if text.endswith("\r") else text


def _list(key: Optional[Key]) -> List[Path]:
    if key is None:
        return []
    if isinstance(key, (str, os.PathLike)):
        return [key]
    return list(key)


def is_secret(key: Optional[Key]) -> bool:
    """Whether a key is the secret itself and not the name of a file."""
    return any(_is_text(one) for one in _list(key))


def texts(
    key: Optional[Key], passphrase: Optional[str], variables: Mapping[str, str]
) -> Dict[str, object]:
    """What the native half takes. Without a key, files that the environment names are read."""
    identities: List[str] = []
    seed: Optional[str] = None
    keys = _list(key)
    if not keys and passphrase is None:
        named = [variables.get("MMH_IDENTITY"), variables.get("MMH_SEED_FILE")]
        keys = [name for name in named if name]
        file = variables.get("MMH_PASSPHRASE_FILE")
        passphrase = _line(_secret(file)) if file else None
    for one in keys:
        text = str(one) if _is_text(one) else _secret(one)
        if text.lstrip().startswith(_SEED):
            seed = text
        else:
            identities.append(text)
    return {"identities": identities, "passphrase": passphrase, "seed": seed}

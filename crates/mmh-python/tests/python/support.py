"""What the tests share: folders of their own, models, and how a file of safetensors is written."""

import json
import pathlib
import random
import shutil
import struct
import tempfile
import unittest

import mmh


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def safetensors(tensors, metadata=None) -> bytes:
    """A file of `{name: (dtype, shape, bytes)}`."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Case(unittest.TestCase):
    """A test with a folder, and in it a repository `store`."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mmh-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.repo = mmh.init(self.folder / "store", author="me")

    def file(self, path: str, content: bytes) -> pathlib.Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def added(self, name: str, files) -> None:
        """A name with these files."""
        root = self.folder / "in" / name.replace("/", "-")
        for path, content in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        self.repo.add(root, name, replace=True)

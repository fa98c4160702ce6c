"""Tensors of every container: those that were written, from a repository and from a plain file; and of
files that were damaged nothing but an exception of ours or bytes that are there."""

import json
import os
import pathlib
import random
import unittest

import mmh
from support import Case

SAMPLES = os.environ.get("MMH_SAMPLES")


@unittest.skipIf(SAMPLES is None, "there are no samples: `cargo test` writes them")
class Containers(Case):
    def setUp(self):
        super().setUp()
        self.samples = pathlib.Path(SAMPLES)
        self.expected = json.loads((self.samples / "expected.json").read_text())

    def doors(self, name, content):
        self.added("acme/m", {name: content})
        yield lambda framework: self.repo.safe_open(f"acme/m:{name}", framework)
        path = self.file(name, content)
        yield lambda framework: mmh.safe_open(path, framework)

    def test_every_tensor_is_there_with_its_bytes(self):
        for name, tensors in self.expected.items():
            content = (self.samples / name).read_bytes()
            for door in self.doors(name, content):
                with door("raw") as f:
                    read = {bytes(f.get_tensor(key)).hex(): f.info(key) for key in f}
                for tensor in tensors:
                    info = read.get(tensor["data"])
                    self.assertIsNotNone(info, (name, tensor["name"]))
                    at = slice(info.offset, info.offset + info.nbytes)
                    self.assertEqual(content[at].hex(), tensor["data"], name)
                    # Some containers leave the sign, or all of the shape, to their readers.
                    self.assertEqual(info.dtype[-2:], tensor["dtype"][-2:], name)

    def test_both_doors_say_the_same(self):
        for name in self.expected:
            content = (self.samples / name).read_bytes()
            stored, plain = (door("numpy") for door in self.doors(name, content))
            with stored, plain:
                self.assertEqual(stored.container, plain.container, name)
                self.assertEqual(stored.keys(), plain.keys(), name)
                self.assertEqual(stored.metadata(), plain.metadata(), name)
                for key in stored:
                    self.assertEqual(stored.info(key), plain.info(key), (name, key))
                    left, right = stored.get_tensor(key), plain.get_tensor(key)
                    self.assertEqual((left.dtype, left.shape), (right.dtype, right.shape))
                    self.assertEqual(left.tobytes(), right.tobytes(), (name, key))
                    rows = stored.get_slice(key)
                    if rows.get_shape():
                        self.assertEqual(rows[:1].tobytes(), left[:1].tobytes(), (name, key))

    def read_all(self, path):
        try:
            with mmh.safe_open(path, "raw") as f:
                for key in f:
                    info = f.info(key)
                    self.assertLessEqual(info.offset + info.nbytes, path.stat().st_size)
                    self.assertEqual(len(f.get_tensor(key)), info.nbytes)
                return True
        except mmh.Error as error:
            self.assertNotIsInstance(error, mmh.Internal)
            return False

    def test_damaged_files_of_every_container(self):
        rng = random.Random(5)
        read = 0
        for name in self.expected:
            content = (self.samples / name).read_bytes()
            for round in range(40):
                hurt = bytearray(content)
                if round % 2:
                    del hurt[rng.randrange(len(hurt)) :]
                else:
                    # Where headers are: at the beginning, or at the end.
                    near = rng.randrange(min(len(hurt), 600))
                    at = near if rng.random() < 0.5 else len(hurt) - 1 - near
                    hurt[at] ^= rng.randrange(1, 256)
                read += self.read_all(self.file(name, bytes(hurt)))
        self.assertGreater(read, 0)


if __name__ == "__main__":
    unittest.main()

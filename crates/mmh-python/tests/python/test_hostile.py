"""Damaged repositories and files that lie: an exception of ours, never a crash, a hang or wrong bytes."""

import json
import os
import pathlib
import random
import shutil
import struct
import unittest

import mmh
from support import Case, noise, safetensors


class Damage(Case):
    def test_flipped_bits_raise_and_never_give_other_bytes(self):
        content = noise(300_000)
        tensors = {"w": ("F32", (1000, 50), noise(200_000, 2)), "b": ("U8", (9,), noise(9, 3))}
        self.added("acme/m", {"a": content, "m.safetensors": safetensors(tensors)})
        store = pathlib.Path(self.repo.place)
        files = sorted(path for path in store.rglob("*") if path.is_file())
        rng = random.Random(1)
        raised = 0
        for round in range(60):
            victim = rng.choice(files)
            whole = victim.read_bytes()
            hurt = bytearray(whole)
            if round % 3 == 0 or not hurt:
                del hurt[rng.randrange(len(hurt) + 1) :]
            else:
                # More than its parity mends.
                at = rng.randrange(len(hurt))
                for n in range(at, min(at + rng.choice([1, 60_000]), len(hurt))):
                    hurt[n] ^= rng.randrange(1, 256)
            os.chmod(victim, 0o644)
            victim.write_bytes(hurt)
            try:
                repo = mmh.open(store, threads=1)
                self.assertEqual(repo.read("acme/m:a"), content)
                with repo.safe_open("acme/m:m.safetensors", "raw") as f:
                    for name in f:
                        self.assertEqual(f.get_tensor(name), tensors[name][2])
                repo.ls("acme/m", recursive=True)
                repo.stat("acme/m")
            except mmh.Error as error:
                self.assertNotIsInstance(error, mmh.Internal)
                raised += 1
            victim.write_bytes(whole)
        self.assertGreater(raised, 5)
        self.assertEqual(mmh.open(store).read("acme/m:a"), content)

    def test_a_lost_pack_is_said(self):
        self.added("acme/m", {"a": noise(100_000)})
        store = pathlib.Path(self.repo.place)
        shutil.rmtree(store / "mmh/packs")
        with self.assertRaises(mmh.Error) as caught:
            mmh.open(store).read("acme/m:a")
        self.assertIn(caught.exception.kind, ("corrupt", "not_found"))

    def test_what_is_no_repository(self):
        for place in [self.folder, self.file("plain", b"x"), self.file("x.mmh", noise(1000))]:
            with self.assertRaises(mmh.Error):
                mmh.open(place)
        for place in ["s3://", "gs://x", "no-such://x/y", "mmhs://pin@host:0/x", "\0"]:
            with self.assertRaises((mmh.Error, ValueError), msg=place):
                mmh.open(place, threads=1)


class Files(Case):
    """What a container claims is compared with the file, in the repository and outside."""

    HEADERS = [
        b"",
        b"{}",
        b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":1}',
        b'{"__metadata__":{"x":1}}',
        b"[" * 10_000,
        b'{"\xff":1}',
    ]

    def attack(self, path, content):
        self.file(path, content)
        try:
            with mmh.safe_open(self.folder / path, "raw") as f:
                for name in f:
                    self.assertEqual(len(f.get_tensor(name)), f.info(name).nbytes)
        except mmh.Error as error:
            self.assertNotIsInstance(error, mmh.Internal)
        self.added("acme/m", {path: content})
        self.assertEqual(self.repo.read(f"acme/m:{path}"), content)
        try:
            with self.repo.safe_open(f"acme/m:{path}", "raw") as f:
                for name in f:
                    self.assertEqual(len(f.get_tensor(name)), f.info(name).nbytes)
        except mmh.Error as error:
            self.assertNotIsInstance(error, mmh.Internal)

    def test_headers_that_lie(self):
        for header in self.HEADERS:
            self.attack("m.safetensors", struct.pack("<Q", len(header)) + header + bytes(8))
        for length in [0, 1, 2**63, 2**64 - 1, 100 << 20]:
            self.attack("m.safetensors", struct.pack("<Q", length) + b"{}" + bytes(8))

    def test_cut_and_flipped_models(self):
        model = safetensors({"a": ("F32", (2, 2), noise(16)), "b": ("U8", (3,), noise(3))})
        rng = random.Random(2)
        for n in range(0, len(model), 9):
            self.attack("m.safetensors", model[:n])
            hurt = bytearray(model)
            hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
            self.attack("m.safetensors", bytes(hurt))

    def test_a_claim_allocates_nothing(self):
        self.added("acme/m", {"a": b"1234"})
        native = self.repo._repo.file("acme/m:a")
        for offset, length in [(0, 5), (5, 0), (2**63, 1), (0, 2**62), (2**64 - 1, 2**64 - 1)]:
            self.assertRaises(mmh.Invalid, native.read_array, offset, length)
        self.assertEqual(native.read(0, 2**64 - 1), b"1234")
        self.assertEqual(native.read(2**64 - 1, 2**64 - 1), b"")
        self.assertRaises(OverflowError, native.read, 2**64, 1)

    def test_pickles_are_data(self):
        # A pickle that would make a folder if it were loaded.
        mark = self.folder / "executed"
        evil = b"cos\nmkdir\n(V" + str(mark).encode() + b"\ntR."
        self.attack("pytorch_model.bin", evil)
        self.attack("x.pkl", b"\x80\x02" + evil)
        self.assertFalse(mark.exists())

    def test_metadata_of_any_text(self):
        metadata = {"": "", "é" * 1000: json.dumps({"a": "\u2028\0"}), "k": "\U0001f600"}
        self.file("m.safetensors", safetensors({"a": ("U8", (1,), b"1")}, metadata))
        with mmh.safe_open(self.folder / "m.safetensors", "raw") as f:
            self.assertEqual(f.metadata(), metadata)


if __name__ == "__main__":
    unittest.main()

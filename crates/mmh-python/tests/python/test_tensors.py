"""Tensors by name: the same values as the libraries of each format read, and no more bytes than needed."""

import io
import struct
import sys
import unittest
import warnings
import zipfile
from unittest import mock

import ml_dtypes
import mmh
import numpy as np
import safetensors.numpy
from mmh import tensors as module
from support import Case, noise, safetensors as written

try:
    import torch
except ImportError:
    torch = None

PLAIN = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8"]


def model():
    """A tensor of each element type that both have, one large one, and odd shapes."""
    rng = np.random.default_rng(1)
    arrays = {f"t.{kind}": rng.integers(0, 2, (3, 5)).astype(kind) for kind in PLAIN}
    arrays["bf16"] = rng.standard_normal((7, 4)).astype(ml_dtypes.bfloat16)
    arrays["f8"] = rng.standard_normal((4, 4)).astype(ml_dtypes.float8_e4m3fn)
    arrays["big"] = rng.standard_normal((3000, 700)).astype("f4")
    arrays["scalar"] = np.array(3.5, "f8")
    arrays["empty"] = np.zeros((3, 0, 2), "f4")
    return arrays


def gguf(tensors) -> bytes:
    """A GGUF file of `{name: (type number, dimensions innermost first, bytes)}`."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 0)
    infos, data = b"", b""
    for name, (kind, dims, raw) in tensors.items():
        data += b"\0" * (-len(data) % 32)
        infos += struct.pack("<Q", len(name)) + name.encode()
        infos += struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        infos += struct.pack("<IQ", kind, len(data))
        data += raw
    head += infos
    return head + b"\0" * (-len(head) % 32) + data


class Safetensors(Case):
    def setUp(self):
        super().setUp()
        self.arrays = model()
        content = safetensors.numpy.save(self.arrays, metadata={"format": "np", "é": ""})
        self.added("acme/m", {"model.safetensors": content})
        self.path = self.file("model.safetensors", content)
        self.target = "acme/m:model.safetensors"

    def both(self, framework="numpy"):
        """The file in the repository, and as a plain one."""
        yield self.repo.safe_open(self.target, framework)
        yield mmh.safe_open(self.path, framework)

    def same(self, got, expected):
        self.assertEqual((got.dtype, got.shape), (expected.dtype, expected.shape))
        self.assertEqual(got.tobytes(), expected.tobytes())

    def test_every_tensor_is_what_was_saved(self):
        for file in self.both():
            with file as f:
                self.assertEqual(f.keys(), sorted(self.arrays))
                self.assertEqual((len(f), "big" in f, "none" in f), (len(self.arrays), True, False))
                self.assertEqual(f.metadata(), {"format": "np", "é": ""})
                self.assertEqual(f.container, "safetensors")
                for name in f:
                    self.same(f.get_tensor(name), self.arrays[name])
                offsets = [f.info(name).offset for name in f.offset_keys()]
                self.assertEqual(offsets, sorted(offsets))
                info = f.info("bf16")
                self.assertEqual((info.dtype, info.shape, info.nbytes), ("BF16", (7, 4), 56))
                got = f.get_tensor("big")
                got[0, 0] = 7  # the caller's own memory
                self.assertNotEqual(f.get_tensor("big")[0, 0], 7)
            self.assertRaises(mmh.Invalid, f.get_tensor, "big")
            self.assertRaises(mmh.NotFound, f.info, "none")

    def test_slices_are_those_of_numpy(self):
        choices = [
            np.s_[10:20],
            np.s_[5],
            np.s_[-1],
            np.s_[:, 3:9],
            np.s_[100:300:7, ::2],
            np.s_[5, 6],
            np.s_[5, 600:],
            np.s_[..., -1],
            np.s_[:],
            np.s_[...],
            np.s_[20:10],
            np.s_[2000:9000, -3:],
            np.s_[3, 9:3],
        ]
        for file in self.both():
            big, slices = self.arrays["big"], file.get_slice("big")
            self.assertEqual((slices.get_shape(), slices.get_dtype()), ([3000, 700], "F32"))
            for choice in choices:
                self.same(np.asarray(slices[choice]), np.asarray(big[choice]))
            self.assertIsNone(slices[:, :1].base, "no view of all that was read")
            for name in ["scalar", "empty", "bf16"]:
                self.same(file.get_slice(name)[...], self.arrays[name])
            for choice, kind in [
                (3000, IndexError),
                (-3001, IndexError),
                (np.s_[0, 700], IndexError),
                (np.s_[0:1, 700], IndexError),
                (np.s_[0, 0, 0], IndexError),
                (np.s_[::-1], IndexError),
                ("x", TypeError),
                ([0, 1], TypeError),
            ]:
                with self.assertRaises(kind, msg=str(choice)):
                    slices[choice]

    def test_a_slice_reads_no_more_than_its_rows(self):
        file = self.repo.safe_open(self.target)
        read = []
        native = file._file

        class Counting:
            def read_array(self, offset, length):
                read.append(length)
                return native.read_array(offset, length)

        file._file = Counting()
        file.get_slice("big")[7, 10:20]
        file.get_slice("big")[7:9]
        self.assertEqual(read, [40, 2 * 700 * 4])

    def test_without_ml_dtypes_the_bits_come_and_it_is_said(self):
        hidden = {name: None for name in list(sys.modules) if name.split(".")[0] == "ml_dtypes"}
        with mock.patch.dict(sys.modules, {**hidden, "ml_dtypes": None}):
            with self.assertWarns(mmh.RawDtypeWarning):
                got = self.repo.safe_open(self.target).get_tensor("bf16")
        self.same(got, self.arrays["bf16"].view("u2"))

    def test_raw_memory_and_wrong_frameworks(self):
        with self.repo.safe_open(self.target, "raw") as f:
            self.assertEqual(f.get_tensor("big"), self.arrays["big"].tobytes())
            self.assertRaises(mmh.Unsupported, lambda: f.get_slice("big")[0])
        self.assertRaises(mmh.Invalid, self.repo.safe_open, self.target, "jax")
        with mock.patch.dict(sys.modules, {"torch": None}):
            self.assertRaises(mmh.Unsupported, self.repo.safe_open, self.target, "pt")

    def test_a_name_or_a_path_as_it_is_found(self):
        for path in [self.target, f"mmh://{self.target}"]:
            with mmh.safe_open(path, repository=self.repo.place) as f:
                self.same(f.get_tensor("bf16"), self.arrays["bf16"])
        with mmh.safe_open(str(self.path)) as f:
            self.same(f.get_tensor("bf16"), self.arrays["bf16"])
        # With a repository named, a path is one of it.
        with self.assertRaises(mmh.Error):
            mmh.safe_open(self.path, repository=self.repo)
        with self.assertRaises(mmh.NotFound):
            mmh.safe_open("acme/m:none", repository=self.repo)

    @unittest.skipIf(torch is None, "torch is not installed")
    def test_torch(self):
        for file in self.both("pt"):
            for name, expected in self.arrays.items():
                got = file.get_tensor(name)
                self.assertEqual(tuple(got.shape), expected.shape)
                bits = got.view(torch.uint8) if got.numel() and got.dim() else got
                if got.numel() and got.dim():
                    self.assertEqual(bits.numpy().tobytes(), expected.tobytes(), name)
            part = file.get_slice("big")[10:20, ::3]
            self.assertTrue((part.numpy() == self.arrays["big"][10:20, ::3]).all())


class Others(Case):
    def opened(self, name, content):
        self.added("acme/m", {name: content})
        yield self.repo.safe_open(f"acme/m:{name}")
        yield mmh.safe_open(self.file(name, content))

    def test_npz_and_npy(self):
        arrays = {"a": np.arange(12.0).reshape(3, 4), "b": np.arange(5, dtype="i2")}
        file = io.BytesIO()
        np.savez(file, **arrays)
        for f in self.opened("x.npz", file.getvalue()):
            self.assertEqual(len(f), 2)
            for name in f:
                key = next(key for key in arrays if key in name)
                self.assertTrue((f.get_tensor(name) == arrays[key]).all())
        file = io.BytesIO()
        np.save(file, arrays["a"])
        for f in self.opened("x.npy", file.getvalue()):
            (name,) = f.keys()
            self.assertTrue((f.get_tensor(name) == arrays["a"]).all())
            self.assertIsNone(f.metadata())

    def test_gguf_blocks_are_rows_of_bytes(self):
        blocks = noise(4 * 2 * 144)
        floats = np.arange(6, dtype="f4").reshape(2, 3)
        tensors = {"q": (12, (512, 4), blocks), "f": (0, (3, 2), floats.tobytes())}
        for f in self.opened("m.gguf", gguf(tensors)):
            self.assertEqual((f.container, f.keys()), ("gguf", ["f", "q"]))
            self.assertTrue((f.get_tensor("f") == floats).all())
            info, got = f.info("q"), f.get_tensor("q")
            self.assertEqual((info.dtype, info.shape), ("Q4_K", (4, 512)))
            self.assertEqual((got.dtype, got.shape), (np.uint8, (4, 288)))
            self.assertEqual(got.tobytes(), blocks)
            self.assertEqual(f.get_slice("q")[1:3].tobytes(), blocks[288 : 3 * 288])

    def test_pytorch(self):
        # What torch.save writes: a pickle that refers to storages by persistent ids.
        from pickle import Pickler, dumps

        storage = np.arange(20, dtype="f4")

        class Writer(Pickler):
            def persistent_id(self, thing):
                if isinstance(thing, Storage):
                    return ("storage", thing.kind, "0", "cpu", 20)

        kinds = type("FloatStorage", (), {"__module__": "torch", "__qualname__": "FloatStorage"})

        class Storage:
            kind = kinds

        fake = type(sys)("torch")
        fake.FloatStorage = kinds
        utils = type(sys)("torch._utils")

        def _rebuild_tensor_v2(*_):
            raise AssertionError("nothing is executed")

        _rebuild_tensor_v2.__module__ = "torch._utils"
        _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
        utils._rebuild_tensor_v2 = _rebuild_tensor_v2

        class Tensor:
            def __reduce__(self):
                return (_rebuild_tensor_v2, (Storage(), 0, (4, 5), (5, 1), False, {}))

        with mock.patch.dict(sys.modules, {"torch": fake, "torch._utils": utils}):
            text = io.BytesIO()
            Writer(text, 2).dump({"weight": Tensor()})
        self.assertTrue(dumps)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", text.getvalue())
            archive.writestr("archive/data/0", storage.tobytes())
            archive.writestr("archive/version", "3\n")
        for f in self.opened("pytorch_model.bin", file.getvalue()):
            (name,) = f.keys()
            self.assertIn("weight", name)
            got = f.get_tensor(name)
            self.assertEqual((got.dtype, got.tobytes()), (np.float32, storage.tobytes()))

    def test_what_has_no_tensors_says_so(self):
        for f in ["x.txt", "x.bin"]:
            with self.assertRaises(mmh.Invalid):
                list(self.opened(f, b"words and no numbers\n" * 100))

    def test_element_types_that_numpy_lacks(self):
        tensors = {
            "f4": ("F4", (2, 4), noise(4)),
            "e8m0": ("F8_E8M0", (4,), noise(4)),
            "e5m2": ("F8_E5M2", (2, 2), noise(4)),
        }
        for f in self.opened("m.safetensors", written(tensors)):
            self.assertEqual(f.get_tensor("f4").shape, (2, 2), "two to a byte")
            self.assertEqual(f.get_tensor("e8m0").dtype, ml_dtypes.float8_e8m0fnu)
            self.assertEqual(f.get_tensor("e5m2").dtype, ml_dtypes.float8_e5m2)
            for name, (_, _, raw) in tensors.items():
                self.assertEqual(f.get_tensor(name).tobytes(), raw)

    def test_tables_name_what_numpy_has(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in [*module._NUMPY, *module._MORE]:
                np.dtype(module._numpy_type(name))


if __name__ == "__main__":
    unittest.main()

"""The file system for fsspec: found by its scheme, read by ranges, written by commits."""

import io
import pickle
import unittest

import fsspec
import mmh
import numpy as np
import pandas as pd
from mmh.fs import MMHFileSystem, _new, _split
from support import Case, noise


class Files(Case):
    def setUp(self):
        super().setUp()
        self.big = noise(9_000_000)
        self.added("acme/m", {"big.bin": self.big, "d/a.txt": b"a", "d/e/b.txt": b"bb", "empty": b""})
        self.repo.tag("acme/m", "v1")
        self.added("datasets/squad", {"train.csv": b"x,y\n1,2\n3,4\n"})
        self.fs = fsspec.filesystem("mmh", repository=self.repo.place, skip_instance_cache=True)

    def commits(self, name="acme/m"):
        return len(self.repo.log(name))

    def test_it_is_found_by_its_scheme(self):
        self.assertIsInstance(self.fs, MMHFileSystem)
        with fsspec.open("mmh://acme/m/d/a.txt", "r", repository=self.repo.place) as file:
            self.assertEqual(file.read(), "a")
        fs, path = fsspec.url_to_fs("mmh://acme/m@v1/big.bin", repository=self.repo.place)
        self.assertEqual((path, fs.size(path)), ("models/acme/m@v1/big.bin", len(self.big)))
        self.assertIs(fs, fsspec.filesystem("mmh", repository=self.repo.place))
        again = pickle.loads(pickle.dumps(self.fs))
        self.assertEqual(again.cat_file("acme/m/d/a.txt"), b"a")

    def test_folders_of_names(self):
        self.repo.branch("acme/m", "try/it")
        ls = lambda path: self.fs.ls(path, detail=False)
        self.assertEqual(ls(""), ["models", "datasets", "spaces", "trees"])
        self.assertEqual(ls("mmh://models"), ["models/acme"])
        self.assertEqual(
            ls("mmh://acme"), ["models/acme/m", "models/acme/m@try%2Fit", "models/acme/m@v1"]
        )
        self.assertEqual(ls("spaces"), [])
        self.assertEqual(ls("mmh://acme/m@try%2Fit/d"), [
            "models/acme/m@try%2Fit/d/a.txt", "models/acme/m@try%2Fit/d/e"])
        self.assertEqual(ls("mmh://datasets/squad"), ["datasets/squad/train.csv"])
        self.assertEqual(ls("mmh://acme/m/d/a.txt"), ["models/acme/m/d/a.txt"])
        self.assertTrue(self.fs.isdir("acme") and self.fs.isdir("") and self.fs.isdir("acme/m"))
        for path in ["acme/none", "acme/m@none", "acme/m/none", "none/at/all", "acme/m/d/a.txt/x"]:
            self.assertFalse(self.fs.exists(path), path)
            self.assertRaises(FileNotFoundError, self.fs.info, path)
            self.assertRaises(FileNotFoundError, self.fs.ls, path)
            self.assertEqual(self.fs.find(path), [])

    def test_what_is_below(self):
        files = [f"models/acme/m/{p}" for p in ["big.bin", "d/a.txt", "d/e/b.txt", "empty"]]
        self.assertEqual(self.fs.find("acme/m"), files)
        self.assertEqual(self.fs.find("acme/m/d"), files[1:3])
        self.assertEqual(self.fs.find("acme/m/empty"), files[3:])
        self.assertEqual(self.fs.find("acme/m", maxdepth=1), [files[0], files[3]])
        detail = self.fs.find("acme/m", detail=True, withdirs=True)
        self.assertEqual(detail["models/acme/m/d/e"]["type"], "directory")
        self.assertEqual(detail[files[0]]["size"], len(self.big))
        self.assertEqual(self.fs.glob("acme/m/**/*.txt"), files[1:3])
        self.assertEqual(self.fs.glob("acme/m/*.bin"), files[:1])
        walked = {root: (sorted(dirs), sorted(names)) for root, dirs, names in self.fs.walk("acme/m")}
        self.assertEqual(walked["models/acme/m"], (["d"], ["big.bin", "empty"]))
        self.assertEqual(self.fs.du("acme/m/d"), 3)
        self.assertIn("models/acme/m@v1/empty", self.fs.find("models"))

    def test_reading(self):
        path = "mmh://acme/m/big.bin"
        with self.fs.open(path) as file:
            self.assertEqual(file.size, len(self.big))
            for at, n in [(0, 10), (5_000_000, 7), (len(self.big) - 3, 100), (17, 4_500_000)]:
                file.seek(at)
                self.assertEqual(file.read(n), self.big[at : at + n])
            file.seek(0)
            self.assertEqual(file.read(), self.big)
        for cache in ["none", "bytes", "blockcache", "all"]:
            with self.fs.open(path, cache_type=cache, block_size=1 << 20) as file:
                file.seek(3_000_001)
                self.assertEqual(file.read(100), self.big[3_000_001:3_000_101], cache)
        self.assertEqual(self.fs.cat_file(path, 5, 9), self.big[5:9])
        self.assertEqual(self.fs.cat_file(path, -5), self.big[-5:])
        ranges = self.fs.cat_ranges([path, path, "acme/m/empty"], [0, 8, 0], [4, 12, None])
        self.assertEqual(ranges, [self.big[:4], self.big[8:12], b""])
        wrong = self.fs.cat_ranges([path, "acme/m/none"], 0, 4)
        self.assertEqual((wrong[0], type(wrong[1])), (self.big[:4], mmh.NotFound))
        self.assertRaises(FileNotFoundError, self.fs.cat_ranges, ["x/y/z"], 0, 4, on_error="raise")
        cat = self.fs.cat(self.fs.find("acme/m/d"))
        self.assertEqual(cat["models/acme/m/d/e/b.txt"], b"bb")
        self.fs.get("acme/m/d", str(self.folder / "got"), recursive=True)
        self.assertEqual((self.folder / "got/e/b.txt").read_bytes(), b"bb")
        for folder in ["acme/m/d", "acme/m", "acme"]:
            self.assertRaises(IsADirectoryError, self.fs.cat_file, folder)
            self.assertRaises(IsADirectoryError, self.fs.open, folder)
        self.assertEqual(self.fs.ukey(path), self.fs.ukey("acme/m@v1/big.bin"))
        self.assertNotEqual(self.fs.checksum(path), self.fs.checksum("acme/m/empty"))
        self.assertEqual(self.fs.modified(path).year, self.fs.created("acme/m").year)

    def test_each_file_is_a_commit_and_a_transaction_is_one(self):
        before = self.commits()
        self.fs.pipe_file("acme/m/new.bin", self.big)
        with self.fs.open("mmh://acme/m/new.txt", "w") as file:
            file.write("é\n")
        self.assertEqual(self.commits(), before + 2)
        self.assertEqual(self.repo.read("acme/m:new.bin"), self.big)
        with self.fs.transaction:
            self.fs.pipe({"acme/m/1": b"1", "acme/m/2": b"2", "datasets/squad/x": b"x"})
            self.fs.rm("acme/m/new.txt")
            self.fs.cp_file("acme/m/d/a.txt", "acme/m/copy")
            self.assertFalse(self.fs.exists("acme/m/1"))
            late = self.fs.open("acme/m/late", "wb")
            late.write(b"late")
        self.assertEqual((self.commits(), self.commits("datasets/squad")), (before + 3, 2))
        self.assertEqual(self.fs.cat_file("acme/m/2") + self.fs.cat_file("acme/m/copy"), b"2a")
        self.assertEqual(self.fs.cat_file("acme/m/late"), b"late")
        self.assertFalse(self.fs.exists("acme/m/new.txt"))
        with self.assertRaises(KeyError):
            with self.fs.transaction:
                self.fs.pipe_file("acme/m/3", b"3")
                raise KeyError
        self.assertFalse(self.fs.exists("acme/m/3"))
        self.assertEqual(self.commits(), before + 3)
        self.fs.pipe_file("acme/m/3", b"3")
        self.assertEqual(self.commits(), before + 4)

    def test_what_was_not_written_whole_is_not_committed(self):
        before = self.commits()
        with self.assertRaises(KeyError):
            with self.fs.open("acme/m/x", "wb") as file:
                file.write(b"half")
                raise KeyError
        file = self.fs.open("acme/m/y", "wb")
        file.write(b"half")
        del file
        self.assertEqual(self.commits(), before)
        self.assertFalse(self.fs.exists("acme/m/x") or self.fs.exists("acme/m/y"))

    def test_writing_elsewhere(self):
        self.fs.pipe_file("mmh://acme/fresh/d/a", b"1")
        self.assertEqual(self.repo.read("acme/fresh:d/a"), b"1")
        self.fs.pipe_file("mmh://datasets/org/fresh@dev/a", b"2")
        self.assertEqual(self.repo.read("datasets/org/fresh@dev:a"), b"2")
        self.fs.makedirs("acme/fresh/none", exist_ok=True)
        self.assertFalse(self.fs.exists("acme/fresh/none"))
        with self.fs.open("acme/fresh/x", "xb") as file:
            file.write(b"x")
        self.assertRaises(FileExistsError, self.fs.open, "acme/fresh/x", "xb")
        self.assertRaises(NotImplementedError, self.fs.open, "acme/fresh/x", "ab")
        for path in ["acme", "acme/m", "models", ""]:
            self.assertRaises(IsADirectoryError, self.fs.open, path, "wb")
        with self.assertRaises(mmh.Invalid):
            self.fs.pipe_file("acme/m@v1/x", b"a tag stays")
        self.fs.put(str(self.folder / "in/acme-m/d"), "acme/fresh/put", recursive=True)
        self.assertIn("models/acme/fresh/put/e/b.txt", self.fs.find("acme/fresh"))

    def test_removing_and_moving(self):
        before = self.commits()
        self.assertRaises(IsADirectoryError, self.fs.rm, "acme/m/d")
        self.fs.rm(["acme/m/d", "acme/m/empty"], recursive=True)
        self.assertEqual((self.fs.find("acme/m"), self.commits()), (["models/acme/m/big.bin"], before + 1))
        self.fs.mv("acme/m/big.bin", "acme/m/sub/big.bin")
        self.assertEqual(self.fs.find("acme/m"), ["models/acme/m/sub/big.bin"])
        self.fs.mv("acme/m/sub", "acme/n/sub")
        self.assertEqual((self.fs.find("acme/m"), self.commits()), ([], before + 3))
        self.assertEqual(self.fs.cat_file("acme/n/sub/big.bin"), self.big)
        self.assertRaises(FileNotFoundError, self.fs.rm, "acme/n/none")
        self.assertRaises(FileNotFoundError, self.fs.mv, "acme/n/none", "acme/n/x")
        self.assertRaises(mmh.Conflict, self.fs.rmdir, "acme/n/sub")
        self.fs.rm("acme/n/s*", recursive=True)
        self.assertEqual(self.fs.find("acme/n"), [])
        self.fs.rm("acme/m@v1", recursive=True)
        self.fs.rm("acme/n", recursive=True)
        self.assertEqual(self.fs.ls("acme", detail=False), ["models/acme/m"])
        self.assertRaises(mmh.Invalid, self.fs.rm, "acme", recursive=True)

    def test_pandas_and_numpy(self):
        options = {"repository": self.repo.place}
        table = pd.read_csv("mmh://datasets/squad/train.csv", storage_options=options)
        self.assertEqual(table.values.tolist(), [[1, 2], [3, 4]])
        table.assign(z=0).to_csv("mmh://datasets/squad/out.csv", index=False, storage_options=options)
        self.assertEqual(self.repo.read("datasets/squad:out.csv"), b"x,y,z\n1,2,0\n3,4,0\n")
        file = io.BytesIO()
        np.save(file, np.arange(10))
        self.fs.pipe_file("datasets/squad/a.npy", file.getvalue())
        with self.fs.open("datasets/squad/a.npy") as opened:
            self.assertTrue((np.load(opened) == np.arange(10)).all())

    def test_layers_of_fsspec(self):
        options = {"repository": self.repo.place}
        mapper = self.fs.get_mapper("mmh://acme/store")
        mapper["a/0.0"], mapper[".zgroup"] = b"chunk", b"{}"
        self.assertEqual(sorted(mapper), [".zgroup", "a/0.0"])
        self.assertEqual((mapper["a/0.0"], "b" in mapper), (b"chunk", False))
        del mapper["a/0.0"]
        self.assertEqual(list(mapper), [".zgroup"])
        with fsspec.open("mmh://acme/store/t.gz", "wt", compression="infer", **options) as file:
            file.write("text\n" * 1000)
        with fsspec.open("mmh://acme/store/t.gz", "rt", compression="infer", **options) as file:
            self.assertEqual(file.read(), "text\n" * 1000)
        kept = str(self.folder / "kept")
        url = "filecache::mmh://acme/m/big.bin"
        for _ in range(2):
            with fsspec.open(url, mmh=options, filecache={"cache_storage": kept}) as file:
                self.assertEqual(file.read(), self.big)
        self.assertEqual(self.fs.head("acme/m/big.bin", 5), self.big[:5])
        self.assertEqual(self.fs.tail("acme/m/big.bin", 5), self.big[-5:])
        lines = self.fs.read_block("datasets/squad/train.csv", 1, 6, delimiter=b"\n")
        self.assertEqual(lines, b"1,2\n")
        with fsspec.open_files(["mmh://acme/m/d/a.txt", "mmh://acme/m/empty"], **options) as files:
            self.assertEqual([file.read() for file in files], [b"a", b""])

    def test_many_threads_read(self):
        from concurrent.futures import ThreadPoolExecutor

        def read(n):
            at = n * 100_003 % len(self.big)
            return self.fs.cat_file("acme/m/big.bin", at, at + 1000) == self.big[at : at + 1000]

        with ThreadPoolExecutor(8) as pool:
            self.assertTrue(all(pool.map(read, range(200))))

    def test_links_are_shown_and_not_followed(self):
        root = self.folder / "linked"
        root.mkdir()
        (root / "real").write_bytes(b"real")
        (root / "link").symlink_to("real")
        self.repo.add(root, "acme/linked")
        info = self.fs.info("acme/linked/link")
        self.assertEqual((info["type"], info["destination"]), ("link", "real"))
        self.assertRaises(mmh.Invalid, self.fs.cat_file, "acme/linked/link")
        self.assertIn("models/acme/linked/link", self.fs.find("acme/linked"))

    def test_others_commits_are_seen(self):
        self.fs.ls("acme")
        mmh.open(self.repo.place).add(self.file("new", b"1"), "acme/later")
        self.assertEqual(self.fs.cat_file("acme/later/new"), b"1")
        self.assertIn("models/acme/later", self.fs.ls("acme", detail=False))


class Paths(unittest.TestCase):
    def test_where_names_end(self):
        known = {
            "models/acme/m": ["main", "v1"],
            "models/solo": ["main"],
            "models/acme": ["main"],
            "trees/a/b/c": ["old"],
            "datasets/x": ["dev"],
        }
        table = {
            "": ("", None, ""),
            "models": ("models", None, ""),
            "models/acme": ("models/acme", None, ""),
            "models/acme@main": ("models/acme@main", "models/acme@main", ""),
            "models/acme/m/a/b": ("models/acme/m", "models/acme/m@main", "a/b"),
            "models/acme/m@v1/a": ("models/acme/m@v1", "models/acme/m@v1", "a"),
            "models/acme/m@a%2Fb": ("models/acme/m@a%2Fb", "models/acme/m@a/b", ""),
            "models/acme/m/a@b": ("models/acme/m", "models/acme/m@main", "a@b"),
            "models/solo/x": ("models/solo", "models/solo@main", "x"),
            "trees/a/b": ("trees/a/b", None, ""),
            "trees/a/b/c@old/x": ("trees/a/b/c@old", "trees/a/b/c@old", "x"),
        }
        for path, expected in table.items():
            self.assertEqual(tuple(_split(path, known)), expected, path)
        for path in ["trees/a/b/c", "datasets/x/a", "models/none", "models/none@v1/a", "other/x"]:
            self.assertIsNone(_split(path, known), path)

    def test_where_new_names_end(self):
        for path, expected in {
            "models/acme/m/a/b": ("models/acme/m", "models/acme/m@main", "a/b"),
            "models/m@dev/a": ("models/m@dev", "models/m@dev", "a"),
            "trees/x/a/b": ("trees/x", "trees/x@main", "a/b"),
            "models/acme": ("models/acme", "models/acme@main", ""),
        }.items():
            self.assertEqual(tuple(_new(path)), expected, path)

    def test_one_spelling(self):
        strip = MMHFileSystem._strip_protocol
        for path in ["mmh://acme/m/x/", "acme//m/x", "models/acme/m/x", "mmh:///acme/m/x"]:
            self.assertEqual(strip(path), "models/acme/m/x")
        self.assertEqual(strip(["mmh://", "datasets"]), ["", "datasets"])


if __name__ == "__main__":
    unittest.main()

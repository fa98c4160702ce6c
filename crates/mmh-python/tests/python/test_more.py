"""The rest of what can be asked: options of adding and restoring, odd names, small memory, reports."""

import io
import os
import unittest

import mmh
from support import Case, noise, safetensors


class Adding(Case):
    def test_one_file_or_many_or_a_folder(self):
        one, two = self.file("in/one", b"1"), self.file("in/two", b"2")
        self.assertEqual(len(self.repo.add(one, "acme/one")["files"]), 1)
        report = self.repo.add([one, str(two)], "acme/two:sub/dir", message="why")
        self.assertEqual([f["path"] for f in report["files"]], ["one", "two"])
        self.assertEqual((report["raw"], report["new_raw"], report["changed"]), (2, 1, True))
        self.assertEqual(self.repo.read("acme/two:sub/dir/two"), b"2")
        self.assertFalse(self.repo.add([one, two], "acme/two:sub/dir")["changed"])
        self.assertEqual(len(self.repo.log("acme/two")), 1)
        with self.assertRaises(mmh.Invalid):
            self.repo.add([], "acme/none")

    def test_what_was_there_stays_unless_it_is_replaced(self):
        self.repo.add(self.file("a/x", b"x").parent, "acme/m")
        self.repo.add(self.file("b/y", b"y").parent, "acme/m")
        self.assertEqual([e.path for e in self.repo.ls("acme/m")], ["x", "y"])
        self.repo.add(self.folder / "b", "acme/m", replace=True)
        self.assertEqual([e.path for e in self.repo.ls("acme/m")], ["y"])

    def test_links_are_kept_or_followed(self):
        real = self.file("in/real", b"content")
        os.symlink("real", real.with_name("link"))
        self.repo.add(real.parent, "acme/kept")
        entry = self.repo.info("acme/kept:link")
        self.assertEqual((entry.type, entry.target, entry.id), ("link", "real", None))
        with self.assertRaises(mmh.Invalid):
            self.repo.read("acme/kept:link")
        self.repo.add(real.parent, "acme/followed", follow=True)
        self.assertEqual(self.repo.read("acme/followed:link"), b"content")
        self.repo.get("acme/kept", self.folder / "out")
        self.assertEqual(os.readlink(self.folder / "out/link"), "real")

    def test_links_that_leave_the_folder_are_left_out(self):
        root = self.folder / "in"
        root.mkdir()
        os.symlink("../../outside", root / "out")
        self.repo.add(root, "acme/m")
        report = self.repo.get("acme/m", self.folder / "safe")
        self.assertEqual(len(report["skipped"]), 1)
        self.assertFalse(os.path.lexists(self.folder / "safe/out"))
        self.repo.get("acme/m", self.folder / "unsafe", unsafe_links=True)
        self.assertTrue(os.path.islink(self.folder / "unsafe/out"))

    def test_a_fine_tune_is_kept_as_differences(self):
        weights = bytearray(noise(400_000))
        for at in range(1, len(weights), 2):
            weights[at] = 0x3F
        base = safetensors({"w": ("BF16", (200_000,), bytes(weights))})
        for at in range(0, len(weights), 6):
            weights[at] ^= 1
        tuned = safetensors({"w": ("BF16", (200_000,), bytes(weights))})
        self.added("acme/base", {"m.safetensors": base})
        path = self.file("tuned/m.safetensors", tuned)
        report = self.repo.add(path.parent, "acme/tuned", base="acme/base")
        self.assertLess(report["new_stored"], len(tuned) // 2)
        self.assertGreater(self.repo.stat("acme/tuned")["total"]["delta"], 0)
        self.assertEqual(self.repo.read("acme/tuned:m.safetensors"), tuned)


class Restoring(Case):
    def test_one_file_or_one_folder(self):
        self.added("acme/m", {"d/a": b"a", "d/e/b": b"b", "c": b"c"})
        self.repo.get("acme/m:d/a", self.folder / "file")
        self.assertEqual((self.folder / "file").read_bytes(), b"a")
        self.repo.get("acme/m:d", self.folder / "folder")
        self.assertEqual(sorted(os.listdir(self.folder / "folder")), ["a", "e"])
        again = self.repo.get("acme/m:d", self.folder / "folder")
        self.assertEqual((again["written"], again["kept"]), (0, 2))
        told = []
        self.repo.get("acme/m", self.folder / "all", progress=lambda *news: told.append(news))
        self.assertEqual(told[-1][1:3], (3, 3))
        self.assertTrue(told[-1][3])

    def test_old_states_stay_readable(self):
        ids = []
        for n in range(4):
            self.added("acme/m", {"a": b"%d" % n})
            ids.append(self.repo.resolve("acme/m"))
        for n, snapshot in enumerate(ids):
            for name in [snapshot["id"], snapshot["digest"][:12]]:
                self.assertEqual(self.repo.read(f"acme/m@{name}:a"), b"%d" % n)
        self.assertEqual([row["id"] for row in reversed(self.repo.log("acme/m"))],
                         [snapshot["id"] for snapshot in ids])


class Memory(Case):
    def test_without_memory_the_same_bytes(self):
        content = noise(9_000_000)
        self.added("acme/m", {"a": content})
        for memory in [0, 1 << 20, 1 << 30]:
            repo = mmh.open(self.repo.place, memory=memory, threads=2)
            with repo.open("acme/m:a", buffering=4096) as file:
                for at in range(0, len(content), 1_000_003):
                    file.seek(at)
                    self.assertEqual(file.read(100), content[at : at + 100])
            self.assertEqual(repo.read("acme/m:a"), content)

    def test_a_reader_is_what_other_libraries_take(self):
        import zipfile

        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a.txt", "text")
            file.writestr("b.bin", noise(100_000))
        self.added("acme/m", {"a.zip": archive.getvalue()})
        with self.repo.open("acme/m:a.zip") as raw, zipfile.ZipFile(raw) as file:
            self.assertEqual(file.read("a.txt"), b"text")
            self.assertEqual(file.read("b.bin"), noise(100_000))
        with io.TextIOWrapper(self.repo.open("acme/m:a.zip"), "latin-1") as text:
            self.assertEqual(text.read(2), "PK")

    def test_what_is_held_outlives_its_repository(self):
        self.added("acme/m", {"a": noise(1_000_000)})
        file = mmh.open(self.repo.place).open("acme/m:a", buffering=0)
        self.assertEqual(file.read_at(500_000, 9), noise(1_000_000)[500_000:500_009])
        file.close()


class Spelling(Case):
    def test_names_of_every_family(self):
        for name in ["solo", "acme/m", "datasets/squad", "datasets/org/x", "spaces/a/b", "trees/a/b/c"]:
            self.added(name, {"f": name.encode()})
            self.assertEqual(self.repo.read(f"{name}:f"), name.encode())
        full = {row["name"] for row in self.repo.names()}
        self.assertIn("models/solo", full)
        self.assertIn("trees/a/b/c", full)
        self.assertEqual(self.repo.read("models/acme/m:f"), b"acme/m")

    def test_paths_that_are_unusual(self):
        files = {"a b": b"1", "ü/ß": b"2", "x" * 200: b"3", "a@b": b"4", "a:b": b"5", "-r": b"6"}
        self.added("acme/m", files)
        for path, content in files.items():
            self.assertEqual(self.repo.read(f"acme/m:{path}"), content, path)

    def test_reports_say_what_they_are(self):
        self.assertIn("store", repr(self.repo))
        self.assertTrue(mmh.__version__[0].isdigit())
        self.assertEqual(set(mmh.__all__) - set(dir(mmh)), set())
        entry = mmh.Entry("a", "file", 3)
        self.assertEqual(entry, mmh.Entry("a", "file", 3))
        with self.assertRaises(AttributeError):
            entry.size = 4


if __name__ == "__main__":
    unittest.main()

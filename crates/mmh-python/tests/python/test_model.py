"""Random operations beside a model of plain Python: the same answers, whatever the order."""

import random
import threading
import unittest

import fsspec
import mmh
import numpy as np
import safetensors.numpy
from support import Case, noise

NAME = "models/acme/m"


class FileSystem(Case):
    """A branch is a dictionary of paths; each operation that succeeds is a commit."""

    FOLDERS = ["", "a/", "a/b/", "c/"]
    NAMES = ["x", "y", "é", "z.bin"]

    def setUp(self):
        super().setUp()
        self.fs = fsspec.filesystem("mmh", repository=self.repo.place, skip_instance_cache=True)
        self.rng = random.Random(7)
        self.model = {}
        self.history = []
        self.write("x")

    def path(self):
        return self.rng.choice(self.FOLDERS) + self.rng.choice(self.NAMES)

    def fits(self, path):
        """Whether the path is neither below a file nor a folder."""
        parts = path.split("/")
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        return not above & set(self.model) and not self.below(path)

    def below(self, folder):
        return [path for path in self.model if path.startswith(f"{folder}/")]

    def write(self, path):
        content = noise(self.rng.choice([0, 1, 100, 70_000]), self.rng.randrange(99))
        changed = self.model.get(path) != content
        self.model[path] = content
        self.fs.pipe_file(f"{NAME}/{path}", content)
        return changed

    def remove(self, path):
        if path not in self.model:
            self.assertRaises(FileNotFoundError, self.fs.rm_file, f"{NAME}/{path}")
            return False
        self.fs.rm_file(f"{NAME}/{path}")
        del self.model[path]
        return True

    def remove_folder(self, folder):
        gone = self.below(folder)
        if not gone:
            return False
        self.fs.rm(f"{NAME}/{folder}", recursive=True)
        for path in gone:
            del self.model[path]
        return True

    def copy(self, source, path):
        if source not in self.model or source == path:
            return False
        changed = self.model.get(path) != self.model[source]
        self.fs.cp_file(f"{NAME}/{source}", f"{NAME}/{path}")
        self.model[path] = self.model[source]
        return changed

    def move(self, source, path):
        if source not in self.model or source == path:
            return False
        self.fs.mv(f"{NAME}/{source}", f"{NAME}/{path}")
        self.model[path] = self.model.pop(source)
        return True

    def several(self):
        before = dict(self.model)
        with self.fs.transaction:
            for _ in range(self.rng.randrange(1, 4)):
                path = self.path()
                if self.fits(path):
                    self.write(path)
        return before != self.model

    def step(self):
        path, source = self.path(), self.path()
        what = self.rng.randrange(7)
        if what == 0:
            return self.remove(path)
        if what == 1:
            return self.remove_folder(self.rng.choice(["a", "a/b", "c"]))
        if what == 2:
            return self.several()
        if not self.fits(path):
            return False
        if what == 3:
            return self.copy(source, path)
        if what == 4:
            return self.move(source, path)
        return self.write(path)

    def compare(self):
        paths = sorted(f"{NAME}/{path}" for path in self.model)
        self.assertEqual(self.fs.find(NAME), paths)
        if paths:
            read = self.fs.cat(paths, on_error="raise")
            read = read if isinstance(read, dict) else {paths[0]: read}
            self.assertEqual({p[len(NAME) + 1 :]: c for p, c in read.items()}, self.model)
        for folder in ["a", "a/b", "c"]:
            self.assertEqual(self.fs.isdir(f"{NAME}/{folder}"), bool(self.below(folder)), folder)

    def test_a_branch_is_a_dictionary_with_a_history(self):
        commits = 1
        for n in range(60):
            commits += self.step()
            if n % 6 == 0:
                self.compare()
                self.history.append((self.repo.resolve("acme/m")["id"], dict(self.model)))
        self.compare()
        self.assertEqual(len(self.repo.log("acme/m")), commits)
        # Every state that was there is there still.
        for id, state in self.history:
            listed = self.repo.ls(f"acme/m@{id}", recursive=True)
            files = {entry.path for entry in listed if entry.type == "file"}
            self.assertEqual(files, set(state))
            for path, content in state.items():
                self.assertEqual(self.repo.read(f"acme/m@{id}:{path}"), content)
        self.assertEqual(self.repo.verify()["findings"], [])


class Slices(Case):
    def index(self, rng, length):
        if rng.random() < 0.3 and length:
            return rng.randrange(-length, length)
        bound = lambda: rng.choice([None, rng.randrange(-length - 2, length + 3)])
        return slice(bound(), bound(), rng.choice([None, 1, 1, 2, 5]))

    def test_any_choice_is_that_of_numpy(self):
        shapes = [(), (5,), (0, 3), (7, 11), (300, 2, 5), (2, 3, 4, 5), (40_000, 3)]
        kinds = ["u1", "<i2", "<f4", "<c8"]
        maker = np.random.default_rng(3)
        arrays = {
            f"{n}.{kind}": maker.integers(0, 99, shape).astype(kind)
            for n, shape in enumerate(shapes)
            for kind in kinds
        }
        self.added("acme/m", {"m.safetensors": safetensors.numpy.save(arrays)})
        rng = random.Random(11)
        with self.repo.safe_open("acme/m:m.safetensors") as f:
            for _ in range(600):
                name = rng.choice(list(arrays))
                whole = arrays[name]
                rank = rng.randrange(whole.ndim + 1)
                choice = tuple(self.index(rng, n) for n in whole.shape[:rank])
                if rng.random() < 0.2:
                    choice = (..., *choice) if rank == whole.ndim else (*choice, ...)
                expected, got = whole[choice], f.get_slice(name)[choice]
                self.assertEqual(got.shape, expected.shape, (name, choice))
                self.assertEqual(got.tobytes(), expected.tobytes(), (name, choice))


class Writers(Case):
    def test_threads_commit_beside_each_other(self):
        failed = []

        def commit(n):
            try:
                # Each has a repository of its own, as processes have.
                repo = mmh.open(self.repo.place, threads=1)
                for round in range(4):
                    with repo.change("acme/m") as change:
                        change.write(f"{n}/{round}", noise(5000, 10 * n + round))
            except Exception as error:
                failed.append(error)

        self.repo.add(self.file("first", b"1"), "acme/m")
        threads = [threading.Thread(target=commit, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        for n in range(4):
            for round in range(4):
                read = self.repo.read(f"acme/m:{n}/{round}")
                self.assertEqual(read, noise(5000, 10 * n + round))
        self.assertEqual(len(self.repo.log("acme/m")), 17)
        self.assertEqual(self.repo.verify()["findings"], [])


if __name__ == "__main__":
    unittest.main()

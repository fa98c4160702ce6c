"""Names, history, files, and what goes between two repositories."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import unittest

import mmh
from support import Case, noise


class Reading(Case):
    def test_what_was_added_comes_back(self):
        files = {"a.bin": noise(3_000_000), "empty": b"", "deep/er/x": b"x", "é.txt": "é".encode()}
        self.added("acme/m", files)
        for path, content in files.items():
            self.assertEqual(self.repo.read(f"acme/m:{path}"), content)
        self.repo.get("acme/m", self.folder / "out")
        for path, content in files.items():
            self.assertEqual((self.folder / "out" / path).read_bytes(), content)

    def test_ranges_count_as_those_of_python(self):
        content = noise(1_000_000)
        self.added("acme/m", {"a": content})
        for start, end in [(0, None), (5, 9), (-7, None), (-9, -3), (9, 5), (999_999, 2_000_000)]:
            self.assertEqual(self.repo.read("acme/m:a", start, end), content[start:end])

    def test_a_file_behaves_as_files_do(self):
        content = b"".join(b"line %d\n" % n for n in range(100_000))
        self.added("acme/m", {"a.txt": content})
        with self.repo.open("acme/m:a.txt") as file:
            self.assertEqual(file.readline(), b"line 0\n")
            file.seek(-3, os.SEEK_END)
            self.assertEqual(file.read(), content[-3:])
            file.seek(500_000)
            self.assertEqual(file.read(10), content[500_000:500_010])
            self.assertEqual((file.seek(3, os.SEEK_CUR), file.tell()), (500_013, 500_013))
            self.assertEqual(sum(1 for _ in file), content[500_013:].count(b"\n"))
        with self.repo.open("acme/m:a.txt", buffering=0) as raw:
            self.assertEqual((raw.size, raw.container), (len(content), "text"))
            self.assertEqual(raw.read_at(10, 5), content[10:15])
            self.assertEqual(raw.read_at(len(content) + 5, 5), b"")
            self.assertEqual(raw.read(), content)
            self.assertEqual(len(raw.blake3), 64)
            for bad in [(-1, 0), (0, -1)]:
                self.assertRaises(ValueError, raw.read_at, *bad)
            self.assertRaises(ValueError, raw.seek, -1)
        self.assertRaises(ValueError, raw.read)

    def test_threads_share_a_repository(self):
        contents = {f"{n}.bin": noise(2_000_000, n) for n in range(6)}
        self.added("acme/m", contents)
        wrong = []

        def read(path, content):
            for _ in range(3):
                if self.repo.read(f"acme/m:{path}") != content:
                    wrong.append(path)

        threads = [threading.Thread(target=read, args=item) for item in contents.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


class Names(Case):
    def test_history_branches_and_tags(self):
        self.added("acme/m", {"a": b"1"})
        first = self.repo.resolve("acme/m")
        self.assertEqual(self.repo.tag("acme/m", "v1"), first["id"])
        self.added("acme/m", {"a": b"2", "d/b": b"33"})
        self.repo.branch("acme/m", "try")
        log = self.repo.log("acme/m")
        self.assertEqual([row["id"] for row in log][1:], [first["id"]])
        self.assertEqual(self.repo.log("acme/m", 1), log[:1])
        self.assertEqual((log[0]["author"], log[0]["parents"]), ("me", [first["id"]]))
        (name,) = self.repo.names()
        self.assertEqual(name["name"], "models/acme/m")
        self.assertEqual((sorted(name["branches"]), sorted(name["tags"])), (["main", "try"], ["v1"]))
        self.assertEqual(self.repo.read("acme/m@v1:a"), b"1")
        listed = self.repo.ls("acme/m", recursive=True)
        self.assertEqual(
            [(e.path, e.type, e.size) for e in listed],
            [("a", "file", 1), ("d", "directory", 0), ("d/b", "file", 2)],
        )
        self.assertEqual(self.repo.info("acme/m:d").type, "directory")
        self.assertEqual(self.repo.info("acme/m:d/b").id, listed[2].id)

    def test_what_is_removed_comes_back(self):
        self.added("acme/m", {"a": b"1", "b": b"2"})
        self.repo.rm("acme/m:a")
        self.assertRaises(mmh.NotFound, self.repo.read, "acme/m:a")
        self.repo.rm("acme/m")
        self.assertEqual(self.repo.names(), [])
        self.assertIn("rm", self.repo.undo())
        self.repo.undo()
        self.assertEqual(self.repo.read("acme/m:a"), b"1")
        self.assertRaises(mmh.NotFound, self.repo.undo, 1000)

    def test_figures(self):
        self.added("acme/m", {"a": noise(100_000), "b": noise(100_000)})
        stat = self.repo.stat("acme/m")
        self.assertEqual(stat["total"]["duplicates"], 100_000)
        self.assertEqual(stat, self.repo.stat() | {"names": stat["names"], "files": stat["files"]})
        facts = self.repo.facts()
        self.assertEqual((facts["sealed"], facts["operations"]), (False, 1))
        self.assertEqual(self.repo.verify()["findings"], [])
        self.assertEqual(self.repo.verify("acme/m")["files"], 1, "equal files are one")


class Changes(Case):
    def test_a_change_is_one_commit(self):
        self.added("acme/m", {"a": b"1", "old/x": b"x", "old/y": b"y", "keep": b"k"})
        plain = self.file("plain", noise(100_000))
        plain.chmod(0o755)
        with self.repo.change("acme/m", "all at once") as change:
            change.write("README.md", "# é")
            change.write("d/b", bytearray(b"22"))
            change.put(plain, "big")
            change.copy("acme/m:a", "copy")
            change.copy("acme/m:old", "new")
            change.remove("old")
            with change.open("streamed") as file:
                file.write(b"in ")
                file.write(b"parts")
        self.assertEqual(len(self.repo.log("acme/m")), 2)
        self.assertEqual(self.repo.log("acme/m")[0]["message"], "all at once")
        read = {e.path for e in self.repo.ls("acme/m", recursive=True) if e.type == "file"}
        self.assertEqual(
            read, {"README.md", "a", "big", "copy", "d/b", "keep", "new/x", "new/y", "streamed"}
        )
        self.assertEqual(self.repo.read("acme/m:streamed"), b"in parts")
        self.assertEqual(self.repo.read("acme/m:README.md").decode(), "# é")
        self.assertTrue(self.repo.info("acme/m:big").executable)
        self.assertEqual(self.repo.info("acme/m:copy").id, self.repo.info("acme/m:a").id)

    def test_what_comes_later_wins(self):
        self.added("acme/m", {"a": b"1"})
        with self.repo.change("acme/m") as change:
            change.write("x", b"1")
            change.write("x", b"2")
            change.write("gone", b"")
            change.remove("gone")
            change.remove("a")
            change.write("a", b"new")
        self.assertEqual(self.repo.read("acme/m:x"), b"2")
        self.assertEqual(self.repo.read("acme/m:a"), b"new")
        self.assertEqual(len(self.repo.ls("acme/m")), 2)

    def test_an_exception_changes_nothing(self):
        self.added("acme/m", {"a": b"1"})
        with self.assertRaises(KeyError):
            with self.repo.change("acme/m") as change:
                change.write("x", b"1")
                raise KeyError
        self.assertEqual(len(self.repo.log("acme/m")), 1)
        with self.repo.change("acme/m") as change:
            self.assertTrue(change.is_empty())
        self.assertEqual(len(self.repo.log("acme/m")), 1)
        self.assertRaises(mmh.Invalid, change.commit)
        self.assertRaises(mmh.Invalid, change.write, "x", b"")
        self.assertFalse(os.path.exists(change._folder))

    def test_a_new_name_and_a_moved_branch(self):
        with self.repo.change("datasets/new", "first") as change:
            change.write("a", b"1")
        tip = self.repo.resolve("datasets/new")["id"]
        with self.repo.change("datasets/new", parent=tip) as change:
            change.write("a", b"2")
        self.assertEqual(self.repo.log("datasets/new")[0]["message"], "write a")
        late = self.repo.change("datasets/new", parent=tip)
        late.write("a", b"3")
        self.assertRaises(mmh.Conflict, late.commit)
        self.assertEqual(self.repo.read("datasets/new:a"), b"2")

    def test_paths_stay_inside(self):
        change = self.repo.change("acme/m")
        for path in ["", "/etc/x", "a/../../x", "..", "a//b", "a\\b", "a\0"]:
            self.assertRaises(mmh.Invalid, change.write, path, b"")
            self.assertRaises(mmh.Invalid, change.remove, path)
        self.assertRaises(mmh.Invalid, change.put, self.folder, "x")
        self.assertRaises(mmh.Invalid, change.put, self.folder / "none", "x")
        self.assertTrue(change.is_empty())
        self.repo.add(self.file("a", b"1"), "acme/m")
        self.repo.tag("acme/m", "v1")
        with self.assertRaises(mmh.Invalid):
            with self.repo.change("acme/m@v1") as change:
                change.write("x", b"")
        with self.assertRaises(mmh.NotFound):
            with self.repo.change("acme/m") as change:
                change.remove("none")


class Others(Case):
    def test_push_and_pull(self):
        self.added("acme/m", {"a": noise(1_000_000)})
        self.added("acme/n", {"b": b"b"})
        other = mmh.init(self.folder / "other")
        said = self.repo.push(other.place, "acme/m", dry_run=True)
        self.assertEqual((said["report"]["dry_run"], other.names()), (True, []))
        done = self.repo.push(other.place, ["acme/m"])
        self.assertEqual(done["report"]["refs"][0]["what"], "created")
        self.assertEqual([row["name"] for row in other.names()], ["models/acme/m"])
        self.assertEqual(other.read("acme/m:a"), self.repo.read("acme/m:a"))
        other.pull(self.repo.place)
        self.assertEqual(other.read("acme/n:b"), b"b")
        self.assertEqual(other.pull(self.repo.place)["report"]["same"], 2)
        self.assertRaises(mmh.NotFound, self.repo.push)
        self.assertRaises(mmh.NotFound, self.repo.push, self.folder / "none")

    def test_branches_that_diverged_are_said(self):
        other = mmh.init(self.folder / "other")
        self.added("acme/m", {"a": b"1"})
        self.added("acme/n", {"a": b"1"})
        self.repo.push(other.place)
        for repo, content in [(self.repo, b"2"), (other, b"3")]:
            with repo.change("acme/m") as change:
                change.write("a", content)
        self.added("acme/n", {"a": b"4"})
        with self.assertRaises(mmh.Conflict) as caught:
            self.repo.push(other.place)
        self.assertIn("acme/m", str(caught.exception))
        whats = {row["name"]: row["what"] for row in caught.exception.report["report"]["refs"]}
        self.assertEqual(whats["models/acme/n@heads/main"], "moved")
        self.repo.push(other.place, force=True)
        self.assertEqual(other.read("acme/m:a"), b"2")


class Opening(Case):
    def test_a_repository_is_found_from_below(self):
        below = self.folder / "store/a/b"
        below.mkdir(parents=True)
        before = os.getcwd()
        try:
            os.chdir(below)
            self.assertEqual(mmh.open().place, self.repo.place)
            os.chdir(self.folder)
            self.assertRaises(mmh.NotFound, mmh.open)
            self.assertEqual(mmh.open("store").place, self.repo.place)
            os.environ["MMH_REPOSITORY"] = str(self.folder / "store")
            self.assertEqual(mmh.open().place, self.repo.place)
        finally:
            os.environ.pop("MMH_REPOSITORY", None)
            os.chdir(before)

    def test_settings_are_looked_at(self):
        for bad in [{"level": "best"}, {"threads": 0}, {"author": "x" * 256}]:
            self.assertRaises(mmh.Invalid, mmh.open, self.repo.place, **bad)
        repo = mmh.open(self.repo.place, level="fast", threads=1, author="someone")
        repo.add(self.file("a", b"1"), "acme/m", message="why")
        (row,) = repo.log("acme/m")
        self.assertEqual((row["author"], row["message"]), ("someone", "why"))

    def test_a_sealed_repository_needs_its_key(self):
        sealed = mmh.init(self.folder / "sealed", passphrase="secret")
        sealed.add(self.file("a", b"1"), "acme/m")
        self.assertRaises(mmh.Denied, mmh.open, sealed.place)
        self.assertRaises(mmh.Denied, mmh.open, sealed.place, passphrase="other")
        opened = mmh.open(sealed.place, passphrase="secret")
        self.assertEqual(opened.read("acme/m:a"), b"1")
        self.assertTrue(opened.facts()["sealed"])
        file = self.file("pass", b"secret\n")
        os.environ["MMH_PASSPHRASE_FILE"] = str(file)
        try:
            self.assertEqual(mmh.open(sealed.place).read("acme/m:a"), b"1")
        finally:
            del os.environ["MMH_PASSPHRASE_FILE"]
        # A key says that it is sealed: another in its place is refused.
        self.assertRaises(mmh.Error, mmh.open, self.repo.place, passphrase="secret")
        self.assertRaises(mmh.Denied, mmh.open, sealed.place, key="AGE-SECRET-KEY-1X")
        self.assertRaises(mmh.Error, mmh.open, sealed.place, key="mmh1x")
        self.assertRaises(FileNotFoundError, mmh.open, sealed.place, key="no/such/file")
        self.assertRaises(TypeError, pickle.dumps, opened)

    def test_rules_of_trust_hold_here_too(self):
        self.added("acme/m", {"a": b"1"})
        config = self.folder / "config"
        (config / "mmh").mkdir(parents=True)
        before = os.environ.get("XDG_CONFIG_HOME")
        os.environ["XDG_CONFIG_HOME"] = str(config)
        try:
            # A file that cannot be read stops every reading.
            (config / "mmh/trust.toml").write_text("[[rule]]\nnames = 'acme/*'\n")
            self.assertRaises(mmh.Invalid, mmh.open, self.repo.place)
            self.assertEqual(mmh.open(self.repo.place, untrusted=True).read("acme/m:a"), b"1")
        finally:
            del os.environ["XDG_CONFIG_HOME"]
            if before is not None:
                os.environ["XDG_CONFIG_HOME"] = before


def _read(repo, queue):
    queue.put(repo.read("acme/m:a"))


class Processes(Case):
    def test_a_forked_child_opens_it_anew(self):
        self.added("acme/m", {"a": b"content"})
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_read, args=(self.repo, queue))
        child.start()
        self.assertEqual(queue.get(), b"content")
        child.join()
        self.assertEqual(child.exitcode, 0)
        self.assertEqual(self.repo.read("acme/m:a"), b"content")

    def test_it_is_pickled_by_its_place(self):
        self.added("acme/m", {"a": b"content"})
        copy = pickle.loads(pickle.dumps(self.repo))
        self.assertEqual((copy.place, copy.read("acme/m:a")), (self.repo.place, b"content"))

    def test_progress_is_told_and_may_stop(self):
        big = self.file("big/x", noise(30_000_000))
        told = []
        self.repo.add(big.parent, "acme/m", progress=lambda *news: told.append(news))
        stage, done, total, _item = told[-1]
        self.assertEqual((done, total), (30_000_000, 30_000_000), told[-1])
        self.assertTrue(stage)

        class Enough(Exception):
            pass

        def stop(*_news):
            raise Enough

        out = self.folder / "out"
        self.assertRaises(Enough, self.repo.get, "acme/m", out, progress=stop)
        # Whatever was stopped, the repository goes on.
        self.repo.get("acme/m", self.folder / "again")
        self.assertEqual((self.folder / "again/x").read_bytes(), big.read_bytes())

    def test_ctrl_c_stops_long_work(self):
        for n in range(10):
            self.file(f"big/{n}", noise(4_000_000, n))
        seen = threading.Event()
        main = threading.main_thread().ident

        def interrupt():
            seen.wait()
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with self.assertRaises(KeyboardInterrupt):
            self.repo.add(self.folder / "big", "acme/m", progress=lambda *_: seen.set())
            # The signal comes a moment after the work at the latest.
            time.sleep(10)
        thread.join()
        self.repo.add(self.folder / "big", "acme/m")
        self.assertEqual(len(self.repo.ls("acme/m")), 10)
        self.assertEqual(self.repo.verify()["findings"], [])


class Errors(Case):
    def test_kinds_are_those_of_every_door(self):
        table = {
            mmh.Internal: ("internal", 1, Exception),
            mmh.Invalid: ("invalid", 2, ValueError),
            mmh.NotFound: ("not_found", 3, FileNotFoundError),
            mmh.Unsupported: ("unsupported", 4, NotImplementedError),
            mmh.Denied: ("denied", 5, PermissionError),
            mmh.Conflict: ("conflict", 6, Exception),
            mmh.Unavailable: ("unavailable", 7, OSError),
            mmh.Corrupt: ("corrupt", 8, OSError),
        }
        for kind, (name, code, builtin) in table.items():
            error = kind("why")
            self.assertEqual((error.kind, error.exit_code, str(error)), (name, code, "why"))
            self.assertIsInstance(error, builtin)
            self.assertIsInstance(error, mmh.Error)

    def test_what_is_asked_wrongly_is_said(self):
        self.added("acme/m", {"a": b"1", "d/b": b"2"})
        for target, kind in [
            ("acme/m:none", mmh.NotFound),
            ("acme/none:a", mmh.NotFound),
            ("acme/m@none:a", mmh.NotFound),
            ("acme/m:d", mmh.Invalid),
            ("acme/m", mmh.Invalid),
            ("acme//m:a", mmh.Invalid),
            ("acme/m:../a", mmh.Invalid),
            ("", mmh.Invalid),
            ("a" * 10_000, mmh.Invalid),
        ]:
            self.assertRaises(kind, self.repo.read, target)
        self.assertRaises(mmh.NotFound, self.repo.add, self.folder / "none", "acme/m")
        self.file("dest/a", b"other")
        self.assertRaises(mmh.Conflict, self.repo.get, "acme/m", self.folder / "dest")
        self.repo.get("acme/m", self.folder / "dest", overwrite=True)
        self.assertEqual((self.folder / "dest/a").read_bytes(), b"1")
        self.assertRaises(mmh.Conflict, self.repo.branch, "acme/m", "main")
        self.assertRaises(mmh.NotFound, mmh.open, self.folder / "nowhere")
        self.assertRaises(mmh.Error, mmh.init, self.folder / "store")


if __name__ == "__main__":
    unittest.main()

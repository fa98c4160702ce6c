"""A repository that another process serves: read, written and pushed to by its address."""

import json
import subprocess
import unittest

import fsspec
import mmh
from support import Case, noise
from test_keys import PROGRAM


@unittest.skipIf(PROGRAM is None, "the program was not built with the module")
class Node(Case):
    def setUp(self):
        super().setUp()
        command = [PROGRAM, "-R", self.repo.place, "serve", "--json", "--doors", "node"]
        command += ["--listen", "127.0.0.1:0", "--anonymous", "write"]
        self.server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=self.folder
        )
        self.addCleanup(self.stop)
        said = ""
        while not said.endswith("}\n"):
            line = self.server.stdout.readline()
            self.assertTrue(line, said)
            said += line
        self.url = json.loads(said)["url"]

    def stop(self):
        if self.server.poll() is None:
            self.server.terminate()
            self.server.wait()
        self.server.stdout.close()

    def test_it_is_a_place_like_any_other(self):
        content = noise(3_000_000)
        there = mmh.open(self.url, author="elsewhere")
        there.add(self.file("in/a.bin", content).parent, "acme/m")
        self.assertEqual(there.read("acme/m:a.bin", 10, 99), content[10:99])
        with there.change("acme/m") as change:
            change.write("b", b"b")
            change.copy("acme/m:a.bin", "copy")
        here = mmh.open(self.repo.place)
        self.assertEqual(here.read("acme/m:copy"), content)
        self.assertEqual(here.log("acme/m")[0]["author"], "elsewhere")
        self.assertEqual(there.verify()["findings"], [])
        other = mmh.init(self.folder / "other")
        other.pull(self.url)
        self.assertEqual(other.read("acme/m:b"), b"b")
        with other.change("acme/m") as change:
            change.write("c", b"c")
        other.push(self.url, "acme/m")
        self.assertEqual(there.read("acme/m:c"), b"c")

    def test_fsspec_reads_from_it(self):
        content = noise(5_000_000)
        self.added("acme/m", {"a.bin": content})
        fs = fsspec.filesystem("mmh", repository=self.url, skip_instance_cache=True)
        with fs.open("acme/m/a.bin") as file:
            file.seek(4_000_000)
            self.assertEqual(file.read(1000), content[4_000_000:4_001_000])
        fs.pipe_file("acme/m/b", b"b")
        self.assertEqual(fs.cat_file("acme/m/b"), b"b")

    def test_a_node_that_is_gone_is_unavailable(self):
        there = mmh.open(self.url)
        self.added("acme/m", {"a": noise(1000)})
        self.stop()
        with self.assertRaises(mmh.Error) as caught:
            there.read("acme/m:a")
        self.assertEqual(caught.exception.kind, "unavailable")
        with self.assertRaises(mmh.Error):
            mmh.open(self.url)
        wrong = self.url.replace("mmhs://", "mmhs://x")
        with self.assertRaises(mmh.Error):
            mmh.open(wrong)


if __name__ == "__main__":
    unittest.main()

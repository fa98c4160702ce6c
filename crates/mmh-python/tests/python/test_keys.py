"""Keys, however they are handed in; archives; and what the program and Python make of each other."""

import json
import os
import pathlib
import subprocess
import unittest

import mmh
from mmh import _keys
from support import Case, noise, safetensors

#: The program that was built with the module, if it was.
PROGRAM = os.environ.get("MMH_BUILT_PROGRAM")


class Texts(Case):
    IDENTITY = "AGE-SECRET-KEY-PQ-1XYZ"

    def test_texts_and_files_are_told_apart(self):
        identity = self.file("id", f"# mine\n{self.IDENTITY}\n".encode())
        seed = self.file("seed", b"mmh1abc def\n")
        for key, expected in [
            (None, ([], None)),
            (self.IDENTITY, ([self.IDENTITY], None)),
            ("mmh1abc", ([], "mmh1abc")),
            (identity, ([identity.read_text()], None)),
            (str(seed), ([], seed.read_text())),
            ([identity, self.IDENTITY], ([identity.read_text(), self.IDENTITY], None)),
            ([self.IDENTITY, seed], ([self.IDENTITY], seed.read_text())),
        ]:
            got = _keys.texts(key, None, {})
            self.assertEqual((got["identities"], got["seed"]), expected, key)

    def test_the_environment_names_files_and_yields_to_what_is_said(self):
        identity = self.file("id", self.IDENTITY.encode())
        passphrase = self.file("pass", b"a b \r\n")
        seed = self.file("seed", b"mmh1abc")
        variables = {"MMH_IDENTITY": str(identity), "MMH_PASSPHRASE_FILE": str(passphrase)}
        got = _keys.texts(None, None, {**variables, "MMH_SEED_FILE": str(seed)})
        self.assertEqual(
            got, {"identities": [self.IDENTITY], "passphrase": "a b ", "seed": "mmh1abc"}
        )
        got = _keys.texts(None, "said", variables)
        self.assertEqual(got, {"identities": [], "passphrase": "said", "seed": None})
        got = _keys.texts("mmh1x", None, variables)
        self.assertEqual(got, {"identities": [], "passphrase": None, "seed": "mmh1x"})
        self.assertEqual(_keys.texts(None, None, {"MMH_IDENTITY": ""})["identities"], [])

    def test_what_is_no_secret_is_refused(self):
        for content in [b"\xff\xfe", b"x" * ((1 << 20) + 1)]:
            with self.assertRaises(mmh.Invalid):
                _keys.texts(self.file("long", content), None, {})
        self.assertRaises(FileNotFoundError, _keys.texts, self.folder / "none", None, {})
        self.assertTrue(_keys.is_secret(["file", self.IDENTITY]))
        self.assertFalse(_keys.is_secret(["file", pathlib.Path("mmh1x")]))

    def test_only_the_line_end_of_a_passphrase_file_is_left_out(self):
        for text, expected in [("a b \n", "a b "), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", "")]:
            self.assertEqual(_keys._line(text), expected)


@unittest.skipIf(PROGRAM is None, "the program was not built with the module")
class Together(Case):
    """The program and Python on one repository."""

    def mmh(self, *args, **how):
        ran = subprocess.run([PROGRAM, *args], capture_output=True, text=True, cwd=self.folder, **how)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout

    def test_reports_have_one_shape(self):
        self.added("acme/m", {"a": noise(1000), "d/b": b"b"})
        place = self.repo.place
        self.assertEqual(json.loads(self.mmh("-R", place, "ls", "--json")), self.repo.names())
        said = json.loads(self.mmh("-R", place, "log", "acme/m", "--json"))
        self.assertEqual(said, self.repo.log("acme/m"))
        said = json.loads(self.mmh("-R", place, "stat", "acme/m", "--json"))
        self.assertEqual(said["total"], self.repo.stat("acme/m")["total"])
        self.mmh("-R", place, "remote", "add", "origin", "other")
        self.mmh("init", "other")
        self.assertEqual(self.repo.push()["report"]["refs"][0]["what"], "created")
        self.assertEqual(mmh.open(self.folder / "other").read("acme/m:d/b"), b"b")

    def test_archives_are_read(self):
        weights = {"w": ("F32", (100, 7), noise(2800))}
        root = self.folder / "model"
        root.mkdir()
        (root / "model.safetensors").write_bytes(safetensors(weights, {"k": "v"}))
        (root / "config.json").write_bytes(b"{}")
        self.mmh("pack", "model", "model.mmh")
        archive = mmh.open(self.folder / "model.mmh")
        (name,) = archive.names()
        short = name["name"].removeprefix("models/")
        rev = next(iter([*name["branches"], *name["tags"]]))
        target = f"{short}@{rev}"
        self.assertEqual(archive.read(f"{target}:config.json"), b"{}")
        with archive.safe_open(f"{target}:model.safetensors", "raw") as f:
            self.assertEqual((f.get_tensor("w"), f.metadata()), (weights["w"][2], {"k": "v"}))
        self.assertRaises(mmh.Denied, archive.add, root, "acme/x")
        self.assertRaises(mmh.Denied, archive.push, self.repo.place)
        self.assertRaises(mmh.Denied, archive.rm, short)

    def test_sealed_for_a_recipient(self):
        recipient = self.mmh("key", "generate", "me.key").strip().splitlines()[0]
        sealed = mmh.init(self.folder / "sealed", sealed_for=recipient, author="me")
        sealed.add(self.file("a", b"1"), "acme/m")
        self.assertRaises(mmh.Denied, mmh.open, sealed.place)
        for key in [self.folder / "me.key", (self.folder / "me.key").read_text().splitlines()[-1]]:
            self.assertEqual(mmh.open(sealed.place, key=key).read("acme/m:a"), b"1")
        seed = self.mmh("-R", sealed.place, "-i", "me.key", "seed", "show").split()
        seed = next(word for word in seed if word.startswith("mmh1"))
        self.assertEqual(mmh.open(sealed.place, key=seed).read("acme/m:a"), b"1")
        # Sync opens the other side by keys of its own.
        self.repo.pull(sealed.place, key=self.folder / "me.key")
        self.assertEqual(self.repo.read("acme/m:a"), b"1")
        with self.assertRaises(mmh.Invalid):
            mmh.init(self.folder / "bad", sealed_for=["age1nobody"])

    def test_names_must_be_signed_where_a_rule_says_so(self):
        self.added("acme/m", {"a": b"1"})
        place = self.repo.place
        self.mmh("key", "create", "alice", "--plain")
        self.mmh("trust", "add", "acme/*", "alice")
        config = pathlib.Path(os.environ["XDG_CONFIG_HOME"]) / "mmh"
        self.addCleanup((config / "trust.toml").unlink)
        strict = mmh.open(place)
        self.assertRaises(mmh.Denied, strict.read, "acme/m:a")
        self.assertRaises(mmh.Denied, strict.get, "acme/m", self.folder / "out")
        self.assertRaises(mmh.Denied, strict.safe_open, "acme/m:a")
        with strict.change("acme/x") as change:
            change.copy("acme/m:a", "stolen")
            self.assertRaises(mmh.Denied, change.commit)
        self.assertEqual(mmh.open(place, untrusted=True).read("acme/m:a"), b"1")
        self.mmh("-R", place, "--untrusted", "sign", "acme/m", "--key", "alice")
        self.assertEqual(mmh.open(place).read("acme/m:a"), b"1")


if __name__ == "__main__":
    unittest.main()

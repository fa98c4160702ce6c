"""Whole folders, and single files as a file system: large uploads, patterns, the client's cache, fsspec.

`HF_ENDPOINT` names the server, and files go into the current folder; it runs with Xet and without. Every byte that comes
back is compared. Uploads of large folders are `upload_folder` in the client's version 2: `upload_large_folder` and
`hf upload-large-folder` of version 1 are gone from it.
"""

import os
import random
import subprocess
import sys
import urllib.request
from pathlib import Path

from huggingface_hub import HfApi, HfFileSystem, snapshot_download

ENDPOINT = os.environ["HF_ENDPOINT"]
BY_XET = os.environ.get("HF_HUB_DISABLE_XET") != "1"
api = HfApi()
rng = random.Random(11)


def hf(*args, fails=False):
    """Runs the client's command line, as it is installed beside this Python."""
    program = Path(sys.executable).with_name("hf")
    ran = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    assert (ran.returncode != 0) == fails, f"hf {' '.join(args)}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout + ran.stderr


def files(folder):
    """What lies below a folder, but for what the client keeps there for itself."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".cache/") and name != ".gitattributes"}


def put(folder, content):
    for name, data in content.items():
        place = Path(folder) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def sent():
    """How many bytes the server has sent to clients of the hub."""
    with urllib.request.urlopen(ENDPOINT + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith('mmh_sent_bytes_total{door="hub"}'))


def large_folder():
    content = {f"part{n % 7}/{n:03}.json": f'{{"n": {n}}}\n'.encode() * (n % 50 + 1) for n in range(270)}
    content |= {f"weights/{n}.safetensors": rng.randbytes(700_000 + n) for n in range(4)}
    content["weights/again.safetensors"] = content["weights/0.safetensors"]
    put("large", content)
    api.create_repo("acme/folder", repo_type="dataset")
    first = api.upload_folder(repo_id="acme/folder", folder_path="large", repo_type="dataset")
    titles = [commit.title for commit in api.list_repo_commits("acme/folder", repo_type="dataset")]
    # With Xet it comes in several commits, each of at most 250 files.
    assert len(titles) == (3 if BY_XET else 2), titles
    # What is there already is not committed again, as after an upload that broke off.
    again = api.upload_folder(repo_id="acme/folder", folder_path="large", repo_type="dataset")
    assert again.oid == first.oid, (first, again)
    got = snapshot_download("acme/folder", repo_type="dataset")
    assert files(got) == content
    # Some files are new, some are taken out, in the same call.
    put("large", {"part0/new.json": b"{}"})
    api.upload_folder(
        repo_id="acme/folder", folder_path="large", repo_type="dataset", allow_patterns="part0/*", delete_patterns="part1/*"
    )
    wanted = {name: data for name, data in content.items() if not name.startswith("part1/")} | {"part0/new.json": b"{}"}
    got = snapshot_download("acme/folder", repo_type="dataset")
    assert files(got) == wanted


def patterns_and_revisions():
    content = {"config.json": b"{}", "deep/er/a.json": b'{"a": 1}', "w.safetensors": rng.randbytes(400_000)}
    content |= {"w.bin": rng.randbytes(300_000), "deep/w.bin": rng.randbytes(200_000), "notes.txt": b"notes\n"}
    put("mixed", content)
    hf("upload", "acme/mixed", "mixed")
    hf("repos", "branch", "create", "acme/mixed", "exp")
    hf("repos", "tag", "create", "acme/mixed", "v1")
    # A file alone, to a branch, under another name.
    put(".", {"other.bin": rng.randbytes(500_000)})
    hf("upload", "acme/mixed", "other.bin", "w.bin", "--revision", "exp")
    changed = content | {"w.bin": Path("other.bin").read_bytes()}
    commit = api.model_info("acme/mixed", revision="exp").sha

    def downloaded(to, *args):
        hf("download", "acme/mixed", "--local-dir", to, *args)
        return files(to)

    only = lambda names, of: {name: of[name] for name in names}
    assert downloaded("d1", "--include", "*.json") == only(["config.json", "deep/er/a.json"], content)
    assert downloaded("d2", "--exclude", "*.bin", "--exclude", "deep/*") == only(
        ["config.json", "w.safetensors", "notes.txt"], content
    )
    assert downloaded("d3", "--include", "*.bin", "--exclude", "deep/*", "--revision", "exp") == only(["w.bin"], changed)
    assert downloaded("d4", "w.bin", "deep/w.bin", "--revision", commit) == only(["w.bin", "deep/w.bin"], changed)
    assert downloaded("d5", "--revision", "v1") == content
    # The same folder again, of another revision.
    assert downloaded("d5", "--revision", "exp") == changed
    hf("download", "acme/mixed", "--revision", "nowhere", fails=True)
    hf("repos", "delete-files", "acme/mixed", "*.json", "--revision", "exp")
    left = set(api.list_repo_files("acme/mixed", revision="exp"))
    assert left == {".gitattributes", "w.bin", "deep/w.bin", "w.safetensors", "notes.txt"}, left
    assert "exp" in {b.name for b in api.list_repo_refs("acme/mixed").branches}
    hf("repos", "branch", "delete", "acme/mixed", "exp")
    assert [b.name for b in api.list_repo_refs("acme/mixed").branches] == ["main"]


def only_what_is_new():
    content = {f"{n}.safetensors": rng.randbytes(2_000_000) for n in range(3)} | {"config.json": b"{}"}
    put("model", content)
    api.create_repo("acme/grows")
    api.upload_folder(repo_id="acme/grows", folder_path="model")
    before = sent()
    first = snapshot_download("acme/grows")
    assert files(first) == content
    whole = sent() - before
    assert whole > 6_000_000, whole
    change = {"1.safetensors": rng.randbytes(1_000_000), "config.json": b'{"new": true}'}
    put("model", change)
    api.upload_folder(repo_id="acme/grows", folder_path="model")
    before = sent()
    second = snapshot_download("acme/grows")
    assert files(second) == content | change and second != first
    # The file that changed, and lists.
    assert 1_000_000 < sent() - before < 1_200_000, sent() - before
    before = sent()
    assert snapshot_download("acme/grows") == second
    assert sent() - before < 100_000, sent() - before
    # The one before is still there as it was.
    assert files(first) == content
    return [Path(first).name, Path(second).name]


def cache(revisions):
    listed = hf("cache", "ls", "--revisions")
    assert "acme/grows" in listed and all(revision[:8] in listed for revision in revisions), listed
    strictly = ["--fail-on-missing-files", "--fail-on-extra-files"]
    hf("cache", "verify", "acme/grows", "--revision", revisions[0], *strictly)
    hf("cache", "verify", "acme/folder", "--repo-type", "dataset", *strictly)
    hf("cache", "verify", "acme/mixed", "--local-dir", "d1")
    # A file that rotted is told apart by what the server says of it.
    blob = (Path(os.environ["HF_HOME"]) / "hub/models--acme--grows/snapshots" / revisions[1] / "1.safetensors").resolve()
    data = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(b"\0" + data[1:])
    said = hf("cache", "verify", "acme/grows", fails=True)
    assert "1.safetensors" in said, said
    blob.write_bytes(data)
    # The first revision has no name any longer.
    hf("cache", "prune", "--yes")
    listed = hf("cache", "ls", "--revisions")
    assert revisions[0][:8] not in listed and revisions[1][:8] in listed, listed
    hf("cache", "rm", "model/acme/grows", "--yes")
    assert "acme/grows" not in hf("cache", "ls")
    assert files(snapshot_download("acme/grows", revision=revisions[0]))["config.json"] == b"{}"


def read_as_file_system():
    content = {"README.md": b"# Files\n", "data/a.csv": b"a,b\n1,2\n", "data/deep/b.csv": b"a,b\n3,4\n"}
    content |= {"w.bin": rng.randbytes(6_000_000), "empty": b""}
    put("fs", content)
    api.create_repo("acme/fs")
    api.upload_folder(repo_id="acme/fs", folder_path="fs")
    fs, at = HfFileSystem(), "acme/fs"
    assert set(fs.ls(at, detail=False)) == {f"{at}/{n}" for n in [".gitattributes", "README.md", "data", "empty", "w.bin"]}
    assert fs.glob(f"{at}/**/*.csv") == [f"{at}/data/a.csv", f"{at}/data/deep/b.csv"]
    assert fs.glob(f"{at}/*.bin") == [f"{at}/w.bin"]
    assert fs.find(f"{at}/data") == [f"{at}/data/a.csv", f"{at}/data/deep/b.csv"]
    sizes = {name: entry["size"] for name, entry in fs.find(at, detail=True).items() if not name.endswith(".gitattributes")}
    assert sizes == {f"{at}/{name}": len(data) for name, data in content.items()}, sizes
    assert fs.du(f"{at}/data") == len(content["data/a.csv"]) + len(content["data/deep/b.csv"])
    walked = [(path, sorted(folders), sorted(names)) for path, folders, names in fs.walk(f"{at}/data")]
    assert walked == [(f"{at}/data", ["deep"], ["a.csv"]), (f"{at}/data/deep", [], ["b.csv"])], walked
    assert fs.isdir(at) and fs.isdir(f"{at}/data") and not fs.isdir(f"{at}/w.bin") and fs.isfile(f"{at}/empty")
    assert fs.exists(f"{at}/README.md") and not fs.exists(f"{at}/none") and not fs.exists("acme/nothing/here")
    info = fs.info(f"{at}/w.bin", expand_info=True)
    assert info["size"] == 6_000_000 and info["lfs"]["size"] == 6_000_000, info
    head = api.model_info("acme/fs").sha
    listed = {entry["name"]: entry for entry in fs.ls(f"{at}/data", expand_info=True, refresh=True)}
    assert listed[f"{at}/data/a.csv"]["last_commit"].oid in {c.commit_id for c in api.list_repo_commits("acme/fs")}
    assert fs.info(f"{at}/README.md", expand_info=True, refresh=True)["last_commit"].oid == head
    assert fs.modified(f"{at}/README.md") == api.list_repo_commits("acme/fs")[0].created_at
    with fs.open(f"{at}/w.bin", "rb", block_size=1 << 20) as file:
        for start, n in [(5_999_000, 1000), (0, 10), (3_000_000, 2_500_000), (5_999_999, 100)]:
            file.seek(start)
            assert file.read(n) == content["w.bin"][start : start + n], start
        assert file.seek(-7, 2) == 5_999_993 and file.read() == content["w.bin"][-7:]
    with fs.open(f"{at}/w.bin", "rb", block_size=0) as file:
        assert b"".join(iter(lambda: file.read(1_000_003), b"")) == content["w.bin"]
    with fs.open(f"{at}/data/a.csv", "r") as file:
        assert [line.strip() for line in file] == ["a,b", "1,2"]
    assert fs.cat_file(f"{at}/w.bin", start=100, end=200) == content["w.bin"][100:200]
    assert fs.cat([f"{at}/README.md", f"{at}/empty"]) == {f"{at}/README.md": b"# Files\n", f"{at}/empty": b""}
    fs.get(f"{at}/data", "got", recursive=True)
    assert files("got") == {"a.csv": content["data/a.csv"], "deep/b.csv": content["data/deep/b.csv"]}
    with urllib.request.urlopen(fs.url(f"{at}/README.md")) as answer:
        assert answer.read() == content["README.md"]


def write_as_file_system():
    fs, at = HfFileSystem(), "acme/fs"
    data = rng.randbytes(3_000_000)
    with fs.open(f"{at}/new.bin", "wb") as file:
        for start in range(0, len(data), 700_000):
            file.write(data[start : start + 700_000])
    with fs.open(f"{at}/sub/text.txt", "w") as file:
        file.write("one\ntwo\n")
    assert fs.cat_file(f"{at}/new.bin") == data and fs.read_text(f"{at}/sub/text.txt") == "one\ntwo\n"
    fs.cp_file(f"{at}/new.bin", f"{at}/copy.bin")
    fs.cp_file(f"{at}/sub/text.txt", f"{at}/copy.txt")
    fs.mv(f"{at}/new.bin", f"{at}/moved/new.bin")
    assert fs.cat_file(f"{at}/copy.bin") == data == fs.cat_file(f"{at}/moved/new.bin")
    assert fs.read_text(f"{at}/copy.txt") == "one\ntwo\n" and not fs.exists(f"{at}/new.bin")
    # Between repositories, and to a branch.
    api.create_repo("acme/other")
    fs.cp_file(f"{at}/copy.bin", "acme/other/there.bin")
    assert fs.cat_file("acme/other/there.bin") == data
    api.create_branch("acme/fs", branch="exp/one")
    fs.write_text(f"{at}@exp%2Fone/sub/text.txt", "branch\n")
    assert fs.read_text(f"{at}@exp%2Fone/sub/text.txt") == "branch\n"
    assert fs.read_text(f"{at}/sub/text.txt", revision="exp/one") == "branch\n"
    assert fs.read_text(f"{at}@main/sub/text.txt") == "one\ntwo\n" == fs.read_text(f"{at}/sub/text.txt")
    commit = api.model_info("acme/fs", revision="exp/one").sha
    fs.rm(f"{at}@exp%2Fone/sub/text.txt")
    assert not fs.exists(f"{at}@exp%2Fone/sub/text.txt") and fs.read_text(f"{at}@{commit}/sub/text.txt") == "branch\n"
    put("local", {"x/1": b"1", "x/2": rng.randbytes(100_000)})
    fs.put("local/x", f"{at}/put", recursive=True)
    assert fs.cat_file(f"{at}/put/1") == b"1" and fs.cat_file(f"{at}/put/2") == Path("local/x/2").read_bytes()
    fs.rm(f"{at}/put", recursive=True)
    fs.rm(f"{at}/moved/new.bin")
    assert not fs.exists(f"{at}/put") and not fs.exists(f"{at}/moved")
    names = set(api.list_repo_files("acme/fs"))
    kept = {"README.md", "data/a.csv", "data/deep/b.csv", "w.bin", "empty", "sub/text.txt", "copy.bin", "copy.txt"}
    assert names == kept | {".gitattributes"}, names
    refused = [lambda: fs.ls(f"{at}/nowhere"), lambda: fs.info("acme/nothing"), lambda: fs.open(f"{at}/no.txt").read()]
    for call in refused:
        try:
            call()
        except FileNotFoundError:
            continue
        raise AssertionError("what is not there was found")


if __name__ == "__main__":
    large_folder()
    patterns_and_revisions()
    revisions = only_what_is_new()
    if BY_XET:
        # However files came, they lie there alike.
        cache(revisions)
    read_as_file_system()
    write_as_file_system()

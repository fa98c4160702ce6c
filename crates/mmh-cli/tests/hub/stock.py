"""What a stock `huggingface_hub` does against `mmh serve`: every byte compared, without Xet.

Run by the test `stock_clients_of_hubs_are_at_home` with HF_ENDPOINT set. Ends with status 0 if all
holds.
"""

import hashlib
import os
import random
import tempfile
import threading
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

api = HfApi()
work = Path(tempfile.mkdtemp())
rng = random.Random(7)


def refused(kind, status, call):
    try:
        call()
    except kind as error:
        assert error.response.status_code == status, error
        return
    raise AssertionError(f"{kind.__name__} was to be raised")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def whole_repository():
    files = {
        "README.md": b"---\nlicense: mit\npipeline_tag: text-generation\ntags:\n- tiny\n---\n# A\n",
        "config.json": b'{"hidden_size": 4}',
        "weights.bin": rng.randbytes(3_000_000),
        "deep/er/weights.safetensors": rng.randbytes(2_500_001),
        "empty": b"",
    }
    for path, data in files.items():
        place = work / "up" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    url = api.create_repo("acme/tiny")
    assert url.repo_id == "acme/tiny", url
    refused(HfHubHTTPError, 409, lambda: api.create_repo("acme/tiny"))
    api.create_repo("acme/tiny", exist_ok=True)
    commit = api.upload_folder(repo_id="acme/tiny", folder_path=work / "up")
    assert len(commit.oid) == 40
    down = Path(snapshot_download("acme/tiny", cache_dir=work / "cache"))
    for path, data in files.items():
        assert (down / path).read_bytes() == data, path
    assert (down / ".gitattributes").read_text().startswith("*.7z filter=lfs")
    info = api.model_info("acme/tiny", files_metadata=True)
    assert info.sha == commit.oid and info.pipeline_tag == "text-generation"
    large = {s.rfilename: s.lfs for s in info.siblings}
    assert large["weights.bin"].sha256 == sha256(files["weights.bin"])
    assert large["config.json"] is None
    assert "license:mit" in info.tags and "tiny" in info.tags
    blob = hashlib.sha1(b"blob 18\0" + files["config.json"]).hexdigest()
    meta = get_hf_file_metadata(hf_hub_url("acme/tiny", "config.json"))
    assert (meta.etag, meta.commit_hash, meta.size) == (blob, commit.oid, 18)
    # Only what changed is sent again.
    again = api.upload_folder(repo_id="acme/tiny", folder_path=work / "up")
    assert again.oid == commit.oid
    return files, commit


def tree_and_paths(files, commit):
    names = {e.path for e in api.list_repo_tree("acme/tiny", recursive=True)}
    assert names == set(files) | {".gitattributes", "deep", "deep/er"}
    top = list(api.list_repo_tree("acme/tiny", "deep", expand=True))
    assert [e.path for e in top] == ["deep/er"] and top[0].last_commit.oid == commit.oid
    found = api.get_paths_info("acme/tiny", ["config.json", "no", "deep"], expand=True)
    assert {e.path for e in found} == {"config.json", "deep"}
    for rev in ["main", "refs/heads/main", commit.oid]:
        path = hf_hub_download("acme/tiny", "empty", revision=rev, cache_dir=work / "c2")
        assert Path(path).read_bytes() == b""
    refused(EntryNotFoundError, 404, lambda: hf_hub_download("acme/tiny", "no"))
    refused(RevisionNotFoundError, 404, lambda: api.model_info("acme/tiny", revision="no"))
    refused(RepositoryNotFoundError, 404, lambda: api.model_info("acme/none"))
    refused(RevisionNotFoundError, 404, lambda: api.model_info("acme/tiny", revision="0" * 40))
    # A prefix of a commit id is none: pages of git's tools do not make them up.
    commits = api.list_repo_commits("acme/tiny")
    assert commits[0].commit_id == commit.oid and commits[-1].title == "initial commit"
    fs = HfFileSystem()
    assert fs.cat("acme/tiny/config.json") == files["config.json"]
    with fs.open("acme/tiny/weights.bin", "rb") as file:
        file.seek(1_234_567)
        assert file.read(1000) == files["weights.bin"][1_234_567 : 1_235_567]
    assert fs.info("acme/tiny/deep")["type"] == "directory"
    assert fs.glob("acme/tiny/**/*.safetensors") == ["acme/tiny/deep/er/weights.safetensors"]


def commits(files):
    head = api.model_info("acme/tiny").sha
    op = CommitOperationAdd("note.txt", b"one\n")
    done = api.create_commit("acme/tiny", [op], commit_message="A note", parent_commit=head)
    op = CommitOperationAdd("note.txt", b"two\n")
    stale = lambda: api.create_commit(
        "acme/tiny", [op], commit_message="Late", parent_commit=head
    )
    refused(HfHubHTTPError, 412, stale)
    pr = api.create_commit("acme/tiny", [op], commit_message="Ask", create_pr=True)
    assert pr.pr_url.endswith("/discussions/1"), pr.pr_url
    read = lambda rev: Path(
        hf_hub_download("acme/tiny", "note.txt", revision=rev, cache_dir=work / "c3")
    ).read_bytes()
    assert read("refs/pr/1") == b"two\n" and read("main") == b"one\n" == read(done.oid)
    api.create_commit(
        "acme/tiny",
        [
            CommitOperationCopy("weights.bin", "copy/weights.bin"),
            CommitOperationCopy("config.json", "copy/config.json"),
            CommitOperationDelete("deep/"),
            CommitOperationDelete("empty"),
        ],
        commit_message="Move about\n\nwith more to say",
    )
    names = set(api.list_repo_files("acme/tiny"))
    kept = {".gitattributes", "README.md", "config.json", "weights.bin", "note.txt"}
    assert names == kept | {"copy/weights.bin", "copy/config.json"}, names
    path = hf_hub_download("acme/tiny", "copy/weights.bin", cache_dir=work / "c4")
    assert Path(path).read_bytes() == files["weights.bin"]
    refused(HfHubHTTPError, 404, lambda: api.delete_file("gone", "acme/tiny"))

    # Commits at the same moment all land.
    def one(n):
        api.upload_file(
            path_or_fileobj=str(n).encode(), path_in_repo=f"many/{n}", repo_id="acme/tiny"
        )

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    names = set(api.list_repo_files("acme/tiny"))
    assert {f"many/{n}" for n in range(8)} <= names


def branches_and_tags():
    first = api.list_repo_commits("acme/tiny")[-1].commit_id
    api.create_branch("acme/tiny", branch="exp/one", revision=first)
    refused(HfHubHTTPError, 409, lambda: api.create_branch("acme/tiny", branch="exp/one"))
    api.create_branch("acme/tiny", branch="exp/one", exist_ok=True)
    api.create_tag("acme/tiny", tag="v1", tag_message="first")
    refs = api.list_repo_refs("acme/tiny", include_pull_requests=True)
    assert {b.name for b in refs.branches} == {"main", "exp/one"}
    assert [t.name for t in refs.tags] == ["v1"]
    assert [p.ref for p in refs.pull_requests] == ["refs/pr/1"]
    assert api.list_repo_files("acme/tiny", revision="exp/one") == [".gitattributes"]
    api.upload_file(
        path_or_fileobj=b"x", path_in_repo="x", repo_id="acme/tiny", revision="exp/one"
    )
    api.super_squash_history("acme/tiny", branch="exp/one")
    assert len(api.list_repo_commits("acme/tiny", revision="exp/one")) == 1
    assert set(api.list_repo_files("acme/tiny", revision="exp/one")) == {".gitattributes", "x"}
    api.delete_branch("acme/tiny", branch="exp/one")
    api.delete_tag("acme/tiny", tag="v1")
    refused(RevisionNotFoundError, 404, lambda: api.delete_tag("acme/tiny", tag="v1"))


def names_and_kinds():
    data = rng.randbytes(1_000_000)
    api.create_repo("acme/set", repo_type="dataset")
    api.upload_file(
        path_or_fileobj=data,
        path_in_repo="data/train.parquet",
        repo_id="acme/set",
        repo_type="dataset",
    )
    path = hf_hub_download(
        "acme/set", "data/train.parquet", repo_type="dataset", cache_dir=work / "c5"
    )
    assert Path(path).read_bytes() == data
    assert [d.id for d in api.list_datasets(author="acme")] == ["acme/set"]
    assert [m.id for m in api.list_models(search="TIN")] == ["acme/tiny"]
    assert [m.id for m in api.list_models(filter="text-generation")] == ["acme/tiny"]
    assert list(api.list_models(author="nobody")) == []
    api.move_repo("acme/set", "acme/moved", repo_type="dataset")
    assert api.repo_exists("acme/moved", repo_type="dataset")
    # The old name leads on, until another repository takes it.
    assert api.dataset_info("acme/set").id == "acme/moved"
    again = hf_hub_download(
        "acme/set", "data/train.parquet", repo_type="dataset", cache_dir=work / "c6"
    )
    assert Path(again).read_bytes() == data
    api.delete_repo("acme/moved", repo_type="dataset")
    assert not api.repo_exists("acme/set", repo_type="dataset")
    refused(
        RepositoryNotFoundError,
        404,
        lambda: api.delete_repo("acme/moved", repo_type="dataset"),
    )
    assert api.whoami(token="hf_" + "a" * 34)["name"] == "anonymous"


def main():
    assert os.environ["HF_HUB_DISABLE_XET"] == "1"
    files, commit = whole_repository()
    tree_and_paths(files, commit)
    commits(files)
    branches_and_tags()
    names_and_kinds()
    print("all as it should be")


main()

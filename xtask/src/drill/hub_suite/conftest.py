"""What the tests of huggingface_hub need from around them, with `mmh serve` as every hub.

Their source distribution has the tests and not the file that prepares them. `MMH_SUITE` names a file of
JSON with the tokens of the server; `HF_ENDPOINT` is where it listens.
"""

import functools
import json
import os

import httpx2
import pytest

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, constants

from . import testing_constants as names
from .testing_utils import repo_name

HERE = os.environ["HF_ENDPOINT"]
with open(os.environ["MMH_SUITE"]) as file:
    SUITE = json.load(file)
for key, value in SUITE["names"].items():
    setattr(names, key, value)



def public():
    """What some tests expect on the public hub: a small model with a history, and one that moved."""
    api = HfApi(endpoint=HERE, token=names.PUBLIC_TOKEN)
    put = CommitOperationAdd
    model = api.create_repo(names.DUMMY_MODEL_ID).repo_id
    commit = functools.partial(api.create_commit, model, commit_message="a step")
    old = commit([put("config.json", b"{" + b" " * 849 + b"}")])
    names.DUMMY_MODEL_ID_REVISION_ONE_SPECIFIC_COMMIT = old.oid
    commit([put("config.json", b"{" + b" " * 494 + b"}"), put("pytorch_model.bin", bytes(65074))])
    commit([put("README.md", b"hello")], create_pr=True)
    moved = names.DUMMY_RENAMED_OLD_MODEL_ID
    api.create_repo(moved)
    api.create_commit(moved, [put("config.json", b"{}")], commit_message="a step")
    api.move_repo(moved, "hf-internal-testing/dummy-renamed")


# Once: tests that start processes have this file read again.
if "MMH_SUITE_OLD" not in os.environ:
    public()
    os.environ["MMH_SUITE_OLD"] = names.DUMMY_MODEL_ID_REVISION_ONE_SPECIFIC_COMMIT
names.DUMMY_MODEL_ID_REVISION_ONE_SPECIFIC_COMMIT = os.environ["MMH_SUITE_OLD"]

asked = 0
send = httpx2.Client.send


def counting(*args, **kwargs):
    """Counts requests, so that tests that never speak to a server are told apart."""
    global asked
    asked += 1
    return send(*args, **kwargs)


httpx2.Client.send = counting


class RepoFactory:
    """Makes repositories that are gone after the test."""

    def __init__(self, api):
        self.api = api
        self.made = []

    def __call__(self, repo_type="model", **kwargs):
        kwargs.setdefault("repo_id", repo_name(prefix=repo_type))
        if repo_type == "space":
            kwargs.setdefault("space_sdk", "gradio")
        url = self.api.create_repo(repo_type=repo_type, **kwargs)
        self.made.append((url.repo_id, repo_type, kwargs.get("token")))
        return url

    def forget(self):
        for repo_id, repo_type, token in self.made:
            try:
                self.api.delete_repo(repo_id, repo_type=repo_type, token=token)
            except Exception:
                pass


@pytest.fixture
def repo_factory(api):
    factory = RepoFactory(api)
    yield factory
    factory.forget()


@pytest.fixture(scope="session")
def api():
    return HfApi(endpoint=HERE, token=names.TOKEN)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path_factory):
    """No test sees what another one left in the caches."""
    home = tmp_path_factory.mktemp("home")
    for name, place in {
        "HF_HOME": "",
        "HF_HUB_CACHE": "hub",
        "HUGGINGFACE_HUB_CACHE": "hub",
        "HF_XET_CACHE": "xet",
        "HF_ASSETS_CACHE": "assets",
        "HF_TOKEN_PATH": "token",
        "HF_STORED_TOKENS_PATH": "stored_tokens",
    }.items():
        monkeypatch.setattr(constants, name, str(home / place), raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def xet_or_not(request, monkeypatch):
    """Tests marked for Xet have it, whatever the environment says."""
    if request.node.get_closest_marker("xet"):
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
        monkeypatch.delenv("HF_HUB_DISABLE_XET", raising=False)


@pytest.fixture(autouse=True)
def warned(request):
    """Tests marked as deprecated expect to be warned."""
    functions = [f for mark in request.node.iter_markers("deprecated") for f in mark.args]
    if not functions:
        yield
        return
    with pytest.warns(FutureWarning):
        yield


def pytest_configure(config):
    for mark in ["api", "transfer", "inference", "xet", "no_xet", "production", "deprecated", "git_lfs", "vcr"]:
        config.addinivalue_line("markers", f"{mark}: of huggingface_hub")


def reason(item):
    """Why a test is out of scope, or None."""
    if item.get_closest_marker("no_xet"):
        return "marked `no_xet`: wants an environment without hf_xet"
    for line in SUITE["out_of_scope"]:
        if line["test"] in item.nodeid:
            line["used"] = True
            return line["reason"]
    # Of those, one file is content with what `public` makes.
    if item.get_closest_marker("production") and "test_file_download.py" not in item.nodeid:
        return "Asks for what is on the public hub."
    return None


def pytest_collection_modifyitems(config, items):
    kept, left = [], {}
    for item in items:
        why = reason(item)
        if why is None:
            kept.append(item)
        else:
            left.setdefault(why, []).append(item.nodeid)
    config.hook.pytest_deselected(items=[i for i in items if i not in kept])
    items[:] = kept
    config.mmh = {
        "out_of_scope": left,
        "stale": [line["test"] for line in SUITE["out_of_scope"] if not line.get("used")],
        "passed": [], "failed": [], "skipped": [], "asked": [],
    }


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    before = asked
    yield
    if asked > before:
        item.config.mmh["asked"].append(item.nodeid)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    told = item.config.mmh
    failed = told["failed"]
    if report.failed:
        if item.nodeid not in failed:
            failed.append(item.nodeid)
    elif report.skipped:
        told["skipped"].append(item.nodeid)
    elif report.when == "call":
        told["passed"].append(item.nodeid)


def pytest_sessionfinish(session):
    if not hasattr(session.config, "mmh"):
        return
    told = session.config.mmh
    told["passed"] = [t for t in told["passed"] if t not in told["failed"]]
    told["client"] = huggingface_hub.__version__
    with open(SUITE["report"], "w") as file:
        json.dump(told, file)

"""fsspec's own tests for file systems, on ours: `pytest conform.py`."""

import pathlib
import tempfile

import mmh
import pytest
from fsspec.tests import abstract
from mmh.fs import MMHFileSystem


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture(scope="class")
    def fs(self):
        # In memory where there is such a folder: these are thousands of commits.
        memory = "/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(prefix="mmh-conform-", dir=memory) as folder:
            yield MMHFileSystem(mmh.init(pathlib.Path(folder) / "store"))

    @pytest.fixture
    def fs_path(self):
        return "models/acme/m"

    @pytest.fixture
    def supports_empty_directories(self):
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass

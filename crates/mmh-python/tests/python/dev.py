"""Lays the package out as pip would install it: Python's files, the native module as cargo built it,
and the metadata of pyproject.toml. `python dev.py SITE MODULE VERSION`."""

import configparser
import os
import pathlib
import shutil
import sys

import tomllib

PACKAGE = pathlib.Path(__file__).resolve().parents[2]


def lay_out(site: pathlib.Path, module: pathlib.Path, version: str) -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    shutil.copytree(PACKAGE / "python/mmh", site / "mmh", ignore=shutil.ignore_patterns("__pycache__"))
    os.symlink(module, site / "mmh/_native.abi3.so")
    info = site / f"mmh-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata)
    entries = configparser.ConfigParser()
    entries.read_dict(project["entry-points"])
    with (info / "entry_points.txt").open("w") as file:
        entries.write(file)


if __name__ == "__main__":
    lay_out(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3])

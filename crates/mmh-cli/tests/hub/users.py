"""What people run against a hub besides its client: its command line, transformers, datasets and llama.cpp.

`HF_ENDPOINT` names the server, files go into the current folder, and every byte that comes back is compared.
transformers runs without torch here: configuration, tokenizer and weights by safetensors, no network.
"""

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np

ENDPOINT = os.environ["HF_ENDPOINT"]
WORDS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "a", "file", "is", "what", "it", "was"]


def hf(*args):
    """Runs the client's command line, as it is installed beside this Python."""
    program = Path(sys.executable).with_name("hf")
    ran = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"hf {' '.join(args)}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def same(one, other):
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert names, one
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def command_line():
    rng = np.random.default_rng(1)
    folder = Path("folder")
    (folder / "sub").mkdir(parents=True)
    for at in range(40):
        (folder / "sub" / f"{at}.bin").write_bytes(rng.bytes(1000 * at))
    (folder / "weights.bin").write_bytes(rng.bytes(20_000_000))
    (folder / "README.md").write_text("# A model\n")
    hf("upload", "acme/line", "folder")
    hf("download", "acme/line", "--local-dir", "again")
    same(folder, Path("again"))
    hf("upload", "acme/large", "folder", "--repo-type", "dataset")
    hf("download", "acme/large", "--repo-type", "dataset", "--local-dir", "large")
    same(folder, Path("large"))
    hf("download", "acme/line", "sub/7.bin")
    listed = hf("cache", "ls")
    assert "acme/line" in listed, listed


def tokenizer_and_config():
    from safetensors.numpy import load_file, save_file
    from transformers import AutoConfig, AutoTokenizer, BertConfig, BertTokenizer
    from huggingface_hub import HfApi, hf_hub_download

    config = BertConfig(vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    Path("vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizer("vocab.txt")
    config.push_to_hub("acme/bert")
    tokenizer.push_to_hub("acme/bert")
    weights = {"w": np.arange(100_000, dtype=np.float32).reshape(100, 1000)}
    save_file(weights, "model.safetensors", metadata={"format": "pt"})
    HfApi().upload_file(path_or_fileobj="model.safetensors", path_in_repo="model.safetensors", repo_id="acme/bert")
    again = AutoConfig.from_pretrained("acme/bert")
    assert again.hidden_size == 32 and again.model_type == "bert", again
    text = "what it was is a file"
    assert AutoTokenizer.from_pretrained("acme/bert")(text)["input_ids"] == tokenizer(text)["input_ids"]
    got = hf_hub_download("acme/bert", "model.safetensors")
    assert Path(got).read_bytes() == Path("model.safetensors").read_bytes()
    assert np.array_equal(load_file(got)["w"], weights["w"])


def tables():
    from datasets import Dataset, DatasetDict, load_dataset
    from huggingface_hub import HfApi

    rows = {"text": [f"row {i}" for i in range(5000)], "number": list(range(5000))}
    whole = Dataset.from_dict(rows)
    split = DatasetDict({"train": whole.select(range(4000)), "test": whole.select(range(4000, 5000))})
    split.push_to_hub("acme/table")
    loaded = load_dataset("acme/table")
    for name in ["train", "test"]:
        assert loaded[name].to_dict() == split[name].to_dict(), name
    streamed = load_dataset("acme/table", split="test", streaming=True)
    assert [row["number"] for row in streamed] == list(range(4000, 5000))
    # A second commit on top, and one of plain files.
    DatasetDict({"extra": whole.select(range(10))}).push_to_hub("acme/table", config_name="more")
    assert load_dataset("acme/table", "more")["extra"].num_rows == 10
    lines = "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(1000))
    api = HfApi()
    api.create_repo("acme/csv", repo_type="dataset")
    api.upload_file(path_or_fileobj=lines.encode(), path_in_repo="data.csv", repo_id="acme/csv", repo_type="dataset")
    assert load_dataset("acme/csv", split="train")["b"][:4] == [0, 1, 4, 9]


def llama_cpp():
    """The requests of `llama-server -hf acme/gguf` (common/hf-cache.cpp): refs, tree, then the file in parts."""
    from huggingface_hub import HfApi

    data = b"GGUF" + np.random.default_rng(2).bytes(3_000_000)
    api = HfApi()
    api.create_repo("acme/gguf")
    api.upload_file(path_or_fileobj=data, path_in_repo="model-Q4_K_M.gguf", repo_id="acme/gguf")

    def ask(path, method="GET", **headers):
        headers = {"User-Agent": "llama-cpp", "Accept": "*/*", **headers}
        request = urllib.request.Request(ENDPOINT + path, method=method, headers=headers)
        return urllib.request.urlopen(request)

    with ask("/api/models/acme/gguf/refs") as answer:
        branches = {ref["name"]: ref["targetCommit"] for ref in json.load(answer)["branches"]}
    commit = branches["main"]
    assert len(commit) == 40, commit
    with ask(f"/api/models/acme/gguf/tree/{commit}?recursive=true") as answer:
        files = {entry["path"]: entry for entry in json.load(answer) if entry["type"] == "file"}
    entry = files["model-Q4_K_M.gguf"]
    assert entry["size"] == len(data) and entry["lfs"]["oid"] == hashlib.sha256(data).hexdigest(), entry
    path = f"/acme/gguf/resolve/{commit}/model-Q4_K_M.gguf"
    with ask(path, "HEAD") as answer:
        assert int(answer.headers["Content-Length"]) == len(data)
        assert answer.headers["ETag"] and answer.headers["Accept-Ranges"] == "bytes"
    with ask(path, Range="bytes=1000000-") as answer:
        assert answer.status == 206 and answer.read() == data[1_000_000:]
    with ask(path) as answer:
        assert answer.read() == data


if __name__ == "__main__":
    command_line()
    tokenizer_and_config()
    tables()
    llama_cpp()

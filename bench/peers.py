#!/usr/bin/env python3
"""Measures mmh beside other lossless compressors, each in a process of its own, taking turns.

    peers.py files --mmh PATH [--rounds N] [--threads N] [--only a,b] --json OUT FILE...
    peers.py delta --mmh PATH [--rounds N] [--threads N] [--only a,b] --json OUT OLD=NEW...
    peers.py tree  --mmh PATH [--threads N] [--only a,b] --json OUT DIR

`files`: every peer packs and restores each file. Round 0 warms up and is not counted; then all peers
take turns round by round, so that a busy machine hits all alike, and medians are reported. A peer whose
first round takes longer than SLOW_S has only that one. `delta`: the
same for NEW given OLD, which counts only as input. `tree`: a
whole folder once, as each tool would be used for it: one repository or archive, or file by file.

The rows `mmh codec LEVEL` are `mmh bench`: chunks from memory to memory in one thread, with the frames'
own checks, as the peers inside Python work; there the program counts its CPU seconds itself.

Every result is compared byte by byte with its input, outside the timed part. Times are wall clock and
CPU (user and system, all threads and child processes). Peak memory is what a worker's processes held
beyond what the worker held before it began. Input lies in RAM where /dev/shm is large enough.
A peer that is not installed, or that fails, is reported with its error and never with a number.
Started by `cargo xtask bench`, which writes the tables.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SLOW_S = 20
PEERS = {}
DELTA_PEERS = {}
TREE_PEERS = {}


def peer(name, package):
    """Registers a factory `(job) -> (pack, restore)`; both work on paths inside job.place."""
    def register(make):
        PEERS[name] = (make, package)
        return make
    return register


def delta_peer(name, package):
    """The same for a file given an older one."""
    def register(make):
        DELTA_PEERS[name] = (make, package)
        return make
    return register


def tree_peer(name, package):
    """The same for whole folders."""
    def register(make):
        TREE_PEERS[name] = (make, package)
        return make
    return register


class Job:
    """One input for one peer, with a folder of its own."""

    def __init__(self, path, place, threads, mmh, base=None):
        self.path, self.place, self.threads, self.mmh = Path(path), Path(place), threads, mmh
        self.base = Path(base) if base else None

    def read(self):
        return self.path.read_bytes()

    def fresh(self, name):
        """A path in the job's folder where nothing is."""
        path = self.place / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return path

    def run(self, *args):
        done = subprocess.run([str(a) for a in args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")


def in_memory(job, pack, restore):
    """A codec from bytes to bytes."""
    raw, kept = job.read(), {}

    def do_pack():
        kept["packed"] = pack(raw)
        return len(kept["packed"])
    return do_pack, lambda: restore(kept["packed"])


# ---- safetensors, as far as codecs that must be told the element type need it

WIDTH = {"BF16": 2, "F16": 2, "F32": 4}


def tensors(raw):
    """(dtype, start, length) of each tensor in a safetensors file, in order; none for other files."""
    try:
        header_len = struct.unpack("<Q", raw[:8])[0]
        if header_len > len(raw) or raw[8:9] != b"{":
            return []
        header = json.loads(raw[8:8 + header_len])
        spans = [(t["dtype"], 8 + header_len + t["data_offsets"][0], t["data_offsets"][1] - t["data_offsets"][0])
                 for name, t in header.items() if name != "__metadata__"]
        return sorted(spans, key=lambda span: span[1])
    except (ValueError, KeyError, TypeError, struct.error):
        return []


def main_dtype(raw):
    """The element type of most bytes."""
    sums = {}
    for dtype, _, length in tensors(raw):
        sums[dtype] = sums.get(dtype, 0) + length
    return max(sums, key=sums.get, default=None)


def spans(raw):
    """The whole file as runs of one element type, small neighbours joined; None where it is unknown."""
    runs, at = [], 0
    for dtype, start, length in tensors(raw):
        dtype = dtype if dtype in WIDTH else None
        if start > at:
            runs.append([None, at, start - at])
        if runs and runs[-1][0] == dtype and runs[-1][2] < 4 << 20:
            runs[-1][2] += length
        else:
            runs.append([dtype, start, length])
        at = start + length
    if at < len(raw):
        runs.append([None, at, len(raw) - at])
    return runs


# ---- peers for single files

@peer("mmh", None)
def _(job):
    packed = job.place / "packed.mmh"

    def pack():
        job.fresh("packed.mmh")
        job.run(job.mmh, "-q", "pack", "-j", job.threads, job.path, packed)
        return packed.stat().st_size

    def restore():
        out = job.fresh("restored")
        job.run(job.mmh, "-q", "unpack", "-j", job.threads, packed, out)
        return out / job.path.name if out.is_dir() else out
    return pack, restore


def zstd(level):
    def make(job):
        import zstandard
        workers = {"threads": job.threads} if job.threads > 1 else {}
        return in_memory(job,
                         lambda raw: zstandard.ZstdCompressor(level=level, **workers).compress(raw),
                         lambda packed: zstandard.ZstdDecompressor().decompress(packed))
    return make


peer("zstd -3", "zstandard")(zstd(3))
peer("zstd -19", "zstandard")(zstd(19))


@peer("lmzip", "lmzip")
def _(job):
    import lmz
    packed = job.place / "packed.lmz"

    def pack():
        job.fresh("packed.lmz")
        lmz.compress(str(job.path), str(packed), workers=job.threads)
        return packed.stat().st_size

    def restore():
        out = job.fresh("restored")
        lmz.decompress(str(packed), str(out), workers=job.threads, overwrite=True)
        return out
    return pack, restore


@peer("zipnn", "zipnn")
def _(job):
    import zipnn
    raw = job.read()
    name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}.get(main_dtype(raw), "bfloat16")
    codec = zipnn.ZipNN(input_format="byte", bytearray_dtype=name, threads=job.threads)
    return in_memory(job, lambda raw: codec.compress(bytearray(raw)), lambda packed: codec.decompress(bytearray(packed)))


@peer("openzl", "openzl")
def _(job):
    import numpy
    import openzl.ext as zl
    raw = job.read()
    runs, data = spans(raw), numpy.frombuffer(raw, numpy.uint8)

    def compressor(dtype):
        made = zl.Compressor()
        nodes, graphs = zl.nodes, zl.graphs
        entropy = graphs.Entropy()(made)
        if dtype is None:
            graph = graphs.Zstd()(made)
        elif dtype == "F32":
            low = nodes.TransposeSplit()(made, entropy)
            graph = nodes.ConvertSerialToNumLE32()(made, nodes.Float32Deconstruct()(made, sign_frac=low, exponent=entropy))
        elif dtype == "F16":
            low = nodes.TransposeSplit()(made, entropy)
            graph = nodes.ConvertSerialToNumLE16()(made, nodes.Float16Deconstruct()(made, sign_frac=low, exponent=entropy))
        else:
            low = graphs.Store()(made)
            graph = nodes.ConvertSerialToNumLE16()(made, nodes.BFloat16Deconstruct()(made, sign_frac=low, exponent=entropy))
        made.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
        made.select_starting_graph(graph)
        return made
    made, kept = {dtype: compressor(dtype) for dtype, _, _ in runs}, {}

    def pack():
        kept["parts"] = []
        for dtype, start, length in runs:
            context = zl.CCtx()
            context.ref_compressor(made[dtype])
            context.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
            kept["parts"].append(context.compress([zl.Input(zl.Type.Serial, data[start:start + length])]))
        return sum(map(len, kept["parts"]))

    def restore():
        out = (zl.DCtx().decompress(part)[0].content.as_nparray() for part in kept["parts"])
        return b"".join(bytes(numpy.asarray(part)) for part in out)
    return pack, restore


@peer("pcodec", "pcodec")
def _(job):
    import numpy
    from pcodec import ChunkConfig
    from pcodec.standalone import simple_compress, simple_decompress
    types = {"BF16": numpy.uint16, "F16": numpy.float16, "F32": numpy.float32}
    raw = job.read()
    if not tensors(raw):
        raise RuntimeError("needs numbers of a known type: safetensors only")
    runs, kept = spans(raw), {}

    def part(dtype, start, length):
        if dtype is None:
            return raw[start:start + length]
        numbers = numpy.frombuffer(raw, types[dtype], length // WIDTH[dtype], start)
        return simple_compress(numbers, ChunkConfig(compression_level=8))

    def pack():
        kept["parts"] = [part(*run) for run in runs]
        return sum(map(len, kept["parts"]))

    def restore():
        pairs = zip(runs, kept["parts"])
        return b"".join(packed if run[0] is None else simple_decompress(packed).tobytes() for run, packed in pairs)
    return pack, restore


@peer("z4ai", "z4ai")
def _(job):
    import z4ai
    if tensors(job.read()):
        from z4ai import safetensors
        return in_memory(job,
                         lambda raw: safetensors.compress_bytes(raw, threads=job.threads, workers=job.threads),
                         lambda packed: safetensors.decompress_bytes(packed, workers=job.threads))
    return in_memory(job, lambda raw: z4ai.compress(raw, threads=job.threads), z4ai.decompress)


@peer("glyd max", "glyd")
def _(job):
    import glyd
    return in_memory(job, lambda raw: glyd.compress(raw, "max", threads=job.threads), glyd.decompress)


@peer("hf-xet", "hf-xet")
def _(job):
    return xet(job, [job.path])


def xet(job, files):
    """Chunks into a local store; the client has no call that restores from one, so only size and upload."""
    import hf_xet
    os.environ["HF_XET_CACHE"] = str(job.place / "xet-cache")

    def pack():
        store = job.fresh("xet")
        job.fresh("xet-cache")
        store.mkdir()
        hf_xet.upload_files([str(f) for f in files], f"local://{store}", None, None, None, None, None)
        return size_of(store / "xet" / "xorbs" / "xorbs")
    return pack, None


class Measured:
    """A size with CPU seconds that the peer counted itself."""

    def __init__(self, size, cpu_s):
        self.size, self.cpu_s = size, cpu_s


def codec(level):
    """`mmh bench`: it compares what it decodes, and fails if it differs."""
    def make(job):
        kept = {}

        def pack():
            base = ["--base", job.base] if job.base else []
            out = subprocess.run([str(a) for a in [job.mmh, "--json", "bench", "-n", 1, "-l", level, *base, job.path]],
                                 capture_output=True)
            if out.returncode:
                raise RuntimeError(out.stderr.decode(errors="replace")[-300:])
            kept["report"] = json.loads(out.stdout)[0]
            return Measured(kept["report"]["coded"], kept["report"]["encode_cpu_s"])
        return pack, lambda: Measured(None, kept["report"]["decode_cpu_s"])
    return make


for level in "fast", "default", "archive":
    peer(f"mmh codec {level}", None)(codec(level))


# ---- peers for a file given an older one

delta_peer("mmh codec default", None)(codec("default"))


@delta_peer("mmh", None)
def _(job):
    packed = job.place / "packed.mmh"

    def pack():
        job.fresh("packed.mmh")
        job.run(job.mmh, "-q", "pack", "-j", job.threads, "--base", job.base, job.path, packed)
        return packed.stat().st_size

    def restore():
        out = job.fresh("restored")
        job.run(job.mmh, "-q", "unpack", "-j", job.threads, "--base", job.base, packed, out)
        return out / job.path.name if out.is_dir() else out
    return pack, restore


@delta_peer("zstd -3 --patch-from", "zstandard")
def _(job):
    import zstandard
    old = job.base.read_bytes()

    def dictionary():
        return zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    parameters = zstandard.ZstdCompressionParameters.from_level(3, enable_ldm=True, window_log=29)
    return in_memory(job,
                     lambda raw: zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary()).compress(raw),
                     lambda packed: zstandard.ZstdDecompressor(dict_data=dictionary(), max_window_size=1 << 31).decompress(packed))


@delta_peer("lmzip, growth of the archive", "lmzip")
def _(job):
    import lmz
    folder, alone, packed = job.fresh("both"), job.place / "alone.lmz", job.place / "both.lmz"
    folder.mkdir()
    shutil.copy(job.base, folder / "a_old.safetensors")
    shutil.copy(job.path, folder / "b_new.safetensors")
    lmz.compress(str(job.base), str(alone), workers=job.threads)

    def pack():
        job.fresh("both.lmz")
        lmz.compress(str(folder), str(packed), workers=job.threads)
        return packed.stat().st_size - alone.stat().st_size

    def restore():
        out = job.fresh("restored")
        lmz.decompress(str(packed), str(out), workers=job.threads, overwrite=True)
        return next(out.rglob("b_new.safetensors"))
    return pack, restore


@delta_peer("xor, then zipnn", "zipnn")
def _(job):
    import numpy
    import zipnn
    old = numpy.frombuffer(job.base.read_bytes(), numpy.uint8)
    name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}.get(main_dtype(job.read()), "bfloat16")
    codec = zipnn.ZipNN(input_format="byte", bytearray_dtype=name, threads=job.threads)

    def xor(data):
        return (numpy.frombuffer(data, numpy.uint8) ^ old).tobytes()
    return in_memory(job, lambda raw: codec.compress(bytearray(xor(raw))),
                     lambda packed: xor(bytes(codec.decompress(bytearray(packed)))))


@delta_peer("z4ai delta", "z4ai")
def _(job):
    import z4ai
    old = job.base.read_bytes()
    name = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}.get(main_dtype(job.read()))
    return in_memory(job, lambda raw: z4ai.compress_delta(raw, old, dtype=name, threads=job.threads),
                     lambda packed: z4ai.decompress_delta(packed, old))


@delta_peer("glyd with base", "glyd")
def _(job):
    import glyd
    old = job.base.read_bytes()
    return in_memory(job, lambda raw: glyd.compress_with_base(old, raw),
                     lambda packed: glyd.decompress_with_base(old, packed))


# ---- peers for whole folders

@tree_peer("mmh", None)
def _(job):
    repository = job.place / "repository"

    def pack():
        job.fresh("repository")
        job.run(job.mmh, "-q", "-R", repository, "init")
        job.run(job.mmh, "-q", "-R", repository, "-j", job.threads, "add", job.path, "--to", "bench/corpus")
        return size_of(repository)

    def restore():
        out = job.fresh("restored")
        job.run(job.mmh, "-q", "-R", repository, "-j", job.threads, "get", "bench/corpus", out)
        return out
    return pack, restore


@tree_peer("zstd -3, file by file", "zstandard")
def _(job):
    import zstandard
    files, workers = listed(job.path), {"threads": job.threads} if job.threads > 1 else {}
    packed = job.place / "packed"

    def pack():
        job.fresh("packed")
        for file in files:
            out = packed / (str(file) + ".zst")
            out.parent.mkdir(parents=True, exist_ok=True)
            with open(job.path / file, "rb") as source, open(out, "wb") as target:
                zstandard.ZstdCompressor(level=3, **workers).copy_stream(source, target)
        return size_of(packed)

    def restore():
        root = job.fresh("restored")
        for file in files:
            out = root / file
            out.parent.mkdir(parents=True, exist_ok=True)
            with open(packed / (str(file) + ".zst"), "rb") as source, open(out, "wb") as target:
                zstandard.ZstdDecompressor().copy_stream(source, target)
        return root
    return pack, restore


@tree_peer("lmzip, one archive", "lmzip")
def _(job):
    import lmz
    packed = job.place / "packed.lmz"

    def pack():
        job.fresh("packed.lmz")
        lmz.compress(str(job.path), str(packed), workers=job.threads)
        return packed.stat().st_size

    def restore():
        out = job.fresh("restored")
        lmz.decompress(str(packed), str(out), workers=job.threads, overwrite=True)
        inner = [p for p in out.iterdir()]
        return inner[0] if len(inner) == 1 and inner[0].name == job.path.name else out
    return pack, restore


@tree_peer("hf-xet, local store", "hf-xet")
def _(job):
    return xet(job, [job.path / file for file in listed(job.path)])


# ---- measuring

def listed(folder):
    """The files below a folder, relative and sorted."""
    return sorted(p.relative_to(folder) for p in Path(folder).rglob("*") if p.is_file())


def size_of(path):
    path = Path(path)
    return path.stat().st_size if path.is_file() else sum((path / file).stat().st_size for file in listed(path))


def digest(path_or_bytes):
    """SHA-256 of bytes or of a file."""
    if isinstance(path_or_bytes, Path):
        with open(path_or_bytes, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(path_or_bytes).hexdigest()


def same(source, restored):
    """Whether a file or folder came back byte for byte."""
    if source.is_file():
        return digest(source) == digest(restored)
    files = listed(source)
    return files == listed(restored) and all(digest(source / f) == digest(restored / f) for f in files)


def cpu():
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def timed(action):
    """(result, wall seconds, CPU seconds)"""
    used, start = cpu(), time.perf_counter()
    result = action()
    return result, time.perf_counter() - start, cpu() - used


def once(job, pack, restore, resting):
    """One round: pack, restore, compare."""
    size, wall, used = timed(pack)
    if isinstance(size, Measured):
        measured = {"size": size.size, "pack_cpu_s": size.cpu_s, "restore_cpu_s": restore().cpu_s, "identical": True}
        return measured | {"took_s": wall, "peak_rss_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}
    row = {"size": size, "pack_wall_s": wall, "pack_cpu_s": used}
    if restore:
        restored, wall, used = timed(restore)
        row |= {"restore_wall_s": wall, "restore_cpu_s": used}
        if not same(job.path, restored):
            raise RuntimeError("ROUND TRIP DIFFERS")
    row["took_s"] = row["pack_wall_s"] + row.get("restore_wall_s", 0)
    row["identical"] = bool(restore)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resting
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    row["peak_rss_bytes"] = max(own, children, 0) * 1024
    return row


def worker(args):
    """One peer on one input; a line of JSON for each line `go` on standard input."""
    make, _ = MODES[args.mode][args.worker]
    place = tempfile.mkdtemp(prefix="peer-", dir=args.place)
    try:
        job = Job(args.inputs[0], place, args.threads, args.mmh, args.base)
        pack, restore = make(job)
        resting = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in sys.stdin:
            print(json.dumps(once(job, pack, restore, resting)), flush=True)
    except BaseException as error:  # whatever a foreign library throws becomes its line in the table
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def start(args, name, path, base, place):
    command = [sys.executable, os.path.abspath(__file__), args.mode, "--worker", name, "--place", str(place),
               "--threads", str(args.threads), "--mmh", args.mmh, str(path)]
    command += ["--base", str(base)] if base else []
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def turn(process):
    """Lets a worker do one round."""
    try:
        process.stdin.write("go\n")
        process.stdin.flush()
    except OSError:
        pass
    line = process.stdout.readline()
    return json.loads(line) if line.strip() else {"error": "the worker died"}


def stop(process):
    try:
        process.stdin.close()
        process.wait(30)
    except (OSError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def measure(args, path, base, label, place, names):
    """Every peer on one input, interleaved; a summary for each."""
    workers = {name: start(args, name, path, base, place) for name in names}
    rows, errors, slow = {name: [] for name in names}, {}, set()
    for number in range(args.rounds + 1 if args.rounds > 1 else 1):
        for name, process in workers.items():
            if name in errors or name in slow:
                continue
            row = turn(process)
            if "error" in row:
                errors[name] = row["error"]
            elif number or args.rounds == 1:
                rows[name].append(row)
            elif row["took_s"] > SLOW_S:
                rows[name].append(row)
                slow.add(name)
    for process in workers.values():
        stop(process)
    return [summary(path, label, args.threads, name, rows[name], errors.get(name)) for name in names]


def summary(path, label, threads, name, rows, error):
    head = {"input": label, "raw": size_of(path), "peer": name, "threads": threads}
    if error or not rows:
        return head | {"error": error or "no result"}
    times = {key: statistics.median(row[key] for row in rows) for key in rows[0] if key.endswith("_s")}
    peak = max(row["peak_rss_bytes"] for row in rows)
    return head | times | {"size": rows[0]["size"], "peak_rss_bytes": peak, "rounds": len(rows),
                           "identical": all(row["identical"] for row in rows)}


def versions(peers):
    found = {}
    for _, package in peers.values():
        try:
            found[package] = importlib.metadata.version(package) if package else None
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return {name: version for name, version in found.items() if name and version}


def named(path):
    return f"{path.resolve().parent.name}/{path.name}"


MODES = {"files": PEERS, "delta": DELTA_PEERS, "tree": TREE_PEERS}


def scratch_root(inputs, factor):
    """RAM if it holds the inputs several times over, else the usual temporary folder."""
    need = factor * sum(size_of(Path(path)) for path in inputs)
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() and shutil.disk_usage(shm).free > need else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--mmh", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="names of peers, with commas between (beginnings will do)")
    parser.add_argument("--json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    peers = MODES[args.mode]
    args.rounds = 1 if args.mode == "tree" else args.rounds
    wanted = args.only.split(",") if args.only else [""]
    names = [name for name in peers if any(name.startswith(start) for start in wanted)]
    results = []
    for text in args.inputs:
        old, given = map(Path, text.split("=")) if args.mode == "delta" else (None, Path(text))
        with tempfile.TemporaryDirectory(prefix="bench-", dir=scratch_root([given], 2 + 3 * len(names))) as place:
            path, label = given, given.name
            if given.is_file():
                label = named(given)
                path = Path(shutil.copy(given, Path(place) / given.name))
            if old:
                label += f" given {named(old)}"
                old = Path(shutil.copy(old, Path(place) / f"old-{old.name}"))
            for group in ([name] for name in names) if args.mode == "tree" else [names]:
                for row in measure(args, path, old, label, place, group):
                    results.append(row)
                    print(f"{row['input']}  {row['peer']}: {row.get('error') or row['size']}", flush=True)
    Path(args.json).write_text(json.dumps({"versions": versions(peers), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

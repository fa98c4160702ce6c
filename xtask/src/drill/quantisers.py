"""Quantises the rows of a file of F32 by a library of llama.cpp, on one thread, by its C interface.

    quantisers.py LIBRARY NUMBERS ROW WEIGHTS OUT TYPE…

Writes OUT/TYPE.plain and OUT/TYPE.weighted, and prints for each a line `TYPE KIND SECONDS`. LIBRARY is
a libggml-base, or ggml-quants.c compiled by itself (then with functions named quantize_…).
"""

import ctypes
import sys
import time
from pathlib import Path

NUMBERS = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
           "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "IQ4_XS": 23, "TQ1_0": 34, "TQ2_0": 35}
BLOCKS = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
          "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
          "IQ4_NL": (32, 18), "IQ4_XS": (256, 136), "TQ1_0": (256, 54), "TQ2_0": (256, 66)}


def quantiser(library, name):
    """A function of (numbers, output, rows, row, weights)."""
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    if hasattr(library, "ggml_quantize_chunk"):
        chunk = library.ggml_quantize_chunk
        chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
        chunk.restype = ctypes.c_size_t
        return lambda x, out, rows, row, weights: chunk(NUMBERS[name], x, out, 0, rows, row, weights)
    spelt = name.lower().replace("_k", "_K")
    one = getattr(library, "quantize_" + spelt)
    one.argtypes = [pointer, pointer, count, count, pointer]
    one.restype = ctypes.c_size_t
    return one


def main():
    path, numbers, row, weights, out, *types = sys.argv[1:]
    library = ctypes.CDLL(path)
    numbers, weights, row = Path(numbers).read_bytes(), Path(weights).read_bytes(), int(row)
    x = (ctypes.c_float * (len(numbers) // 4)).from_buffer_copy(numbers)
    w = (ctypes.c_float * (len(weights) // 4)).from_buffer_copy(weights)
    rows = len(x) // row
    for name in types:
        numbers_of, bytes_of = BLOCKS[name]
        for kind, weights in (("plain", None), ("weighted", ctypes.addressof(w))):
            blocks = (ctypes.c_uint8 * (rows * row // numbers_of * bytes_of))()
            quantise = quantiser(library, name)
            start = time.process_time()
            written = quantise(ctypes.addressof(x), ctypes.addressof(blocks), rows, row, weights)
            seconds = time.process_time() - start
            if written != len(blocks):
                sys.exit(f"{name}: {written} bytes were written, not {len(blocks)}")
            Path(out, f"{name}.{kind}").write_bytes(blocks)
            print(name, kind, f"{seconds:.6f}")


main()

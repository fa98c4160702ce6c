"""Writes the files of this folder with the libraries whose formats they are.

Run once with torch 2.15.0, numpy 2.4.6 and joblib 1.6.0 on CPython 3.11; the tests read the files
for ever. All elements count up from 0, so that a test can tell them without a library.
"""

import collections
import pickle
import zipfile

import joblib
import numpy as np
import torch


def count(n, dtype):
    return torch.arange(n).to(dtype)


grid = count(24, torch.float16).reshape(4, 6)
state = collections.OrderedDict(
    plain=count(15, torch.float32).reshape(3, 5),
    bf16=count(7, torch.bfloat16),
    scalar=torch.tensor(0, dtype=torch.int64),
    empty=torch.zeros(0),
    whole=grid,
    view=grid[1:3],
    transposed=count(12, torch.float32).reshape(3, 4).t(),
    u16=count(5, torch.uint16),
    f8=torch.tensor([0.0]).to(torch.float8_e4m3fn),
    parameter=torch.nn.Parameter(count(3, torch.float32)),
)
nested = {"model": state, "optimizer": {"state": {0: {"exp_avg": count(3, torch.float32)}}},
          "history": [count(2, torch.float64)], "array": np.arange(6, dtype="<f4")}
torch.save(nested, "nested.pt")
torch.save(nested, "nested_legacy.pt", _use_new_zipfile_serialization=False)

module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
with torch.no_grad():
    for tensor in module.state_dict().values():
        tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
torch.save(module, "module.pt")


class Scale(torch.nn.Module):
    """The least that TorchScript accepts."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(count(6, torch.float32).reshape(3, 2))
        self.register_buffer("steps", count(1, torch.int64))

    def forward(self, x):
        return x * self.weight


torch.jit.script(Scale()).save("script.pt")
# The sources kept for error messages name this machine's folders.
with zipfile.ZipFile("script.pt") as whole:
    members = [(info, whole.read(info)) for info in whole.infolist()]
with zipfile.ZipFile("script.pt", "w") as lean:
    for info, content in members:
        if not info.filename.endswith(".debug_pkl"):
            lean.writestr(info.filename, content, compress_type=info.compress_type)

codes = torch.arange(6, dtype=torch.int8).reshape(2, 3)
torch.save({"q": torch._make_per_tensor_quantized_tensor(codes, 0.5, 1)}, "quantised.pt")

arrays = {
    "plain": np.arange(35, dtype="<f4").reshape(5, 7),
    "fortran": np.asfortranarray(np.arange(8, dtype="<f8").reshape(4, 2).T),
    "big_endian": np.arange(5, dtype=">f4"),
    "objects": np.array([{"inner": np.arange(4, dtype="<i4")}, None], dtype=object),
    "text": np.array(["ab", "c"]),
    "fields": np.zeros(3, dtype=[("a", "<f4"), ("b", "<i2")]),
    "half": np.arange(3, dtype="<f2"),
}
for protocol in range(6):
    with open(f"numpy_protocol_{protocol}.pkl", "wb") as file:
        pickle.dump(arrays, file, protocol=protocol)
joblib.dump(arrays, "arrays.joblib", protocol=5)
joblib.dump(arrays, "compressed.joblib", compress=3)
np.savez("arrays.npz", **arrays)
np.savez_compressed("compressed.npz", plain=arrays["plain"])
with open("torch_in_pickle.pkl", "wb") as file:
    pickle.dump({"t": count(3, torch.float32)}, file)
    pickle.dump(arrays["plain"], file)

shared = ["shared"]
value = {
    "constants": [None, True, False],
    "numbers": (0, 255, 256, 65536, -1, -(2**31), 2**31, -(2**63), 2**63, 0.5),
    "texts": ["", "a'b\"c", "x" * 300],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "nested": [[[[]], {}], {"k": {"k": ()}}],
    "shared": [shared, shared],
    "many": list(range(1100)),
    7: "seven",
}
for protocol in range(6):
    with open(f"values_protocol_{protocol}.pkl", "wb") as file:
        pickle.dump(value, file, protocol=protocol)

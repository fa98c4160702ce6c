"""Writes the files of this folder that h5py, onnx, pyarrow and msgpack-numpy make.

Run once with h5py 3.16.0 (HDF5 2.0), onnx 1.23.2, pyarrow 26.0.1, msgpack 1.2.4, msgpack-numpy
0.4.8 and numpy 2.4.6 on CPython 3.11; the tests read the files for ever. All elements count up
from 0, those of a chunk from its own first.
"""

import h5py
import msgpack
import msgpack_numpy
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
from onnx import TensorProto, helper, numpy_helper


def count(shape, dtype):
    return np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)


def fill(file, n_layers):
    weights = file.create_group("model_weights")
    for i in range(n_layers):
        layer = weights.create_group(f"dense_{i:02}")
        layer["kernel:0"] = count((2, 3), "<f4")
        layer["bias:0"] = count(3, "<f4")
    file["half"] = count(5, "<f2")
    file["counter"] = np.int64(0)
    file["flags"] = np.array([False, True])
    file["big_endian"] = count(4, ">f4")
    file["text"] = "words"
    file["alias"] = file["half"]
    file["soft"] = h5py.SoftLink("/half")
    file.create_dataset("empty", shape=(0, 3), dtype="<f4")
    file.create_dataset("zipped", data=count(100, "<f4"), chunks=(50,), compression="gzip")
    file.create_dataset("chunked", data=np.tile(count(3, "<f8"), (4, 1)), chunks=(1, 3))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((6,))
    compact = h5py.h5d.create(file.id, b"compact", h5py.h5t.STD_I16LE, space, plist)
    compact.write(h5py.h5s.ALL, h5py.h5s.ALL, count(6, "<i2"))
    file["model_weights"].attrs["layer_names"] = [f"dense_{i:02}" for i in range(n_layers)]


with h5py.File("earliest.h5", "w") as file:
    fill(file, 20)
with h5py.File("user_block.h5", "w", userblock_size=512) as file:
    fill(file, 1)
with h5py.File("latest.h5", "w", libver="latest") as file:
    layers = file.create_group("layers")
    layers["kernel"] = count((4, 2), "<f4")
    layers["bias"] = count(2, "<f4")
with h5py.File("latest_dense.h5", "w", libver="latest") as file:
    fill(file, 20)
with h5py.File("latest_many.h5", "w", libver="latest") as file:
    for i in range(90):
        file[f"expert_{i:02}.scale"] = np.uint8(0)


def tensor(name, shape, dtype):
    return numpy_helper.from_array(count(shape, dtype), name)


def model(initializers, nodes=()):
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [*nodes, helper.make_node("Identity", ["w"], ["y"])]
    return helper.make_model(helper.make_graph(nodes, "g", [], [out], initializers))


branch_out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
constant = helper.make_node("Constant", [], ["inner"], value=tensor("", (4,), "<f4"))
branch = helper.make_graph([constant], "then", [], [branch_out])
nodes = [
    helper.make_node("Constant", [], ["outer"], value=tensor("", (2, 2), "<f8")),
    helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch),
]
typed = helper.make_tensor("typed", TensorProto.FLOAT, (3,), [0.0, 1.0, 2.0])
varints = helper.make_tensor("varints", TensorProto.INT64, (3,), [0, 1, 2])
nibbles = helper.make_tensor("nibbles", TensorProto.INT4, (3,), bytes([0x10, 0x02]), raw=True)
initializers = [tensor("w", (3, 5), "<f4"), tensor("half", (7,), "<f2"), typed, varints, nibbles,
                tensor("flag", (), "?"), tensor("none", (0, 2), "<f4")]
onnx.save(model(initializers, nodes), "embedded.onnx")
outside = [tensor("w", (20, 20), "<f4"), tensor("b", (300,), "<f8"), tensor("tiny", (2,), "<f4")]
onnx.save(model(outside), "external.onnx", save_as_external_data=True,
          location="external.onnx.data", size_threshold=1024)

n = 2100
table = pa.table({
    "weight": pa.array(count(n, "<f4")),
    "label": pa.array(np.zeros(n, "<i8")).dictionary_encode(),
    "name": pa.array(["x"] * n),
    "flag": pa.array([True] * n),
    "point": pa.StructArray.from_arrays([pa.array(count(n, "<f8"))], ["x"]),
    "vector": pa.FixedSizeListArray.from_arrays(pa.array(count(2 * n, "<u2")), 2),
    "day": pa.array(count(n, "<i4"), pa.date32()),
    "none": pa.nulls(n),
    "few": pa.array(np.zeros(n, "<i1")),
})
with pa.OSFile("table.arrow", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
    writer.write_table(table)
with pa.OSFile("stream.arrow", "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
lz4 = pa.ipc.IpcWriteOptions(compression="lz4")
small = table.select(["weight"])
with pa.OSFile("lz4.arrow", "wb") as sink, pa.ipc.new_file(sink, small.schema, options=lz4) as w:
    w.write_table(small)
pa.parquet.write_table(small, "table.parquet")

layers = {"nodes": [{"name": "linear"}],
          "params": [{"W": count((4, 3), "<f4"), "b": count(3, "<f4"), "E": None}],
          "other": {"wide": count(2, "<f8"), "codes": count(6, "<u2"), "big": count(2, ">f4")}}
with open("numpy.msgpack", "wb") as file:
    file.write(msgpack.packb(layers, default=msgpack_numpy.encode))

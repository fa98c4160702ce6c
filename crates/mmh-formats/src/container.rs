//! The containers we know by name.

use std::fmt;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Container {
    /// Hugging Face safetensors.
    Safetensors,
    /// GGUF version 2 or 3.
    Gguf,
    /// PyTorch zip archive (`torch.save` since 1.6), TorchScript included.
    TorchZip,
    /// PyTorch before zip: pickles followed by raw storages.
    TorchLegacy,
    /// A pickle with numpy arrays inside (joblib included).
    Pickle,
    /// One numpy array.
    Npy,
    /// A zip of numpy arrays.
    Npz,
    /// A zip archive of anything else (Keras v3 `.keras` included).
    Zip,
    /// ONNX protobuf.
    Onnx,
    /// Tensor data that an ONNX or TensorFlow index file describes.
    External,
    /// HDF5, Keras weights included.
    Hdf5,
    /// TensorFlow Lite flatbuffer.
    Tflite,
    /// TensorFlow checkpoint index (`.index`).
    TfCheckpoint,
    /// MessagePack with arrays inside (flax, spaCy/thinc).
    Msgpack,
    /// CTranslate2 `model.bin`.
    Ctranslate2,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow IPC file (Feather v2 included).
    Arrow,
    /// Text: valid UTF-8 without control characters.
    Text,
    /// Unknown bytes that look like an array of numbers of some width.
    Array,
    /// Unknown bytes.
    Unknown,
}

impl Container {
    /// The name as it is written in objects and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::TorchZip => "torch-zip",
            Self::TorchLegacy => "torch-legacy",
            Self::Pickle => "pickle",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Zip => "zip",
            Self::Onnx => "onnx",
            Self::External => "external",
            Self::Hdf5 => "hdf5",
            Self::Tflite => "tflite",
            Self::TfCheckpoint => "tf-checkpoint",
            Self::Msgpack => "msgpack",
            Self::Ctranslate2 => "ctranslate2",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Text => "text",
            Self::Array => "array",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

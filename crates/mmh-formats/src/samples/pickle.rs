//! Pickles with numpy arrays, as numpy and joblib write them.

use super::SampleTensor;
use super::npy::descr;

/// Writes opcodes one by one.
#[derive(Debug, Default, Clone)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A pickle of a protocol, still without values.
    #[must_use]
    pub fn new(protocol: u8) -> Self {
        Self(vec![0x80, protocol])
    }

    /// Any bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    /// BINUNICODE.
    ///
    /// # Panics
    /// If the text is not small.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let len = u32::try_from(text.len()).expect("small");
        self.raw(b"X").raw(&len.to_le_bytes()).raw(text.as_bytes())
    }

    /// BINBYTES.
    ///
    /// # Panics
    /// If there are 4 GiB or more.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).expect("small");
        self.raw(b"B").raw(&len.to_le_bytes()).raw(bytes)
    }

    /// BININT.
    ///
    /// # Panics
    /// If the number is not small.
    pub fn int(&mut self, number: u64) -> &mut Self {
        let number = i32::try_from(number).expect("small");
        self.raw(b"J").raw(&number.to_le_bytes())
    }

    /// GLOBAL.
    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// A tuple of integers.
    pub fn dims(&mut self, dims: &[u64]) -> &mut Self {
        self.raw(b"(");
        for &dim in dims {
            self.int(dim);
        }
        self.raw(b"t")
    }

    /// The bytes so far.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The bytes so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A `numpy.dtype` in little-endian order.
    fn dtype(&mut self, tensor: &SampleTensor) -> &mut Self {
        self.global("numpy", "dtype");
        self.raw(b"(").text(descr(tensor.dtype)).raw(b"\x89\x88tR");
        self.raw(b"(").int(3).text("<").raw(b"NNN");
        self.raw(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff")
            .int(0)
            .raw(b"tb")
    }
}

/// A dict of arrays, as `pickle.dump` with protocol 3 writes it.
///
/// # Panics
/// If numpy has no such element type.
#[must_use]
pub fn numpy(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut w = Writer::new(3);
    w.raw(b"}(");
    for tensor in tensors {
        w.text(&tensor.name);
        w.global("numpy.core.multiarray", "_reconstruct");
        w.global("numpy", "ndarray").raw(b"K\0\x85C\x01b\x87R");
        w.raw(b"(").int(1).dims(&tensor.shape).dtype(tensor);
        w.raw(b"\x89").bytes(&tensor.data).raw(b"tb");
    }
    w.raw(b"u.");
    w.into_bytes()
}

/// A list of arrays, as `pickle.dump` with protocol 5 writes it.
///
/// # Panics
/// As [`numpy`].
#[must_use]
pub fn numpy_protocol_5(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut w = Writer::new(5);
    w.raw(b"](");
    for tensor in tensors {
        w.text("numpy._core.numeric")
            .text("_frombuffer")
            .raw(b"\x93");
        w.raw(b"(\x96")
            .raw(&(tensor.data.len() as u64).to_le_bytes())
            .raw(&tensor.data);
        w.dtype(tensor).dims(&tensor.shape).text("C").raw(b"tR");
    }
    w.raw(b"e.");
    w.into_bytes()
}

/// A dict of arrays, as joblib writes it: the elements follow the opcode that completes their
/// wrapper, at multiples of 16 where `aligned` (joblib 1.3 and later).
///
/// # Panics
/// As [`numpy`].
#[must_use]
pub fn joblib(tensors: &[SampleTensor], aligned: bool) -> Vec<u8> {
    let mut w = Writer::new(3);
    w.raw(b"}(");
    for tensor in tensors {
        w.text(&tensor.name);
        w.global("joblib.numpy_pickle", "NumpyArrayWrapper")
            .raw(b")\x81}(");
        w.text("subclass").global("numpy", "ndarray");
        w.text("shape").dims(&tensor.shape);
        w.text("order").text("C");
        w.text("dtype").dtype(tensor);
        w.text("allow_mmap").raw(b"\x88");
        if aligned {
            w.text("numpy_array_alignment_bytes").int(16);
        }
        w.raw(b"ub");
        if aligned {
            let padding = 16 - (w.0.len() + 1) % 16;
            w.raw(&[u8::try_from(padding).expect("small")])
                .raw(&vec![0xff; padding]);
        }
        w.raw(&tensor.data);
    }
    w.raw(b"u.");
    w.into_bytes()
}

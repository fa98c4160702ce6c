//! CTranslate2 models of binary version 6.

use mmh_core::Dtype;

use super::SampleTensor;

/// A `model.bin` of `tensors`, with one alias behind them.
///
/// # Panics
/// If CTranslate2 has no such element type.
#[must_use]
pub fn model(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut file = 6u32.to_le_bytes().to_vec();
    string(&mut file, "SampleSpec");
    file.extend(3u32.to_le_bytes());
    file.extend(u32::try_from(tensors.len()).expect("small").to_le_bytes());
    for tensor in tensors {
        string(&mut file, &tensor.name);
        file.push(u8::try_from(tensor.shape.len()).expect("small"));
        for &dim in &tensor.shape {
            file.extend(u32::try_from(dim).expect("small").to_le_bytes());
        }
        file.push(match tensor.dtype {
            Dtype::F32 => 0,
            Dtype::I8 => 1,
            Dtype::I16 => 2,
            Dtype::I32 => 3,
            Dtype::F16 => 4,
            Dtype::BF16 => 5,
            other => panic!("no {other} in CTranslate2"),
        });
        file.extend(
            u32::try_from(tensor.data.len())
                .expect("small")
                .to_le_bytes(),
        );
        file.extend_from_slice(&tensor.data);
    }
    file.extend(1u32.to_le_bytes());
    string(&mut file, "alias");
    string(&mut file, tensors.first().map_or("", |tensor| &tensor.name));
    file
}

fn string(file: &mut Vec<u8>, text: &str) {
    file.extend(u16::try_from(text.len() + 1).expect("small").to_le_bytes());
    file.extend_from_slice(text.as_bytes());
    file.push(0);
}

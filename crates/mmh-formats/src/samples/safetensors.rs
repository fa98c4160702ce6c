//! safetensors files.

use super::SampleTensor;

/// A file with `tensors` in order.
#[must_use]
pub fn file(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut at = 0;
    let entries = tensors.iter().map(|tensor| {
        let begin = at;
        at += tensor.data.len();
        format!(
            r#""{}":{{"dtype":"{}","shape":{:?},"data_offsets":[{begin},{at}]}}"#,
            tensor.name, tensor.dtype, tensor.shape
        )
    });
    let entries: Vec<String> = entries.collect();
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{}}}"#,
        entries.join(",")
    );
    let data: Vec<u8> = tensors
        .iter()
        .flat_map(|tensor| tensor.data.clone())
        .collect();
    with_header(&header, &data)
}

/// A file with any header.
#[must_use]
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let len = header.len() as u64;
    [&len.to_le_bytes(), header.as_bytes(), data].concat()
}

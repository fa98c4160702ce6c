//! How much memory coding takes: at most so many bytes for each byte of content, whatever a frame says.
//!
//! A program of its own, since it counts what the whole process allocates; the one test runs alone.
//! What zstd allocates in C is not counted: at most some megabytes, by its window.

use mmh_codec::samples::{Noise, convolution, moved, quantised, weights};
use mmh_codec::{Base, Context, Decoder, Encoder, Hint, Level, Method, Settings, frame_info};
use mmh_core::Dtype;
use mmh_core::limits::CHUNK_LEN_MAX;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ID: [u8; 32] = [5; 32];

/// The most that `work` holds beyond what was held before it.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    work();
    MEMORY.peak_usage() - before
}

#[derive(Debug)]
struct Sample {
    name: String,
    hint: Hint,
    raw: Vec<u8>,
    base: Option<Vec<u8>>,
    level: Level,
}

impl Sample {
    fn context(&self) -> Context<'_> {
        Context {
            base: self.base.as_deref().map(|raw| Base { id: ID, raw }),
        }
    }
}

/// A chunk of each kind of content: every type, convolutions, differences, the archive level.
fn samples(len: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name: String, hint, raw, base, level| {
        samples.push(Sample {
            name,
            hint,
            raw,
            base,
            level,
        });
    };
    for &dtype in Dtype::ALL {
        let blocks = quantised(dtype, len / dtype.block().1 as usize, 1);
        let raw = if blocks.is_empty() {
            weights(dtype, 512, len, 1)
        } else {
            blocks
        };
        let hint = Hint::tensor(dtype, 512);
        let float = matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32);
        if float {
            let size = dtype.block().1 as usize;
            let next = moved(&raw, dtype, 6, 2);
            let kernels = convolution(dtype, [3, 3, 1], 64, len / size, 1);
            add(
                format!("{dtype} moved"),
                hint,
                next,
                Some(raw.clone()),
                Level::Default,
            );
            let rows = Hint::tensor(dtype, 576);
            add(
                format!("{dtype} convolution"),
                rows,
                kernels,
                None,
                Level::Default,
            );
            add(
                format!("{dtype} archive"),
                hint,
                raw[..len / 4].to_vec(),
                None,
                Level::Archive,
            );
        }
        add(dtype.to_string(), hint, raw, None, Level::Default);
    }
    let text = b"bytes that come again, and again, ".repeat(len / 34);
    add("text".to_owned(), Hint::bytes(), text, None, Level::Default);
    let noise = weights(Dtype::U8, 1, len, 3);
    add(
        "bytes".to_owned(),
        Hint::bytes(),
        noise,
        None,
        Level::Default,
    );
    samples
}

/// Bytes held for each byte of content, with what comes out: while encoding, while decoding, and while
/// decoding what is damaged. The last is what [`Decoder`] promises.
fn bounds(sample: &Sample, method: Method) -> [usize; 3] {
    match (method, sample.level) {
        (Method::Raw | Method::Zstd, _) => [2, 2, 2],
        (_, Level::Archive) => [40, 6, 8],
        (Method::Float | Method::Delta, _) => [12, 6, 8],
        _ => [20, 16, 32],
    }
}

#[test]
fn memory_is_bounded_by_the_content() {
    for sample in samples(2 << 20) {
        let settings = Settings {
            level: sample.level,
            verify: false,
        };
        let mut frame = Vec::new();
        let encoding = peak_of(|| {
            Encoder::new(settings)
                .encode_with(&sample.raw, &sample.hint, &sample.context(), &mut frame)
                .expect("the content can be coded");
        });
        let decode = |frame: &[u8]| {
            let mut back = Vec::new();
            let mut decoder = Decoder::new();
            let done = decoder.decode_with(frame, &sample.context(), CHUNK_LEN_MAX, &mut back);
            done.map(|()| back)
        };
        let mut back = Ok(Vec::new());
        let decoding = peak_of(|| back = decode(&frame));
        assert!(back.as_ref() == Ok(&sample.raw), "{}", sample.name);
        let method = frame_info(&frame).expect("the frame is whole").method;
        let Sample { name, raw, .. } = &sample;
        let bounds = bounds(&sample, method).map(|times| times * raw.len());
        println!(
            "{name} as {method}: {:.1} and {:.1} bytes for each",
            encoding as f64 / raw.len() as f64,
            decoding as f64 / raw.len() as f64
        );
        assert!(encoding <= bounds[0] && decoding <= bounds[1], "{name}");
        let noise = &mut Noise::new(4);
        let place = |noise: &mut Noise, n| usize::try_from(noise.bits() >> 8).unwrap_or(0) % n;
        for _ in 0..16 {
            let mut bad = frame.clone();
            bad.truncate(1 + place(noise, bad.len()));
            for _ in 0..2 {
                let at = place(noise, bad.len().min(400));
                bad[at] = noise.below(256);
            }
            let peak = peak_of(|| drop(decode(&bad)));
            // Its length may be damaged as well.
            assert!(
                peak <= bounds[2] / raw.len() * CHUNK_LEN_MAX,
                "{name}: {peak}"
            );
        }
    }
    what_is_refused_costs_nothing();
    a_part_costs_less_than_the_whole();
}

/// Frames that state more than the caller allows, and methods with nothing behind their headers.
fn what_is_refused_costs_nothing() {
    for method in Method::ALL {
        let refers = u8::from(method == Method::Delta) << 6;
        let head = [1, method.code() | refers, 0x80, 0x80, 0x80, 2];
        let frame = [&head[..], &[0; 60]].concat();
        let mut out = Vec::new();
        let peak = peak_of(|| assert!(Decoder::new().decode(&frame, 1 << 20, &mut out).is_err()));
        assert!(peak < 1 << 16, "{method}: {peak}");
    }
}

/// A range of floats or of quantised blocks takes the memory of its blocks.
fn a_part_costs_less_than_the_whole() {
    for dtype in [Dtype::BF16, Dtype::F32, Dtype::Q4_0] {
        let raw = match dtype {
            Dtype::Q4_0 => quantised(dtype, CHUNK_LEN_MAX / 18, 1),
            _ => weights(dtype, 512, CHUNK_LEN_MAX, 1),
        };
        let mut frame = Vec::new();
        Encoder::new(Settings::default())
            .encode(&raw, &Hint::tensor(dtype, 512), &mut frame)
            .expect("the content can be coded");
        let mut out = Vec::new();
        let peak = peak_of(|| {
            Decoder::new()
                .decode_range(
                    &frame,
                    &Context::default(),
                    1 << 20..(1 << 20) + 9,
                    &mut out,
                )
                .expect("the content has the range");
        });
        assert!(out == raw[1 << 20..(1 << 20) + 9]);
        assert!(peak < raw.len(), "{dtype}: {peak}");
    }
}

//! Measuring the codec on a file: what its chunks take, and how long coding and decoding them takes
//! one thread, from memory to memory.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use mmh_codec::{Base, Context, Decoder, Encoder};
use mmh_core::ChunkId;
use mmh_core::limits::CHUNK_LEN_MAX;
use mmh_formats::read_at::FileSource;
use mmh_formats::{Layout, ReadAt};
use mmh_store::{Buffer, ChunkerParams};
use serde::Serialize;

use crate::cut::{Cutter, Job, Piece, Place, Slot};
use crate::error::{Error, Result};
use crate::repository::{Components, Settings};
use crate::workshop::Workshop;

/// Raw bytes held at once. Larger than the caches, so that chunks come from memory.
const BATCH_LEN: u64 = 64 << 20;

/// What a measurement found. Times are CPU seconds of one thread for the whole file, the median of
/// all rounds; one round before them, which fills buffers and caches, does not count.
#[derive(Debug, Clone, Serialize)]
pub struct MeasureReport {
    /// The container that was recognised.
    pub container: String,
    /// Effort of the encoder.
    pub level: String,
    /// How often everything was measured.
    pub rounds: u32,
    /// Bytes of the file.
    pub raw: u64,
    /// Bytes of the distinct frames and of nothing else.
    pub coded: u64,
    /// Chunks, equal ones counted as often as they occur.
    pub chunks: u64,
    /// From content to frames, without decoding them again.
    pub encode_cpu_s: f64,
    /// From frames to content, with the frames' own checks.
    pub decode_cpu_s: f64,
    /// BLAKE3 of the content, which reading from a repository computes besides.
    pub hash_cpu_s: f64,
    /// Copying the content, the least that any reader does.
    pub copy_cpu_s: f64,
}

/// Chunks of tensors in an older file, by the tensor's name and the chunk's number in it.
type Bases = HashMap<(String, usize), Buffer>;

/// Follows tensors through the pieces of a file.
#[derive(Debug, Default)]
struct Places(Option<(String, usize)>);

impl Places {
    /// The slots of chunks that lie in tensors, and where in which.
    fn of(&mut self, pieces: &[Piece]) -> impl Iterator<Item = (Slot, (String, usize))> {
        pieces.iter().filter_map(move |piece| {
            self.0 = match (&piece.begins, piece.place, self.0.take()) {
                (Some(info), Place::Begins, _) => Some((info.name.clone(), 0)),
                (None, Place::Continues, Some((name, i))) => Some((name, i + 1)),
                _ => None,
            };
            Some((piece.slot, self.0.clone()?))
        })
    }
}

fn open(path: &Path) -> Result<(FileSource, Layout)> {
    let meta = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !meta.is_file() {
        let what = format!("{} is no file; name a file", path.display());
        return Err(Error::Invalid(what));
    }
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let source = FileSource::new(file).map_err(Error::io("read", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let layout = mmh_formats::probe(&source, &name)?;
    Ok((source, layout))
}

/// The chunks of all tensors in the file at `path`, held in memory.
fn bases(path: &Path, shop: &Workshop) -> Result<Bases> {
    let (source, layout) = open(path)?;
    let mut cutter = Cutter::new(&source, &layout, shop.chunking);
    let (mut places, mut bases) = (Places::default(), Bases::new());
    loop {
        shop.components.cancel.check()?;
        let batch = cutter.next_batch(BATCH_LEN)?;
        if batch.pieces.is_empty() && batch.jobs.is_empty() {
            return Ok(bases);
        }
        let mut of_slot: HashMap<Slot, _> = places.of(&batch.pieces).collect();
        for job in batch.jobs {
            if let Some(place) = of_slot.remove(&job.slot) {
                bases.insert(place, job.raw);
            }
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Times {
    encode: Duration,
    decode: Duration,
    hash: Duration,
    copy: Duration,
}

/// Codes every chunk of the file at `path` as adding it would, decodes the frames and compares. With
/// a base, chunks of tensors are given those of the same name in that file, which is held in memory.
/// Single-threaded; nothing is stored.
///
/// # Errors
/// `NotFound`, `Denied`; `Unavailable` when the user cancels; `Internal` when a frame decodes to
/// other bytes, a fault of this program.
pub fn measure(
    path: &Path,
    base: Option<&Path>,
    rounds: u32,
    settings: Settings,
    components: Components,
) -> Result<MeasureReport> {
    let shop = Workshop::new(settings, components, &ChunkerParams::default())?;
    let bases = match base {
        Some(base) => bases(base, &shop)?,
        None => Bases::new(),
    };
    let (source, layout) = open(path)?;
    let progress = shop.components.progress.as_ref();
    progress.begin("measuring", Some(layout.len()));
    let mut cutter = Cutter::new(&source, &layout, shop.chunking);
    let mut bench = Bench::new(&shop);
    let (mut total, mut coded, mut chunks) = (Times::default(), 0, 0);
    let mut places = Places::default();
    loop {
        shop.components.cancel.check()?;
        let batch = cutter.next_batch(BATCH_LEN)?;
        if batch.pieces.is_empty() && batch.jobs.is_empty() {
            break;
        }
        chunks += batch.jobs.len() as u64;
        let of_slot: HashMap<Slot, &[u8]> = places
            .of(&batch.pieces)
            .filter_map(|(slot, place)| Some((slot, &bases.get(&place)?[..])))
            .collect();
        let given: Vec<Option<&[u8]>> = batch
            .jobs
            .iter()
            .map(|job| of_slot.get(&job.slot).copied())
            .collect();
        bench.round(&batch.jobs, &given)?;
        coded += bench.coded(&batch.jobs);
        let measured = (0..rounds.max(1)).map(|_| bench.round(&batch.jobs, &given));
        let measured: Vec<Times> = measured.collect::<Result<_>>()?;
        total = total.sum(Times::median(&measured));
        progress.advance(batch.raw_len);
    }
    progress.end();
    Ok(MeasureReport {
        container: layout.container().as_str().to_owned(),
        level: shop.settings.level.to_string(),
        rounds: rounds.max(1),
        raw: source.len(),
        coded,
        chunks,
        encode_cpu_s: total.encode.as_secs_f64(),
        decode_cpu_s: total.decode.as_secs_f64(),
        hash_cpu_s: total.hash.as_secs_f64(),
        copy_cpu_s: total.copy.as_secs_f64(),
    })
}

/// Coders with their buffers.
struct Bench {
    encoder: Encoder,
    decoder: Decoder,
    frames: Vec<Vec<u8>>,
    raw: Vec<u8>,
    seen: HashSet<ChunkId>,
}

impl Bench {
    fn new(shop: &Workshop) -> Self {
        let coding = mmh_codec::Settings {
            level: shop.settings.level,
            verify: false,
        };
        Self {
            encoder: Encoder::with_engine(coding, shop.components.engine),
            decoder: Decoder::with_engine(shop.components.engine),
            frames: Vec::new(),
            raw: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Codes, decodes and compares all chunks once.
    fn round(&mut self, jobs: &[Job], bases: &[Option<&[u8]>]) -> Result<Times> {
        let mut times = Times::default();
        self.frames
            .resize_with(jobs.len().max(self.frames.len()), Vec::new);
        let start = cpu_time();
        for ((job, frame), base) in jobs.iter().zip(&mut self.frames).zip(bases) {
            let context = context(*base);
            self.encoder
                .encode_with(&job.raw, &job.hint, &context, frame)?;
        }
        times.encode = cpu_time() - start;
        for ((job, frame), base) in jobs.iter().zip(&self.frames).zip(bases) {
            let (context, room) = (context(*base), &mut self.raw);
            let start = cpu_time();
            let raw = self
                .decoder
                .decode_in(frame, &context, CHUNK_LEN_MAX, room)?;
            times.decode += cpu_time() - start;
            if *raw != *job.raw {
                return Err(Error::Codec(mmh_codec::Error::VerifyFailed {
                    method: mmh_codec::frame_info(frame)?.method,
                    len: job.raw.len() as u64,
                }));
            }
            let start = cpu_time();
            std::hint::black_box(blake3::hash(&job.raw));
            times.hash += cpu_time() - start;
        }
        for job in jobs {
            let start = cpu_time();
            self.raw.clear();
            self.raw.extend_from_slice(std::hint::black_box(&job.raw));
            std::hint::black_box(&self.raw);
            times.copy += cpu_time() - start;
        }
        Ok(times)
    }

    /// Bytes of those frames of the last round whose chunks did not occur before.
    fn coded(&mut self, jobs: &[Job]) -> u64 {
        let fresh = jobs
            .iter()
            .zip(&self.frames)
            .filter(|(job, _)| self.seen.insert(ChunkId::of(&job.raw)));
        fresh.map(|(_, frame)| frame.len() as u64).sum()
    }
}

fn context(base: Option<&[u8]>) -> Context<'_> {
    Context {
        base: base.map(|raw| Base { id: [0; 32], raw }),
    }
}

impl Times {
    /// Of each time its own median, the lower of two; nothing took no time.
    fn median(all: &[Self]) -> Self {
        let of = |time: fn(&Self) -> Duration| {
            let mut times: Vec<Duration> = all.iter().map(time).collect();
            times.sort_unstable();
            let middle = times.len().saturating_sub(1) / 2;
            times.get(middle).copied().unwrap_or_default()
        };
        Self {
            encode: of(|t| t.encode),
            decode: of(|t| t.decode),
            hash: of(|t| t.hash),
            copy: of(|t| t.copy),
        }
    }

    fn sum(self, other: Self) -> Self {
        Self {
            encode: self.encode + other.encode,
            decode: self.decode + other.decode,
            hash: self.hash + other.hash,
            copy: self.copy + other.copy,
        }
    }
}

/// CPU time of this thread; where the system does not tell it, wall-clock time since the first call.
fn cpu_time() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
    }
    #[cfg(not(unix))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_while_work_is_done() {
        let start = cpu_time();
        let mut n = 0u64;
        while cpu_time() == start {
            n = std::hint::black_box(n + 1);
        }
        assert!(cpu_time() > start);
    }

    #[test]
    fn median_and_sum_are_taken_for_each_time_apart() {
        let of = |a, b| Times {
            encode: Duration::from_secs(a),
            decode: Duration::from_secs(b),
            hash: Duration::from_secs(a),
            copy: Duration::from_secs(b),
        };
        let all = [of(3, 5), of(4, 2), of(9, 4)];
        let (median, sum) = (Times::median(&all), all[0].sum(all[1]));
        assert_eq!((median.encode.as_secs(), median.decode.as_secs()), (4, 4));
        assert_eq!((sum.hash.as_secs(), sum.copy.as_secs()), (7, 7));
        assert_eq!(Times::median(&all[..2]).encode.as_secs(), 3);
        assert_eq!(Times::median(&[]).copy, Duration::ZERO);
    }
}

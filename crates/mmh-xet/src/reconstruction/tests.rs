//! Plans of ranges against what ranges of the file must be.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn hash(n: u8) -> XetHash {
    XetHash::of_chunk(&[n])
}

fn known(lens: &[u32]) -> Arc<VirtualXorb> {
    Arc::new(VirtualXorb::new(lens.iter().copied()).unwrap())
}

fn term(n: u8, chunks: Range<u32>, raw_len: u64) -> Term {
    let xorb = hash(n);
    Term {
        xorb,
        chunks,
        raw_len,
    }
}

fn plan(file: &[Term], start: u64, end: u64) -> Result<Plan> {
    Plan::new(file, ByteRange { start, end }, &mut |xorb| match *xorb {
        x if x == hash(1) => Ok(known(&[10, 20, 30])),
        x if x == hash(2) => Ok(known(&[5; 8])),
        other => Err(Error::UnknownXorb(other)),
    })
}

/// A file of 50 bytes of one xorb, 10 of another, and 10 of the first again.
fn file() -> [Term; 3] {
    [term(1, 1..3, 50), term(2, 0..2, 10), term(1, 0..1, 10)]
}

#[test]
fn the_answers_have_the_shapes_of_the_protocol() {
    let plan = plan(&file(), 25, 70).unwrap();
    let url = |xorb: &XetHash| format!("http://x/{xorb}");
    let (one, two) = (hash(1).to_string(), hash(2).to_string());
    let terms = json!([
        {"hash": one, "unpacked_length": 30, "range": {"start": 2, "end": 3}},
        {"hash": two, "unpacked_length": 10, "range": {"start": 0, "end": 2}},
        {"hash": one, "unpacked_length": 10, "range": {"start": 0, "end": 1}},
    ]);
    let v1 = serde_json::to_value(plan.v1(&url)).unwrap();
    assert_eq!(v1["offset_into_first_range"], 5);
    assert_eq!(v1["terms"], terms);
    let fetch = json!([
        {"range": {"start": 0, "end": 1}, "url": url(&hash(1)), "url_range": {"start": 0, "end": 17}},
        {"range": {"start": 2, "end": 3}, "url": url(&hash(1)), "url_range": {"start": 46, "end": 83}},
    ]);
    assert_eq!(v1["fetch_info"][&one], fetch);
    let v2 = serde_json::to_value(plan.v2(&url)).unwrap();
    assert_eq!(v2["offset_into_first_range"], 5);
    assert_eq!(v2["terms"], terms);
    let ranges = json!([{"chunks": {"start": 0, "end": 2}, "bytes": {"start": 0, "end": 25}}]);
    assert_eq!(
        v2["xorbs"][&two],
        json!([{"url": url(&hash(2)), "ranges": ranges}])
    );
    assert_eq!(v2["xorbs"][&one].as_array().unwrap().len(), 2);
}

#[test]
fn runs_that_touch_are_fetched_at_once() {
    let file = [
        term(2, 4..6, 10),
        term(2, 0..3, 15),
        term(2, 2..4, 10),
        term(2, 7..8, 5),
    ];
    let plan = plan(&file, 0, 40).unwrap();
    let runs: Vec<_> = plan.fetches[&hash(2)]
        .iter()
        .map(|f| f.chunks.clone())
        .collect();
    assert_eq!(runs, [0..6, 7..8]);
    assert_eq!(
        plan.fetches[&hash(2)][0].bytes,
        ByteRange { start: 0, end: 78 }
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let kind = |file: &[Term], end| plan(file, 0, end).unwrap_err().kind();
    assert_eq!(kind(&file(), 71), mmh_core::ErrorKind::Invalid);
    assert_eq!(kind(&[term(1, 0..2, 31)], 1), mmh_core::ErrorKind::Invalid);
    assert_eq!(kind(&[term(1, 0..4, 60)], 1), mmh_core::ErrorKind::Invalid);
    assert_eq!(kind(&[term(9, 0..1, 10)], 1), mmh_core::ErrorKind::NotFound);
    let endless = [term(1, 0..1, u64::MAX), term(1, 0..1, 10)];
    assert_eq!(kind(&endless, 1), mmh_core::ErrorKind::Invalid);
    // What is not asked for is not looked at.
    plan(&[term(1, 0..1, 10), term(9, 0..1, 10)], 0, 10).unwrap();
    assert_eq!(plan(&[], 0, 0).unwrap(), Plan::default());
}

proptest! {
    /// The chunks of a plan, but for what is to be skipped, begin with the range, and their last
    /// chunk is needed; what is fetched covers them.
    #[test]
    fn plans_cover_their_range(
        runs in prop::collection::vec((0u32..8, 1u32..8), 1..12),
        cuts in prop::array::uniform2(0u64..1000),
    ) {
        let file: Vec<Term> = runs
            .iter()
            .map(|(start, n)| (*start, (start + n).min(8)))
            .map(|(start, end)| term(2, start..end, u64::from(end - start) * 5))
            .collect();
        let bytes: Vec<u32> = file.iter().flat_map(|t| t.chunks.start * 5..t.chunks.end * 5).collect();
        let [a, b] = cuts.map(|at| usize::try_from(at).unwrap() % (bytes.len() + 1));
        let (start, end) = (a.min(b), a.max(b));
        let plan = plan(&file, start as u64, end as u64).unwrap();
        let made: Vec<u32> = plan.terms.iter().flat_map(|t| t.chunks.start * 5..t.chunks.end * 5).collect();
        let made = &made[usize::try_from(plan.skip).unwrap()..];
        prop_assert!(plan.skip < 5 || start == end);
        prop_assert_eq!(&made[..end - start], &bytes[start..end]);
        prop_assert!(made.len() < end - start + 5);
        for term in &plan.terms {
            let mut fetched = plan.fetches[&term.xorb].iter().map(|f| &f.chunks);
            prop_assert!(fetched.any(|f| f.start <= term.chunks.start && term.chunks.end <= f.end));
        }
    }
}

//! Searches for the scale of a block: what quantisers spend their time on.
//!
//! Each tries some scales near the obvious one, solves for the best by least squares, and keeps
//! what has the smallest weighted error. The order of every addition, the number of tries and all
//! constants are those of llama.cpp (`ggml/src/ggml-quants.c`, functions named at each search).
//!
//! No closure holds lanes: it would be compiled apart, without the instructions of its caller.

use super::contraction::{Contract, nearest, nearest_one, within};
use super::lanes::Lanes;

/// Blocks whose largest number is smaller than this are zero.
pub(super) const TINY: f32 = 1e-15;

/// Longest block that is searched.
pub(super) const BLOCK_MAX: usize = 32;

/// The number with the largest magnitude (the first of them), and that magnitude.
#[inline(always)]
pub(super) fn largest<V: Lanes>(x: &[V]) -> (V, V) {
    let mut most = V::splat(0.0);
    let mut magnitude = V::splat(0.0);
    for &x in x {
        let a = x.abs();
        let more = a.gt(magnitude);
        magnitude = V::select(more, a, magnitude);
        most = V::select(more, x, most);
    }
    (most, magnitude)
}

/// A search over one sub-block in each lane.
pub(super) trait Search {
    /// Writes the codes; returns the scale, and the minimum without its sign.
    fn search<C: Contract, V: Lanes>(self, x: &[V], w: &[V], codes: &mut [V]) -> (V, V);
}

/// [`symmetric`], with codes from `-n` to `n - 1`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symmetric(pub(super) i32);

impl Search for Symmetric {
    #[inline(always)]
    fn search<C: Contract, V: Lanes>(self, x: &[V], w: &[V], codes: &mut [V]) -> (V, V) {
        (symmetric::<C, V>(self.0, x, w, codes), V::splat(0.0))
    }
}

/// [`moving`], with codes from -4 to 3; weights are not used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moving;

impl Search for Moving {
    #[inline(always)]
    fn search<C: Contract, V: Lanes>(self, x: &[V], _: &[V], codes: &mut [V]) -> (V, V) {
        (moving::<C, V>(x, codes), V::splat(0.0))
    }
}

/// Codes for one scale, with what they add up to: weights times numbers times codes, and weights
/// times squares of codes.
#[inline(always)]
fn sums<C: Contract, V: Lanes>(n: i32, inverse: V, x: &[V], w: &[V], codes: &mut [V]) -> (V, V) {
    let offset = V::splat(float(n));
    let (mut sum_lx, mut sum_l2) = (V::splat(0.0), V::splat(0.0));
    for ((&x, &w), code) in x.iter().zip(w).zip(codes) {
        let l = nearest::<V>(inverse, x, -n, n - 1);
        *code = l.add(offset);
        sum_lx = within::<C, V>(w.mul(x), l, sum_lx);
        sum_l2 = within::<C, V>(w.mul(l), l, sum_l2);
    }
    (sum_lx, sum_l2)
}

/// Codes from `-n` to `n - 1`, written to `codes` with `n` added; returns the scale
/// (`make_qx_quants` with errors weighted by `w`).
#[inline(always)]
pub(super) fn symmetric<C: Contract, V: Lanes>(n: i32, x: &[V], w: &[V], codes: &mut [V]) -> V {
    let zero = V::splat(0.0);
    let (most, magnitude) = largest(x);
    let not_tiny = magnitude.ge(V::splat(TINY));
    let (sum_lx, sum_l2) = sums::<C, V>(n, V::splat(float(-n)).div(most), x, w, codes);
    let mut scale = V::select(sum_l2.ne(zero), sum_lx.div(sum_l2), zero);
    let mut best = scale.mul(sum_lx);
    let mut other = [zero; BLOCK_MAX];
    let other = &mut other[..x.len()];
    for step in -9..=9 {
        if step == 0 {
            continue;
        }
        let numerator = -within::<C, f32>(0.1, float(step), float(n));
        let (sum_lx, sum_l2) = sums::<C, V>(n, V::splat(numerator).div(most), x, w, other);
        let larger = sum_lx.mul(sum_lx).gt(best.mul(sum_l2));
        let better = V::and(sum_l2.gt(zero), larger);
        if V::any(better) {
            keep(better, other, codes);
            scale = V::select(better, sum_lx.div(sum_l2), scale);
            best = V::select(better, scale.mul(sum_lx), best);
        }
    }
    for code in codes {
        *code = V::select(not_tiny, *code, zero);
    }
    V::select(not_tiny, scale, zero)
}

/// Codes from -4 to 3, written to `codes` with 4 added, each moved while that helps; returns the
/// scale (`make_q3_quants`).
#[inline(always)]
fn moving<C: Contract, V: Lanes>(x: &[V], codes: &mut [V]) -> V {
    const N: i32 = 4;
    let zero = V::splat(0.0);
    let (most, magnitude) = largest(x);
    let not_tiny = magnitude.ge(V::splat(TINY));
    let inverse = V::splat(float(-N)).div(most);
    let (mut sum_lx, mut sum_l2) = (zero, zero);
    for (&x, code) in x.iter().zip(codes.iter_mut()) {
        let l = nearest::<V>(inverse, x, -N, N - 1);
        let w = x.mul(x);
        *code = l;
        sum_lx = within::<C, V>(w.mul(x), l, sum_lx);
        sum_l2 = within::<C, V>(w.mul(l), l, sum_l2);
    }
    let mut active = zero.ge(zero);
    for _ in 0..5 {
        let mut changed = V::nowhere();
        for (&x, code) in x.iter().zip(codes.iter_mut()) {
            let w = x.mul(x);
            let wx = w.mul(x);
            let lx = within::<C, V>(wx.neg(), *code, sum_lx);
            let l2 = within::<C, V>(w.mul(*code).neg(), *code, sum_l2);
            let l = x.mul(l2).div(lx).add(V::splat(super::lanes::MAGIC));
            let l = l.unmagic(-N, N - 1);
            let moves = V::and(V::and(active, lx.gt(zero)), l.ne(*code));
            let lx = within::<C, V>(wx, l, lx);
            let l2 = within::<C, V>(w.mul(l), l, l2);
            let (new, old) = (lx.mul(lx).mul(sum_l2), sum_lx.mul(sum_lx).mul(l2));
            let better = V::and(moves, V::and(l2.gt(zero), new.gt(old)));
            *code = V::select(better, l, *code);
            sum_lx = V::select(better, lx, sum_lx);
            sum_l2 = V::select(better, l2, sum_l2);
            changed = V::or(changed, better);
        }
        active = V::and(active, changed);
        if !V::any(active) {
            break;
        }
    }
    for code in codes {
        *code = V::select(not_tiny, code.add(V::splat(float(N))), zero);
    }
    let scale = V::select(sum_l2.gt(zero), sum_lx.div(sum_l2), zero);
    V::select(not_tiny, scale, zero)
}

/// What a search with a minimum tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    /// The largest code.
    pub(super) code_max: i32,
    /// Added to the largest code in the first try.
    pub(super) first: f32,
    /// Added for each further try.
    pub(super) step: f32,
    /// How many more.
    pub(super) steps: i32,
    /// Errors count by their magnitude instead of their square.
    pub(super) linear: bool,
}

/// Codes from 0 to `code_max` for a scale and a minimum that is not above 0; returns the scale and
/// the minimum without its sign (`make_qkx2_quants`, `make_qkx3_quants`).
#[inline(always)]
pub(super) fn with_minimum<C: Contract, V: Lanes>(
    tries: Tries,
    x: &[V],
    w: &[V],
    codes: &mut [V],
) -> (V, V) {
    let zero = V::splat(0.0);
    let max_code = V::splat(float(tries.code_max));
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = w[0].mul(x[0]);
    for (&x, &w) in x.iter().zip(w).skip(1) {
        min = V::select(min.gt(x), x, min);
        max = V::select(x.gt(max), x, max);
        sum_w = sum_w.add(w);
        sum_x = within::<C, V>(w, x, sum_x);
    }
    min = V::select(min.gt(zero), zero, min);
    let not_flat = max.gt(min);
    let lowest = min;
    let inverse = max_code.div(max.sub(min));
    let mut scale = V::splat(1.0).div(inverse);
    for (&x, code) in x.iter().zip(codes.iter_mut()) {
        *code = nearest::<V>(inverse, x.sub(lowest), 0, tries.code_max);
    }
    let mut best = error::<C, V>(tries, scale, min, (x, w, codes));
    let mut other = [zero; BLOCK_MAX];
    let other = &mut other[..x.len()];
    for step in 0..=tries.steps {
        let numerator = within::<C, f32>(tries.step, float(step), tries.first);
        // What a better try found moves the range that the next ones divide.
        let inverse = V::splat(numerator + float(tries.code_max)).div(max.sub(min));
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for ((&x, &w), code) in x.iter().zip(w).zip(other.iter_mut()) {
            let l = nearest::<V>(inverse, x.sub(min), 0, tries.code_max);
            *code = l;
            let wl = w.mul(l);
            sum_l = within::<C, V>(w, l, sum_l);
            sum_l2 = within::<C, V>(wl, l, sum_l2);
            sum_xl = within::<C, V>(wl, x, sum_xl);
        }
        let d = less::<C, V>(sum_w, sum_l2, sum_l, sum_l);
        let this_min = less::<C, V>(sum_l2, sum_x, sum_l, sum_xl).div(d);
        let this_scale = less::<C, V>(sum_w, sum_xl, sum_x, sum_l).div(d);
        let above = this_min.gt(zero);
        let this_min = V::select(above, zero, this_min);
        let this_scale = V::select(above, sum_xl.div(sum_l2), this_scale);
        let this_error = error::<C, V>(tries, this_scale, this_min, (x, w, other));
        let better = V::and(d.gt(zero), best.gt(this_error));
        if V::any(better) {
            keep(better, other, codes);
            best = V::select(better, this_error, best);
            scale = V::select(better, this_scale, scale);
            min = V::select(better, this_min, min);
        }
    }
    for code in codes {
        *code = V::select(not_flat, *code, zero);
    }
    let min = V::select(not_flat, min, lowest);
    (V::select(not_flat, scale, zero), min.neg())
}

impl Search for Tries {
    #[inline(always)]
    fn search<C: Contract, V: Lanes>(self, x: &[V], w: &[V], codes: &mut [V]) -> (V, V) {
        with_minimum::<C, V>(self, x, w, codes)
    }
}

/// The weighted error of codes.
#[inline(always)]
fn error<C: Contract, V: Lanes>(
    tries: Tries,
    scale: V,
    min: V,
    (x, w, codes): (&[V], &[V], &[V]),
) -> V {
    let mut sum = V::splat(0.0);
    for ((&x, &w), &code) in x.iter().zip(w).zip(codes) {
        let miss = within::<C, V>(scale, code, min).sub(x);
        let miss = if tries.linear {
            miss.abs()
        } else {
            miss.mul(miss)
        };
        sum = within::<C, V>(w, miss, sum);
    }
    sum
}

/// `a * b - c * d`.
#[inline(always)]
fn less<C: Contract, V: Lanes>(a: V, b: V, c: V, d: V) -> V {
    within::<C, V>(a, b, c.mul(d).neg())
}

/// Copies codes in the lanes where the mask is true.
#[inline(always)]
fn keep<V: Lanes>(mask: V::Mask, from: &[V], to: &mut [V]) {
    for (&from, to) in from.iter().zip(to) {
        *to = V::select(mask, from, *to);
    }
}

/// Codes from 0 to `n` for the scales (or minima) of a super-block, which are not below 0; returns
/// the scale of scales (`make_qp_quants`). Codes wrap to eight bits, as they do there.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "codes wrap, so that the same bits come out"
)]
pub(super) fn positive<C: Contract>(n: i32, x: &[f32], w: &[f32], codes: &mut [u8]) -> f32 {
    let max = x
        .iter()
        .fold(0.0f32, |max, &x| if max > x { max } else { x });
    if max < TINY {
        codes.fill(0);
        return 0.0;
    }
    let mut inverse = float(n) / max;
    let scale = 1.0 / inverse;
    let mut best = 0.0;
    for (&x, &w) in x.iter().zip(w) {
        let code = nearest_one(inverse, x) as u8;
        let miss = within::<C, f32>(-scale, f32::from(code), x);
        best = within::<C, f32>(w * miss, miss, best);
    }
    for step in -4..=4 {
        if step == 0 {
            continue;
        }
        let this = within::<C, f32>(0.1, float(step), float(n)) / max;
        let scale = 1.0 / this;
        let mut sum = 0.0;
        for (&x, &w) in x.iter().zip(w) {
            let l = nearest_one(this, x).min(n);
            let miss = within::<C, f32>(-scale, float(l), x);
            sum = within::<C, f32>(w * miss, miss, sum);
        }
        if sum < best {
            best = sum;
            inverse = this;
        }
    }
    let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
    for ((&x, &w), code) in x.iter().zip(w).zip(codes.iter_mut()) {
        let l = nearest_one(inverse, x).min(n);
        *code = l as u8;
        sum_lx = within::<C, f32>(w * x, float(l), sum_lx);
        sum_l2 = within::<C, f32>(w * float(l), float(l), sum_l2);
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((&x, &w), code) in x.iter().zip(w).zip(codes.iter_mut()) {
            let old = f32::from(*code);
            let lx = within::<C, f32>(-(w * x), old, sum_lx);
            let l2 = within::<C, f32>(-(w * old), old, sum_l2);
            if !(lx > 0.0 && l2 > 0.0) {
                continue;
            }
            let l = super::lanes::unmagic(x * l2 / lx + super::lanes::MAGIC).min(n);
            if l == i32::from(*code) {
                continue;
            }
            let lx = within::<C, f32>(w * x, float(l), lx);
            let l2 = within::<C, f32>(w * float(l), float(l), l2);
            if lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                (*code, sum_lx, sum_l2) = (l as u8, lx, l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// A small integer as a number.
#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "at most 23 bits")]
pub(super) fn float(x: i32) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::contraction::{Off, On};
    use super::*;

    const TRIES: Tries = Tries {
        code_max: 15,
        first: -1.0,
        step: 0.1,
        steps: 20,
        linear: false,
    };

    fn weighted(x: &[f32], w: &[f32], back: impl Fn(usize) -> f32) -> f64 {
        let each = x.iter().zip(w).enumerate();
        each.map(|(i, (&x, &w))| f64::from(w) * f64::from(x - back(i)).powi(2))
            .sum()
    }

    fn some_numbers() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1000i16..1000, 16)
            .prop_map(|ints| ints.into_iter().map(|x| f32::from(x) / 1000.0).collect())
    }

    proptest! {
        /// Searching is never worse than the scale that maps the extreme number to the end.
        #[test]
        fn a_searched_scale_is_no_worse_than_the_obvious_one(x in some_numbers()) {
            let w: Vec<f32> = x.iter().map(|x| x * x).collect();
            let mut codes = vec![0.0; 16];
            let scale = symmetric::<Off, f32>(8, &x, &w, &mut codes);
            prop_assert!(codes.iter().all(|code| (0.0..=15.0).contains(code)));
            let found = weighted(&x, &w, |i| scale * (codes[i] - 8.0));
            let most = largest(&x).0;
            if most != 0.0 {
                let obvious = most / -8.0;
                let code = |x: f32| (x / obvious).round_ties_even().clamp(-8.0, 7.0);
                let plain = weighted(&x, &w, |i| obvious * code(x[i]));
                prop_assert!(found <= plain * 1.001 + 1e-9, "{} is above {}", found, plain);
            }
        }

        /// The same, with a minimum.
        #[test]
        fn a_searched_minimum_is_no_worse_than_the_least_number(x in some_numbers()) {
            let w = vec![1.0; 16];
            let mut codes = vec![0.0; 16];
            let (scale, minimum) = with_minimum::<On, f32>(TRIES, &x, &w, &mut codes);
            prop_assert!(codes.iter().all(|code| (0.0..=15.0).contains(code)));
            prop_assert!(minimum >= 0.0);
            let found = weighted(&x, &w, |i| scale * codes[i] - minimum);
            let least = x.iter().fold(0f32, |min, &x| min.min(x));
            let most = x.iter().fold(f32::MIN, |max, &x| max.max(x));
            let obvious = (most - least) / 15.0;
            if obvious > 0.0 {
                let code = |x: f32| ((x - least) / obvious).round_ties_even().clamp(0.0, 15.0);
                let plain = weighted(&x, &w, |i| obvious * code(x[i]) + least);
                prop_assert!(found <= plain * 1.001 + 1e-6, "{} is above {}", found, plain);
            }
        }

        /// Codes that move one by one end no worse than they began.
        #[test]
        fn moving_codes_ends_no_worse(x in some_numbers()) {
            let w: Vec<f32> = x.iter().map(|x| x * x).collect();
            let mut codes = vec![0.0; 16];
            let scale = moving::<Off, f32>(&x, &mut codes);
            prop_assert!(codes.iter().all(|code| (0.0..=7.0).contains(code)));
            let found = weighted(&x, &w, |i| scale * (codes[i] - 4.0));
            let all = weighted(&x, &w, |_| 0.0);
            prop_assert!(found <= all * 1.001 + 1e-9, "{} is above {}", found, all);
        }

        /// Scales of scales: within the codes, and near.
        #[test]
        fn positive_numbers_get_codes_up_to_the_largest(
            x in prop::collection::vec(0u16..1000, 8),
            w in prop::collection::vec(1u16..100, 8),
        ) {
            let x: Vec<f32> = x.into_iter().map(|x| f32::from(x) / 100.0).collect();
            let w: Vec<f32> = w.into_iter().map(f32::from).collect();
            let mut codes = [0; 8];
            let scale = positive::<Off>(63, &x, &w, &mut codes);
            prop_assert!(codes.iter().all(|&code| code <= 63));
            let most = x.iter().fold(0f32, |max, &x| max.max(x));
            for (x, code) in x.iter().zip(codes) {
                prop_assert!((x - scale * f32::from(code)).abs() <= most / 40.0 + 1e-6);
            }
        }
    }

    #[test]
    fn blocks_without_a_size_have_no_scale() {
        let tiny = [1e-16f32; 16];
        let mut codes = [9.0; 16];
        assert_eq!(symmetric::<Off, f32>(4, &tiny, &tiny, &mut codes), 0.0);
        assert_eq!(codes, [0.0; 16]);
        codes = [9.0; 16];
        assert_eq!(moving::<Off, f32>(&tiny, &mut codes), 0.0);
        assert_eq!(codes, [0.0; 16]);
        codes = [9.0; 16];
        let same = [-0.25; 16];
        let found = with_minimum::<Off, f32>(TRIES, &same, &[1.0; 16], &mut codes);
        assert_eq!((found, codes), ((0.0, 0.25), [0.0; 16]));
        let mut bytes = [9; 16];
        assert_eq!(positive::<Off>(15, &tiny, &tiny, &mut bytes), 0.0);
        assert_eq!(bytes, [0; 16]);
    }

    /// The first of equal magnitudes decides the sign of the scale.
    #[test]
    fn the_largest_number_is_the_first_of_its_size() {
        assert_eq!(largest(&[0.5, -2.0, 2.0, 1.0f32]), (-2.0, 2.0));
        assert_eq!(largest::<f32>(&[]), (0.0, 0.0));
    }
}

//! Numbers that are computed side by side: one for the reference, eight with AVX2.
//!
//! Every lane does what one number would do, in the same order, so that the number of lanes never
//! changes a bit. A lane is a sub-block; what is decided for one is a mask for all.

/// Some binary32 numbers, one in each lane.
pub(super) trait Lanes: Copy {
    /// How many.
    const N: usize;
    /// One truth value in each lane.
    type Mask: Copy;

    /// The same number in each lane.
    fn splat(x: f32) -> Self;
    /// The first `N` numbers of a slice, which has at least as many.
    fn load(from: &[f32]) -> Self;
    /// Lane `k` is `from[k * stride]`.
    fn gather(from: &[f32], stride: usize) -> Self;
    /// Writes the lanes to the first `N` numbers of a slice.
    fn store(self, to: &mut [f32]);

    /// Sum, rounded once.
    fn add(self, other: Self) -> Self;
    /// Difference, rounded once.
    fn sub(self, other: Self) -> Self;
    /// Product, rounded once.
    fn mul(self, other: Self) -> Self;
    /// Quotient, rounded once.
    fn div(self, other: Self) -> Self;
    /// `self * b + c`, rounded once: what a fused instruction computes.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Square root, rounded once.
    fn sqrt(self) -> Self;
    /// Without its sign.
    fn abs(self) -> Self;
    /// With the other sign.
    fn neg(self) -> Self;
    /// The integer in the low bits of a number to which [`MAGIC`] was added, limited to a range.
    ///
    /// Numbers beyond 2^22 wrap, as they do in llama.cpp.
    fn unmagic(self, low: i32, high: i32) -> Self;

    /// Where `self > other`; false beside NaN.
    fn gt(self, other: Self) -> Self::Mask;
    /// Where `self >= other`; false beside NaN.
    fn ge(self, other: Self) -> Self::Mask;
    /// Where `self != other`; true beside NaN.
    fn ne(self, other: Self) -> Self::Mask;
    /// Where both are true.
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Where one is true.
    fn or(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// True nowhere.
    fn nowhere() -> Self::Mask;
    /// True somewhere.
    fn any(mask: Self::Mask) -> bool;
    /// `yes` where the mask is true, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
}

/// 1.5 · 2^23: a number of at most 2^22 that is added to it is rounded to an integer, to even at
/// a tie, in the low 23 bits.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// The integer in the low bits of a number to which [`MAGIC`] was added.
#[inline(always)]
pub(super) fn unmagic(x: f32) -> i32 {
    (x.to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000
}

#[allow(
    clippy::cast_precision_loss,
    reason = "the integers have at most 23 bits"
)]
impl Lanes for f32 {
    const N: usize = 1;
    type Mask = bool;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        from[0]
    }
    #[inline(always)]
    fn gather(from: &[f32], _: usize) -> Self {
        from[0]
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[0] = self;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self / other
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self::mul_add(self, b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self::abs(self)
    }
    #[inline(always)]
    fn neg(self) -> Self {
        -self
    }
    #[inline(always)]
    fn unmagic(self, low: i32, high: i32) -> Self {
        unmagic(self).min(high).max(low) as Self
    }
    #[inline(always)]
    fn gt(self, other: Self) -> bool {
        self > other
    }
    #[inline(always)]
    fn ge(self, other: Self) -> bool {
        self >= other
    }
    #[inline(always)]
    fn ne(self, other: Self) -> bool {
        self != other
    }
    #[inline(always)]
    fn and(a: bool, b: bool) -> bool {
        a && b
    }
    #[inline(always)]
    fn or(a: bool, b: bool) -> bool {
        a || b
    }
    #[inline(always)]
    fn nowhere() -> bool {
        false
    }
    #[inline(always)]
    fn any(mask: bool) -> bool {
        mask
    }
    #[inline(always)]
    fn select(mask: bool, yes: Self, no: Self) -> Self {
        if mask { yes } else { no }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Eight;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// Eight numbers in a register. Only functions that enable AVX2 and FMA may make one.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Eight(__m256);

    /// An intrinsic, in a function that is inlined where its instructions are enabled.
    macro_rules! vector {
        ($($call:tt)*) => {
            // SAFETY: values of this type exist only in functions that enable AVX2 and FMA, which
            // `Engine::detect` has found; pointers come from slices whose length was compared.
            unsafe { $($call)* }
        };
    }

    impl Lanes for Eight {
        const N: usize = 8;
        type Mask = __m256;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            vector!(Self(_mm256_set1_ps(x)))
        }
        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            let from = &from[..8];
            vector!(Self(_mm256_loadu_ps(from.as_ptr())))
        }
        #[inline(always)]
        fn gather(from: &[f32], stride: usize) -> Self {
            let mut lanes = [0.0; 8];
            for (k, lane) in lanes.iter_mut().enumerate() {
                *lane = from[k * stride];
            }
            Self::load(&lanes)
        }
        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            let to = &mut to[..8];
            vector!(_mm256_storeu_ps(to.as_mut_ptr(), self.0));
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            vector!(Self(_mm256_add_ps(self.0, other.0)))
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            vector!(Self(_mm256_sub_ps(self.0, other.0)))
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            vector!(Self(_mm256_mul_ps(self.0, other.0)))
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            vector!(Self(_mm256_div_ps(self.0, other.0)))
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            vector!(Self(_mm256_fmadd_ps(self.0, b.0, c.0)))
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            vector!(Self(_mm256_sqrt_ps(self.0)))
        }
        #[inline(always)]
        fn abs(self) -> Self {
            vector!(Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)))
        }
        #[inline(always)]
        fn neg(self) -> Self {
            vector!(Self(_mm256_xor_ps(_mm256_set1_ps(-0.0), self.0)))
        }
        #[inline(always)]
        fn unmagic(self, low: i32, high: i32) -> Self {
            vector!({
                let bits = _mm256_castps_si256(self.0);
                let bits = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
                let int = _mm256_sub_epi32(bits, _mm256_set1_epi32(0x0040_0000));
                let int = _mm256_min_epi32(int, _mm256_set1_epi32(high));
                let int = _mm256_max_epi32(int, _mm256_set1_epi32(low));
                Self(_mm256_cvtepi32_ps(int))
            })
        }
        #[inline(always)]
        fn gt(self, other: Self) -> __m256 {
            vector!(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0))
        }
        #[inline(always)]
        fn ge(self, other: Self) -> __m256 {
            vector!(_mm256_cmp_ps::<_CMP_GE_OQ>(self.0, other.0))
        }
        #[inline(always)]
        fn ne(self, other: Self) -> __m256 {
            vector!(_mm256_cmp_ps::<_CMP_NEQ_UQ>(self.0, other.0))
        }
        #[inline(always)]
        fn and(a: __m256, b: __m256) -> __m256 {
            vector!(_mm256_and_ps(a, b))
        }
        #[inline(always)]
        fn or(a: __m256, b: __m256) -> __m256 {
            vector!(_mm256_or_ps(a, b))
        }
        #[inline(always)]
        fn nowhere() -> __m256 {
            vector!(_mm256_setzero_ps())
        }
        #[inline(always)]
        fn any(mask: __m256) -> bool {
            vector!(_mm256_movemask_ps(mask) != 0)
        }
        #[inline(always)]
        fn select(mask: __m256, yes: Self, no: Self) -> Self {
            vector!(Self(_mm256_blendv_ps(no.0, yes.0, mask)))
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    const SIDE: [f32; 12] = [
        0.0,
        -0.0,
        1.5,
        -2.5,
        1e-40,
        -3e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        MAGIC + 7.0,
        MAGIC - 9.0,
        f32::NAN,
        12.25,
    ];

    /// What both do with each pair of numbers, as bits; NaNs are one.
    fn all<V: Lanes>() -> Vec<u32> {
        let mut seen = Vec::new();
        let mut keep = |x: V| {
            let mut lanes = [0.0; 8];
            x.store(&mut lanes);
            for lane in &lanes[..V::N] {
                let nan = lane.is_nan();
                seen.push(if nan { 1 } else { lane.to_bits() });
            }
        };
        let cyclic: Vec<f32> = SIDE.iter().cycle().take(12 * 8 + 8).copied().collect();
        for step in 0..12 {
            for start in (0..96).step_by(V::N) {
                let a = V::load(&cyclic[start..]);
                let other: Vec<f32> = (0..8).map(|k| cyclic[(start + k + step) % 96]).collect();
                let b = V::gather(&other, 1);
                for x in [a.add(b), a.sub(b), a.mul(b), a.div(b), a.mul_add(b, a)] {
                    keep(x);
                }
                for x in [a.sqrt(), a.abs(), a.neg(), a.unmagic(-8, 7)] {
                    keep(x);
                }
                let masks = [
                    a.gt(b),
                    a.ge(b),
                    a.ne(b),
                    V::and(a.gt(b), a.ne(b)),
                    V::or(a.gt(b), b.gt(a)),
                    V::nowhere(),
                ];
                for mask in masks {
                    keep(V::select(mask, V::splat(1.0), V::splat(2.0)));
                }
            }
        }
        seen
    }

    #[target_feature(enable = "avx2,fma")]
    fn eight() -> Vec<u32> {
        all::<Eight>()
    }

    /// The order in which `all` says things differs; sorted by what they are of, they are equal.
    fn by_kind(seen: &[u32], lanes: usize) -> Vec<Vec<u32>> {
        const KINDS: usize = 15;
        let mut kinds = vec![Vec::new(); KINDS];
        for (idx, group) in seen.chunks(lanes).enumerate() {
            kinds[idx % KINDS].extend_from_slice(group);
        }
        kinds
    }

    #[test]
    #[allow(unsafe_code, reason = "calls a function whose instructions were found")]
    fn eight_numbers_are_eight_times_one() {
        let one = all::<f32>();
        if !crate::gguf::Engine::Avx2.is_here() {
            return;
        }
        // SAFETY: the instructions are there.
        let eight = unsafe { eight() };
        assert_eq!(by_kind(&one, 1), by_kind(&eight, 8));
    }

    #[test]
    #[allow(unsafe_code, reason = "calls a function whose instructions were found")]
    fn some_and_none_are_told_apart() {
        #[target_feature(enable = "avx2,fma")]
        fn any_of_eight(x: &[f32; 8]) -> bool {
            Eight::any(Eight::load(x).gt(Eight::splat(0.0)))
        }
        assert!(f32::any(true) && !f32::any(false));
        if !crate::gguf::Engine::Avx2.is_here() {
            return;
        }
        let mut x = [0.0; 8];
        // SAFETY: the instructions are there.
        assert!(!unsafe { any_of_eight(&x) });
        x[5] = 1.0;
        // SAFETY: as above.
        assert!(unsafe { any_of_eight(&x) });
    }
}

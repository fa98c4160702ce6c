//! Parts of the protocol that tests leave out, to show that each is needed and that its absence
//! is noticed. In a program nothing is left out.

/// What is left out; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    not(feature = "testing"),
    allow(unreachable_pub, reason = "only tests name it from outside")
)]
pub struct Broken {
    /// A commit is acknowledged without looking whether its number lies beyond a boundary.
    pub no_boundary_check: bool,
    /// A commit does not look whether what it relies on was collected meanwhile.
    pub no_fence_check: bool,
    /// Packs are deleted before the log says so.
    pub delete_before_fence: bool,
}

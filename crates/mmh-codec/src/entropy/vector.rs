//! What the engines of single instruction sets have in common: they are made only where the
//! instructions were found, and hand over to functions compiled for these.

/// The engine of a module whose `decode::decode` and `encode::encode` need the instructions that
/// `$found` looks for, and maybe `decode::decode_two`. The module allows unsafe code.
macro_rules! vector_engine {
    ($(#[$about:meta])* $engine:ident, $name:literal, $kernels:ident, $found:expr $(, $two:ident)?) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy)]
        pub struct $engine(());

        impl $engine {
            /// The engine, if this CPU has the instructions.
            #[must_use]
            pub fn detect() -> Option<Self> {
                $found.then_some(Self(()))
            }

            /// The same for [`engines`](crate::entropy::engines).
            pub(in crate::entropy) fn found() -> Option<&'static dyn Engine> {
                Self::detect().map(|_| &Self(()) as _)
            }
        }

        impl Engine for $engine {
            fn name(&self) -> &'static str {
                $name
            }

            fn kernels(&self) -> Kernels {
                Kernels::$kernels(*self)
            }

            fn encode(
                &self,
                set: &EncodeSet,
                classes: Classes<'_>,
                symbols: &[u8],
                out: &mut Vec<u8>,
            ) -> Result<()> {
                // SAFETY: this engine is only made where its instructions were found.
                unsafe { encode::encode(set, classes, symbols, out) }
            }

            fn decode(
                &self,
                set: &DecodeSet,
                classes: Classes<'_>,
                block: &[u8],
                symbols: &mut [u8],
            ) -> Result<()> {
                // SAFETY: this engine is only made where its instructions were found.
                unsafe { decode::decode(set, classes, block, symbols) }
            }

            $(
                fn $two(&self, set: &DecodeSet, blocks: [EachBlock<'_>; 2]) -> Result<()> {
                    // SAFETY: as above.
                    unsafe { decode::$two(set, blocks) }
                }
            )?
        }
    };
}

pub(super) use vector_engine;

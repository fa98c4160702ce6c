//! Whole files through the probe: those of the real libraries, and the same tensors in every
//! container.

#![allow(clippy::cast_possible_truncation, reason = "sample files are small")]

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod bundle;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod indexed;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod real;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod twins;
#[cfg(test)]
mod wire;

//! The note by which a store knows which stripe it is part of, and the stripe's shape.
//!
//! Notes are created and never changed: another membership is another *epoch*, with a note of its
//! own beside the old ones. The highest number of all rules.

use std::fmt;
use std::str::FromStr;

use mmh_core::Digest;
use mmh_core::canonical::Canonical;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Most stores of a stripe.
pub const STRIPE_STORES_MAX: u32 = 32;
/// Longest place of a store in bytes.
const PLACE_LEN_MAX: usize = 1024;

/// How many stores hold data, and how many may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeShape {
    /// Stores' worth of data.
    pub data: u32,
    /// Stores' worth of parity: so many may be lost.
    pub parity: u32,
}

impl StripeShape {
    /// All stores.
    #[must_use]
    pub fn stores(self) -> u32 {
        self.data.saturating_add(self.parity)
    }

    fn fits(self) -> bool {
        self.data >= 1 && self.parity >= 1 && self.stores() <= STRIPE_STORES_MAX
    }
}

impl fmt::Display for StripeShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl FromStr for StripeShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (data, parity) = text.split_once('+')?;
            let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            let number = |s: &str| digits(s).then(|| s.parse().ok())?;
            let (data, parity) = (number(data)?, number(parity)?);
            Some(Self { data, parity }).filter(|shape| shape.fits())
        };
        parse().ok_or_else(|| Error::BadStripe {
            reason: format!(
                "`{}` is no shape: `2+1` is two stores of data and one that may be lost, at most \
                 {STRIPE_STORES_MAX} in all",
                mmh_core::error::shorten(text)
            ),
        })
    }
}

/// The value `"stripe"` of the `type` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum StripeTag {
    #[default]
    #[serde(rename = "stripe")]
    Tag,
}

/// A store's place in a stripe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seat {
    /// Random bytes that tell this store from any other that had or will have the seat.
    pub id: Digest,
    /// Where it was when the note was written, without user and password.
    pub place: String,
    /// Whether it took the place of a lost one and does not hold everything yet.
    pub filling: bool,
}

/// Who belongs to a stripe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StripeNote {
    /// Always `"stripe"`.
    pub r#type: StripeTag,
    /// The repository's random bytes.
    pub repository: Digest,
    /// Counts changes of membership, from 1.
    pub epoch: u64,
    /// Data shards of a pack.
    pub data: u32,
    /// Parity shards of a pack.
    pub parity: u32,
    /// The seat of the store that decides which of two creates of one name was first.
    pub home: u32,
    /// The seat of the store that holds the note.
    pub number: u32,
    /// All stores; a store's place in the list is the number of its shards.
    pub stores: Vec<Seat>,
}

impl StripeNote {
    /// The shape that it states.
    pub(crate) fn shape(&self) -> StripeShape {
        StripeShape {
            data: self.data,
            parity: self.parity,
        }
    }

    /// The same for another seat.
    pub(super) fn of_seat(&self, number: usize) -> Self {
        Self {
            number: u32::try_from(number).expect("a stripe has at most 32 stores"),
            ..self.clone()
        }
    }

    /// The id of the store that holds the note.
    pub(super) fn own_id(&self) -> Digest {
        self.stores[self.number as usize].id
    }
}

impl Canonical for StripeNote {
    const WHAT: &'static str = "stripe";
    const LEN_MAX: usize = 64 << 10;

    fn check(&self) -> mmh_core::Result<()> {
        let n = self.stores.len() as u64;
        let mut ids: Vec<&Digest> = self.stores.iter().map(|seat| &seat.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let flaw = if !self.shape().fits() || n != u64::from(self.shape().stores()) {
            "its shape and its stores do not agree"
        } else if self.number >= self.shape().stores() || self.home >= self.shape().stores() {
            "it names a seat that is none"
        } else if ids.len() != self.stores.len() {
            "two stores have one id"
        } else if self.stores.iter().any(|s| s.place.len() > PLACE_LEN_MAX) {
            "a place is too long"
        } else if self.epoch == 0 || self.epoch == u64::MAX {
            "its epoch is none"
        } else {
            return Ok(());
        };
        Err(mmh_core::Error::BadObject {
            what: Self::WHAT,
            reason: flaw.to_owned(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use mmh_core::{ErrorKind, canonical};

    use super::*;

    pub(crate) fn sample(data: u32, parity: u32) -> StripeNote {
        let seat = |n: u32| Seat {
            id: Digest::of(&n.to_le_bytes()),
            place: format!("/store/{n}"),
            filling: false,
        };
        StripeNote {
            r#type: StripeTag::Tag,
            repository: Digest::of(b"r"),
            epoch: 1,
            data,
            parity,
            home: 0,
            number: 0,
            stores: (0..data + parity).map(seat).collect(),
        }
    }

    #[test]
    fn shapes_are_written_as_a_sum() {
        let shape: StripeShape = "4+2".parse().unwrap();
        assert_eq!((shape.data, shape.parity, shape.stores()), (4, 2, 6));
        assert_eq!(shape.to_string(), "4+2");
        for bad in [
            "",
            "3",
            "0+1",
            "2+0",
            "2+-1",
            "+1",
            "2+",
            "30+3",
            "2+1+1",
            " 2+1",
            "9999999999+1",
        ] {
            let error = bad.parse::<StripeShape>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn a_note_is_read_back() {
        let note = sample(2, 1).of_seat(2);
        let bytes = canonical::encode(&note).unwrap();
        let back: StripeNote = canonical::decode(&bytes).unwrap();
        assert_eq!((back.own_id(), &back), (note.stores[2].id, &note));
        for len in 0..bytes.len() {
            assert!(canonical::decode::<StripeNote>(&bytes[..len]).is_err());
        }
    }

    /// Seats are used as numbers: a note that lies must not get that far.
    #[test]
    fn notes_that_do_not_hold_together_are_refused() {
        let spoil: [fn(&mut StripeNote); 8] = [
            |note| note.number = 3,
            |note| note.home = 3,
            |note| note.data = 3,
            |note| note.parity = 0,
            |note| note.epoch = 0,
            |note| note.stores[1].id = note.stores[0].id,
            |note| note.stores[1].place = "p".repeat(1025),
            |note| drop(note.stores.pop()),
        ];
        for (n, spoil) in spoil.into_iter().enumerate() {
            let mut note = sample(2, 1);
            spoil(&mut note);
            assert!(canonical::encode(&note).is_err(), "{n}");
        }
    }
}

//! What a world is like: which faults there are and how often, drawn once for each seed.

use super::Broken;
use super::random::Random;

/// Faults and their frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// One directory on one machine, published into by renaming, instead of a remote engine.
    pub local: bool,
    /// The remote engine ignores conditions, and the log lives in a place of its own.
    pub log_elsewhere: bool,
    /// One operation in so many has a fault; 0 for none.
    pub fault_one_in: u64,
    /// One operation in so many is the last of its process; 0 for none.
    pub death_one_in: u64,
    /// At one operation in so many the power of the machine is cut; 0 for none.
    pub power_cut_one_in: u64,
    /// Whether lists are old or short now and then.
    pub lists_lie: bool,
    /// Objects that rot.
    pub rots: u64,
    /// Of a hundred operations so many happen at once, with nobody in between.
    pub bursts_percent: u64,
    /// One operation in so many takes minutes to days.
    pub stall_one_in: u64,
    /// How far the clock of a process may be off, in milliseconds.
    pub skew_ms: u64,
    /// What is left out.
    pub broken: Option<Broken>,
}

impl Weather {
    pub(super) fn draw(rng: &mut Random, broken: Option<Broken>) -> Self {
        let local = rng.one_in(2);
        Self {
            local,
            log_elsewhere: !local && rng.one_in(4),
            fault_one_in: *rng.pick(&[0, 300, 80, 25]),
            death_one_in: *rng.pick(&[0, 400, 150, 60]),
            power_cut_one_in: *rng.pick(&[0, 0, 1_000, 200]),
            lists_lie: !local && rng.one_in(3),
            rots: if rng.one_in(5) { 1 + rng.below(2) } else { 0 },
            bursts_percent: *rng.pick(&[30, 60, 80, 95]),
            stall_one_in: *rng.pick(&[0, 200, 50]),
            skew_ms: *rng.pick(&[0, 0, 2_000, 60_000]),
            broken,
        }
    }

    /// The same place in fair weather.
    pub(super) fn without_faults(self) -> Self {
        Self {
            fault_one_in: 0,
            death_one_in: 0,
            power_cut_one_in: 0,
            lists_lie: false,
            rots: 0,
            stall_one_in: 0,
            ..self
        }
    }

    pub(super) fn is_broken(&self, what: Broken) -> bool {
        self.broken == Some(what)
    }

    /// How long an operation takes, in milliseconds; 0 if nobody comes in between.
    pub(super) fn latency_ms(&self, rng: &mut Random) -> u64 {
        if rng.one_in(self.stall_one_in) {
            return *rng.pick(&[60_000, 600_000, 7_200_000, 100_000_000, 300_000_000]);
        }
        if rng.below(100) < self.bursts_percent {
            return 0;
        }
        let longest = *rng.pick(&[3, 30, 300, 3_000]);
        1 + rng.below(longest)
    }
}

/// What happens to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is done, and says so.
    None,
    /// It is not done, and says so.
    Refused,
    /// It is done, but its reply is lost.
    LostReply,
    /// It says that it failed, and is done later.
    Late,
    /// It is done now, and again later.
    Twice,
    /// A part of it is done, and it says that it failed.
    Torn,
    /// A list is as it was some time ago.
    OldList,
    /// A list ends too early.
    ShortList,
    /// The process is dead: it is not done.
    Dead,
}

/// What kind of operation a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads an object, or its length.
    Read,
    /// Writes or deletes an object.
    Write,
    /// Lists names.
    List,
    /// Appends to a staged file.
    Append,
    /// Any other operation on staged files.
    File,
    /// Lets time pass.
    Sleep,
}

impl Fault {
    /// The fault of an operation, or none.
    pub(super) fn draw(rng: &mut Random, weather: &Weather, kind: Kind) -> Self {
        if kind == Kind::List && weather.lists_lie && rng.one_in(4) {
            return *rng.pick(&[Self::OldList, Self::ShortList]);
        }
        if kind == Kind::Sleep || !rng.one_in(weather.fault_one_in) {
            return Self::None;
        }
        match kind {
            Kind::Write if !weather.local => {
                *rng.pick(&[Self::Refused, Self::LostReply, Self::Late, Self::Twice])
            }
            Kind::Write => *rng.pick(&[Self::Refused, Self::LostReply]),
            Kind::Append => *rng.pick(&[Self::Refused, Self::Torn, Self::LostReply]),
            Kind::Read | Kind::List | Kind::File | Kind::Sleep => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_weather_has_no_faults_and_no_stalls() {
        let mut rng = Random::new(1);
        let calm = Weather::draw(&mut rng, None).without_faults();
        for kind in [
            Kind::Read,
            Kind::Write,
            Kind::List,
            Kind::Append,
            Kind::File,
        ] {
            for _ in 0..200 {
                assert_eq!(Fault::draw(&mut rng, &calm, kind), Fault::None);
                assert!(calm.latency_ms(&mut rng) <= 3_000);
            }
        }
    }

    /// A directory is not behind a network: nothing arrives late or twice there.
    #[test]
    fn faults_suit_the_place_and_the_operation() {
        for seed in 0..500 {
            let mut rng = Random::new(seed);
            let weather = Weather {
                fault_one_in: 1,
                ..Weather::draw(&mut rng, None)
            };
            let write = Fault::draw(&mut rng, &weather, Kind::Write);
            assert_ne!(write, Fault::None);
            if weather.local {
                assert!(matches!(write, Fault::Refused | Fault::LostReply));
                assert!(!weather.lists_lie);
            }
            assert_eq!(Fault::draw(&mut rng, &weather, Kind::Read), Fault::Refused);
            assert_eq!(Fault::draw(&mut rng, &weather, Kind::Sleep), Fault::None);
        }
    }
}

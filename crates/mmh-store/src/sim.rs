//! A simulated world in which the whole store runs from one 64-bit seed: processes on machines, an
//! engine with faults, a clock that is moved by events alone.
//!
//! Every process is a thread, of which exactly one runs at any time. Each operation on the engine,
//! on a staged file or on the clock is an event: the seed says when it happens and what goes wrong
//! with it, and so equal seeds give equal traces. Nothing of the store itself is simulated: what
//! runs is the code that users run. After each change of the engine an auditor looks at all that is
//! published; it keeps its own account of what was acknowledged. docs/testing.md, "Simulation".
//!
//! In the manner of FoundationDB (Zhou et al., SIGMOD 2021, section 4).

mod audit;
mod disk;
mod engine;
mod files;
mod programs;
mod random;
mod weather;
mod workload;
mod world;

use std::sync::Arc;

use mmh_core::Digest;
use tokio::runtime::Runtime;

pub use weather::Weather;

use programs::Role;
use random::Random;
use workload::Start;
use world::World;

/// A promise of the engine, or a step of the store, that a broken world leaves out. The simulation
/// must notice each; otherwise it would prove nothing about what is left in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Syncing a file or a directory returns without having done anything.
    Sync,
    /// Creating a name that is taken replaces it, and says that all is well.
    Condition,
    /// Packs are published after the index runs and log entries that need them.
    Order,
    /// A commit does not look whether its number lies behind a boundary.
    Boundary,
    /// A commit does not look whether what it relies on was collected.
    Fence,
    /// Packs are deleted before the log says so.
    DeleteFirst,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Sync,
        Self::Condition,
        Self::Order,
        Self::Boundary,
        Self::Fence,
        Self::DeleteFirst,
    ];
}

/// A story with fixed parts; the seed decides the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A writer stalls before it creates a log entry. The log goes on, and its old entries are taken
    /// away, the one of that number among them; then the writer goes on. In slatedb (issue 352) it
    /// was told that its write counts.
    StalledWriter,
    /// A writer relies on chunks that no ref needs, and stalls before it creates its log entry. They are
    /// collected; then the writer goes on.
    StalledReliance,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::StalledWriter, Self::StalledReliance];
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Everything is drawn from it.
    pub rng_seed: u64,
    /// What is left out, if anything.
    pub broken: Option<Broken>,
    /// A story, instead of a world that is drawn.
    pub scenario: Option<Scenario>,
    /// Whether the steps are kept as text.
    pub trace: bool,
}

impl Plan {
    /// The sound world of a seed, without a trace.
    #[must_use]
    pub fn of(rng_seed: u64) -> Self {
        Self {
            rng_seed,
            broken: None,
            scenario: None,
            trace: false,
        }
    }
}

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The broken promise, if one was.
    pub violation: Option<String>,
    /// Operations of all processes.
    pub steps: u64,
    /// Operations with a fault.
    pub faults: u64,
    /// Processes that died, by themselves or with their machine.
    pub deaths: u64,
    /// Transactions that were acknowledged.
    pub commits: u64,
    /// Simulated milliseconds.
    pub elapsed_ms: u64,
    /// BLAKE3 of all steps: equal for equal plans.
    pub digest: Digest,
    /// The steps, if the plan asks for them.
    pub trace: Vec<String>,
}

/// Runs simulations one after the other. What all share is made once.
#[derive(Debug)]
pub struct Simulator {
    runtime: Runtime,
    starts: Vec<Arc<Start>>,
}

impl Simulator {
    /// Prepares the stores that simulations begin with.
    ///
    /// # Panics
    /// If no runtime can be had or the sound store fails.
    #[must_use]
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(4)
            .build()
            .expect("a runtime without drivers needs nothing of the system");
        let starts = workload::starts(runtime.handle());
        Self { runtime, starts }
    }

    /// Runs one simulation.
    #[must_use]
    pub fn run(&self, plan: &Plan) -> Outcome {
        let mut rng = Random::new(plan.rng_seed);
        let mut weather = Weather::draw(&mut rng, plan.broken);
        let mut start = rng.pick(&self.starts);
        let mut roles = Role::draw(&mut rng);
        if let Some(scenario) = plan.scenario {
            weather = weather.without_faults();
            start = &self.starts[workload::START_BEFORE_CHECKPOINT];
            let other = match scenario {
                Scenario::StalledWriter => Role::Mover,
                Scenario::StalledReliance => Role::Collector,
            };
            roles = vec![Role::Writer, other, Role::Collector];
        }
        let world = World::new(plan, (rng, weather), start, &roles, self.runtime.handle());
        std::thread::scope(|scope| {
            for (no, role) in roles.iter().enumerate() {
                let world = &world;
                scope.spawn(move || world.live(no, |process| role.run(process)));
            }
            world.begin();
        });
        programs::settle(&world);
        world.outcome()
    }
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

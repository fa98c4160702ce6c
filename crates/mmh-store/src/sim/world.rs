//! The world: its clock, what will happen when, and whose turn it is.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mmh_core::Digest;
use mmh_core::ports::Clock;
use tokio::runtime::Handle;

use super::audit::{Audit, Verdict};
use super::disk::{Disk, Effect, Renamed};
use super::engine::{SimEngine, planned};
use super::files::{Area, SimStaging};
use super::programs::Role;
use super::random::Random;
use super::weather::{Fault, Kind, Weather};
use super::workload::{SimEntropy, Start};
use super::{Broken, Outcome, Plan, Scenario, programs};
use crate::backend::Backend;
use crate::store::OpenOptions;

/// Machines of a world with a remote engine.
const MACHINES: usize = 2;
/// Lives of one process.
const LIVES_MAX: u32 = 4;
/// A simulation with more steps does not come to its end.
const STEPS_MAX: u64 = 60_000;
/// How long a stalled writer stalls, in milliseconds: 40 days.
const STALL_MS: u64 = 40 * 24 * 60 * 60 * 1000;
/// Simulated time at the beginning: 2026-01-01, in milliseconds since 1970.
const START_MS: u64 = 1_767_225_600_000;

/// What will happen.
#[derive(Debug)]
enum Event {
    /// A process goes on, if this is what it waits for.
    Wake(usize, u64),
    /// A write arrives; of a life that must not have ended, if one is given.
    Land(Box<Effect>, Option<(usize, u32)>),
    Rot,
    /// Somebody looks at everything through a store of his own.
    Inspect,
}

struct Timed(u64, u64, Event);

impl Timed {
    fn key(&self) -> (u64, u64) {
        (self.0, self.1)
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What the world knows of a process.
#[derive(Debug, Clone, Copy)]
struct Status {
    life: u32,
    dead: bool,
    machine: usize,
    /// What its clock is ahead.
    skew_ms: u64,
    ticket: u64,
}

/// Everything that changes.
pub(super) struct State {
    now_ms: u64,
    rng: Random,
    weather: Weather,
    events: BinaryHeap<Reverse<Timed>>,
    n_events: u64,
    turn: Option<usize>,
    processes: Vec<Status>,
    areas: Vec<Area>,
    disk: Disk,
    audit: Audit,
    handle: Handle,
    calm: bool,
    scenario: Option<Scenario>,
    is_story: bool,
    has_collector: bool,
    steps: u64,
    faults: u64,
    deaths: u64,
    violation: Option<String>,
    hasher: blake3::Hasher,
    trace: Option<Vec<String>>,
}

struct Shared {
    state: Mutex<State>,
    turns: Vec<Condvar>,
}

/// A simulated world. Clones share it.
#[derive(Clone)]
pub(super) struct World(Arc<Shared>);

/// One life of a process.
#[derive(Clone)]
pub(super) struct Process {
    world: World,
    no: usize,
    life: u32,
}

impl State {
    pub(super) fn rng(&mut self) -> &mut Random {
        &mut self.rng
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn audit(&mut self) -> &mut Audit {
        &mut self.audit
    }

    pub(super) fn weather(&self) -> &Weather {
        &self.weather
    }

    pub(super) fn area(&mut self, process: &Process) -> &mut Area {
        &mut self.areas[self.processes[process.no].machine]
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(super) fn is_story(&self) -> bool {
        self.is_story
    }

    pub(super) fn has_collector(&self) -> bool {
        self.has_collector
    }

    /// Takes note of the first broken promise; everything ends then.
    pub(super) fn judge(&mut self, verdict: Verdict) {
        if let Err(reason) = verdict {
            let line = format!("{} VIOLATION {reason}", self.now_ms - START_MS);
            self.say(|| line);
            self.violation.get_or_insert(reason);
        }
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Notes what happens to the world, not to one process.
    fn note(&mut self, what: &str, name: &str) {
        self.hasher.update(what.as_bytes()).update(name.as_bytes());
        self.hasher.update(&self.now_ms.to_le_bytes());
        let now = self.now_ms - START_MS;
        self.say(|| format!("{now} world: {what} {}", shortened(name)));
    }

    fn is_over(&self, process: &Process) -> bool {
        let status = &self.processes[process.no];
        self.violation.is_some() || status.dead || status.life != process.life
    }

    fn push(&mut self, delay_ms: u64, event: Event) {
        self.n_events += 1;
        let at = self.now_ms + delay_ms;
        self.events.push(Reverse(Timed(at, self.n_events, event)));
    }

    fn push_wake(&mut self, no: usize, delay_ms: u64) {
        self.processes[no].ticket += 1;
        self.push(delay_ms, Event::Wake(no, self.processes[no].ticket));
    }

    /// Lets time pass until a process has its turn; `None` if nothing is left to happen.
    fn advance(&mut self) -> Option<usize> {
        self.turn = None;
        while let Some(Reverse(Timed(at, _, event))) = self.events.pop() {
            self.now_ms = self.now_ms.max(at);
            match event {
                Event::Wake(no, ticket) if self.processes[no].ticket == ticket => {
                    self.turn = Some(no);
                    return self.turn;
                }
                Event::Wake(..) => {}
                Event::Land(effect, life) => self.land(*effect, life),
                Event::Rot => self.rot(),
                Event::Inspect => {
                    self.note("inspection", "");
                    let verdict = programs::inspect(self);
                    self.judge(verdict);
                }
            }
        }
        None
    }

    fn kill(&mut self, no: usize) {
        self.deaths += 1;
        let status = &mut self.processes[no];
        status.dead = true;
        self.areas[status.machine].release(no);
    }

    fn power_cut(&mut self, machine: usize) {
        self.note("power cut", &machine.to_string());
        for no in 0..self.processes.len() {
            if self.processes[no].machine == machine && !self.processes[no].dead {
                self.kill(no);
                self.push_wake(no, 0);
            }
        }
        self.areas[machine].power_cut(&mut self.rng);
        if self.weather.local {
            for file in self.disk.power_cut(&mut self.rng, self.now_ms) {
                self.areas[file.machine].restore(&file.bytes);
            }
            let verdict = self.audit.scan(&self.disk);
            self.judge(verdict);
        }
        self.push(1, Event::Inspect);
    }

    /// Flips a bit of a pack, an index run or a checkpoint.
    fn rot(&mut self) {
        let mut names = self.disk.list("mmh");
        names.retain(|(name, len)| *len > 0 && !name.contains("/log/") && name != "mmh/config");
        if names.is_empty() {
            return;
        }
        let (name, _) = self.rng.pick(&names).clone();
        let mut bytes = self.disk.read(&name).unwrap_or_default().to_vec();
        let at = self.rng.index(bytes.len());
        bytes[at] ^= 1 << self.rng.below(8);
        self.note("rot", &name);
        self.audit.rotted(&name);
        let effect = Effect::Put {
            name,
            bytes: bytes.into(),
            create: false,
        };
        let _done = self.disk.apply(&effect, self.now_ms, true).is_ok();
    }

    /// A write arrives that its process has given up, or sent before.
    fn land(&mut self, effect: Effect, life: Option<(usize, u32)>) {
        if let Some((no, life)) = life
            && (self.processes[no].dead || self.processes[no].life != life)
        {
            return;
        }
        self.note("landing", effect.name());
        let _refused = self.apply(&effect).is_err();
    }

    fn apply(&mut self, effect: &Effect) -> object_store::Result<()> {
        let lasts = !self.weather.local;
        let done = self.disk.apply(effect, self.now_ms, lasts);
        if done.is_ok() {
            let verdict = match effect {
                Effect::Put { name, .. } => self.audit.written(&self.disk, name),
                Effect::Delete { name } => self.audit.deleted(name),
            };
            self.judge(verdict);
        }
        done
    }

    /// Writes or deletes an object as the fault wants it.
    pub(super) fn write(
        &mut self,
        process: &Process,
        effect: Effect,
        fault: Fault,
    ) -> object_store::Result<()> {
        if self.weather.is_broken(Broken::Order) && effect.name().contains("/packs/") {
            let delay = 1 + self.rng.below(2_000);
            self.push(delay, Event::Land(Box::new(effect), Some(process.life())));
            return Ok(());
        }
        if matches!(fault, Fault::Late | Fault::Twice) {
            let longest = *self.rng.pick(&[100, 10_000, 10_000_000, 300_000_000]);
            let delay = 1 + self.rng.below(longest);
            self.push(delay, Event::Land(Box::new(effect.clone()), None));
        }
        match fault {
            Fault::None | Fault::Twice => self.apply(&effect),
            Fault::LostReply => self.apply(&effect).and(Err(planned())),
            _ => Err(planned()),
        }?;
        if self.weather.local && self.weather.is_broken(Broken::Sync) {
            self.disk.was_not_synced(effect.name(), Bytes::new());
        }
        Ok(())
    }

    pub(super) fn was_renamed(&mut self, name: &str, renamed: Renamed, lost: bool) {
        if self.weather.is_broken(Broken::Sync) && lost {
            self.disk.was_not_synced(name, renamed.bytes.clone());
        }
        self.disk.was_renamed(name, renamed);
    }

    pub(super) fn sync_folder(&mut self, folder: &str) {
        if !self.weather.is_broken(Broken::Sync) {
            self.disk.sync_folder(folder);
        }
    }

    pub(super) fn list_of_the_past(&mut self, prefix: &str) -> Vec<(String, u64)> {
        let longest = *self.rng.pick(&[100, 10_000, 1_000_000]);
        let age = self.rng.below(longest);
        self.disk
            .list_as_of(prefix, self.now_ms.saturating_sub(age))
    }

    /// Whether a story wants the process to stall here.
    fn stalls(&mut self, what: &str, name: &str) -> bool {
        let here = self.scenario.is_some() && what == "create" && name.contains("/log/");
        here && self.scenario.take().is_some()
    }

    /// Decides what happens to an operation, and notes it.
    fn strike(&mut self, process: &Process, kind: Kind, what: &str, name: &str) -> Fault {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            self.judge(Err(format!("no end after {STEPS_MAX} steps")));
        }
        let mut fault = Fault::None;
        if !self.calm && kind != Kind::Sleep {
            if self.rng.one_in(self.weather.power_cut_one_in) {
                self.power_cut(self.processes[process.no].machine);
                fault = Fault::Dead;
            } else if self.rng.one_in(self.weather.death_one_in) {
                self.kill(process.no);
                fault = Fault::Dead;
            } else {
                fault = Fault::draw(&mut self.rng, &self.weather, kind);
            }
        }
        self.faults += u64::from(fault != Fault::None);
        let at = self.now_ms - START_MS;
        self.hasher.update(&at.to_le_bytes());
        self.hasher.update(format!("{process}{fault:?}").as_bytes());
        self.hasher.update(what.as_bytes()).update(name.as_bytes());
        self.say(|| {
            let fault = match fault {
                Fault::None => String::new(),
                other => format!(": {other:?}"),
            };
            format!("{at} {process} {what} {}{fault}", shortened(name))
        });
        fault
    }
}

impl World {
    pub(super) fn new(
        plan: &Plan,
        (mut rng, weather): (Random, Weather),
        start: &Start,
        roles: &[Role],
        handle: &Handle,
    ) -> Self {
        let n_processes = roles.len();
        let machines = if weather.local { 1 } else { MACHINES };
        let status = |_| Status {
            life: 0,
            dead: false,
            machine: rng.index(machines),
            skew_ms: rng.below(weather.skew_ms + 1),
            ticket: 0,
        };
        let processes: Vec<Status> = (0..n_processes).map(status).collect();
        let mut state = State {
            now_ms: START_MS,
            rng,
            weather,
            events: BinaryHeap::new(),
            n_events: 0,
            turn: None,
            processes,
            areas: (0..machines).map(|_| Area::default()).collect(),
            disk: Disk::new(
                start.objects[usize::from(weather.log_elsewhere)].fork(),
                weather.log_elsewhere,
            ),
            audit: start.audit.clone(),
            handle: handle.clone(),
            calm: false,
            scenario: plan.scenario,
            is_story: plan.scenario.is_some(),
            has_collector: roles.contains(&Role::Collector),
            steps: 0,
            faults: 0,
            deaths: 0,
            violation: None,
            hasher: blake3::Hasher::new(),
            trace: plan.trace.then(Vec::new),
        };
        let first = format!("{weather:?}");
        state.say(|| first);
        for no in 0..n_processes {
            let delay = state.rng.below(200);
            state.push_wake(no, delay);
        }
        for _ in 0..weather.rots {
            let delay = state.rng.below(20_000);
            state.push(delay, Event::Rot);
        }
        let delay = state.rng.below(10_000);
        state.push(delay, Event::Inspect);
        let turns = (0..=n_processes).map(|_| Condvar::new()).collect();
        let state = Mutex::new(state);
        Self(Arc::new(Shared { state, turns }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the first process its turn.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        self.pass_on(&mut state);
    }

    fn pass_on(&self, state: &mut State) -> Option<usize> {
        let next = state.advance();
        if let Some(no) = next {
            self.0.turns[no].notify_one();
        }
        next
    }

    fn await_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        no: usize,
    ) -> MutexGuard<'a, State> {
        while state.turn != Some(no) {
            state = self.0.turns[no]
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Lets others go on for `delay_ms`.
    fn pause<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        no: usize,
        delay_ms: u64,
    ) -> MutexGuard<'a, State> {
        state.push_wake(no, delay_ms);
        if state.advance() != Some(no) {
            if let Some(next) = state.turn {
                self.0.turns[next].notify_one();
            }
            return self.await_turn(state, no);
        }
        state
    }

    /// Lives all lives of a process: after a death the program begins anew.
    pub(super) fn live(&self, no: usize, program: impl Fn(&Process)) {
        drop(self.await_turn(self.lock(), no));
        for life in 0..LIVES_MAX {
            let process = Process {
                world: self.clone(),
                no,
                life,
            };
            let ended = catch_unwind(AssertUnwindSafe(|| program(&process)));
            let mut state = self.lock();
            if let Err(panic) = ended {
                let reason = format!("{process} panicked: {}", message(&*panic));
                state.judge(Err(reason));
            }
            if state.violation.is_some() || !state.processes[no].dead {
                break;
            }
            let delay = *state.rng.pick(&[1, 100, 5_000]);
            let mut state = self.pause(state, no, delay);
            let status = &mut state.processes[no];
            (status.dead, status.life) = (false, life + 1);
        }
        let mut state = self.lock();
        let status = &mut state.processes[no];
        status.dead = true;
        // Nothing wakes it any more.
        status.ticket += 1;
        self.pass_on(&mut state);
    }

    /// A process of its own for what comes at the end, in a world without faults from now on.
    pub(super) fn calm(&self, machine: usize) -> Process {
        let mut state = self.lock();
        state.calm = true;
        let no = state.processes.len() - 1;
        let status = &mut state.processes[no];
        (status.dead, status.machine, status.life) = (false, machine, status.life + 1);
        let life = status.life;
        state.turn = Some(no);
        drop(state);
        Process {
            world: self.clone(),
            no,
            life,
        }
    }

    /// Whether a promise was broken.
    pub(super) fn is_broken(&self) -> bool {
        self.lock().violation.is_some()
    }

    pub(super) fn n_machines(&self) -> usize {
        self.lock().areas.len()
    }

    pub(super) fn staged_files(&self) -> usize {
        self.lock().areas.iter().map(Area::len).sum()
    }

    pub(super) fn handle(&self) -> Handle {
        self.lock().handle.clone()
    }

    pub(super) fn outcome(&self) -> Outcome {
        let mut state = self.lock();
        Outcome {
            violation: state.violation.take(),
            steps: state.steps,
            faults: state.faults,
            deaths: state.deaths,
            commits: state.audit.n_acknowledged(),
            elapsed_ms: state.now_ms - START_MS,
            digest: Digest::from_bytes(*state.hasher.finalize().as_bytes()),
            trace: state.trace.take().unwrap_or_default(),
        }
    }
}

/// An object's name without most of its digits.
fn shortened(name: &str) -> &str {
    let last = name.rfind(['/', '-']).map_or(0, |at| at + 1);
    if name.len() > last + 32 {
        &name[..last + 8]
    } else {
        name
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}

impl Process {
    /// One operation: waits for its time, then does it as the fault wants it.
    pub(super) fn step<T>(
        &self,
        kind: Kind,
        what: &str,
        name: &str,
        f: impl FnOnce(&mut State, Fault) -> T,
    ) -> T {
        let mut state = self.world.lock();
        if state.stalls(what, name) {
            state = self.world.pause(state, self.no, STALL_MS);
        }
        let mut state = self.pass(state);
        if state.is_over(self) {
            return f(&mut state, Fault::Dead);
        }
        let fault = state.strike(self, kind, what, name);
        let out = f(&mut state, fault);
        // The reply is under way.
        if !state.calm && state.rng.one_in(6) {
            drop(self.pass(state));
        }
        out
    }

    fn pass<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.is_over(self) || state.calm {
            return state;
        }
        let weather = state.weather;
        match weather.latency_ms(&mut state.rng) {
            0 => state,
            delay => self.world.pause(state, self.no, delay),
        }
    }

    /// Lets time pass.
    pub(super) fn sleep(&self, ms: u64) {
        let state = self.world.lock();
        if !state.is_over(self) {
            drop(self.world.pause(state, self.no, ms));
        }
    }

    /// Looks at the world, which takes no time.
    pub(super) fn look<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.world.lock())
    }

    /// Does something unless the process is dead.
    pub(super) fn alive<T>(&self, f: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.world.lock();
        if state.is_over(self) {
            return None;
        }
        Some(f(&mut state))
    }

    /// The process, and in which of its lives it is.
    pub(super) fn life(&self) -> (usize, u32) {
        (self.no, self.life)
    }

    pub(super) fn machine(&self) -> usize {
        self.look(|state| state.processes[self.no].machine)
    }

    pub(super) fn is_local(&self) -> bool {
        self.look(|state| state.weather.local)
    }

    pub(super) fn is_broken(&self, what: Broken) -> bool {
        self.look(|state| state.weather.is_broken(what))
    }

    pub(super) fn handle(&self) -> Handle {
        self.world.handle()
    }

    /// The repository as this life of the process sees it.
    pub(super) fn backend(&self) -> Backend {
        let name = self.to_string();
        let log_elsewhere = self.look(|state| state.weather.log_elsewhere);
        let of = |ignores_conditions| {
            let engine = Arc::new(SimEngine {
                process: self.clone(),
                ignores_conditions,
            });
            Backend::custom(&name, engine, Arc::new(SimStaging(self.clone())))
        };
        if log_elsewhere {
            return of(true).with_log(of(false).log_engine());
        }
        of(self.is_broken(Broken::Condition))
    }

    /// Components whose time and chance come from the world.
    pub(super) fn components(&self) -> OpenOptions {
        let rng = self.look(|state| Random::new(state.rng.next()));
        let broken = crate::broken::Broken {
            no_boundary_check: self.is_broken(Broken::Boundary),
            no_fence_check: self.is_broken(Broken::Fence),
            delete_before_fence: self.is_broken(Broken::DeleteFirst),
        };
        OpenOptions {
            broken,
            clock: Arc::new(SimClock(self.clone())),
            entropy: Arc::new(SimEntropy::new(rng)),
            ..OpenOptions::default()
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}", self.no, self.life)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The clock of a process, ahead of the world's by its skew.
#[derive(Debug)]
struct SimClock(Process);

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let Process { no, .. } = self.0;
        self.0
            .look(|state| state.now_ms + state.processes[no].skew_ms)
    }
}

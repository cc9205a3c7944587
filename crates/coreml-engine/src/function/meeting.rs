//! Where calls of one plan meet that are made in step.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::OpError;
use crate::run::{Call, Workspace};
use crate::value::{Buffer, Shape};

/// One of several who call the same functions over and over, such as a conversation that is given its next
/// token. Calls of participants wait for each other and run together, so that weights are read once for all of
/// them. Clones are the same participant.
///
/// A call waits for those who came along the last time, for about as long as they take from one call to the
/// next. Who does not come is not waited for again until it comes.
///
/// Sums may be added up in another order than in a call that runs alone.
#[derive(Clone, Debug, Default)]
pub struct Participant(Arc<()>);

impl Participant {
    /// Somebody new, until the last clone is dropped.
    pub fn new() -> Self {
        Self::default()
    }

    fn is(&self, other: &Weak<()>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0), other.as_ptr())
    }
}

/// The longest that a call waits for others.
const MOST_PATIENCE: Duration = Duration::from_millis(500);

/// How long a call waits until it looks again who is there.
const GLANCE: Duration = Duration::from_micros(500);

/// What became of a call that was handed to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was not run, and its states are as they were.
    Untouched,
    /// Whoever ran it broke down meanwhile: its states are neither here nor there.
    Broken,
    /// It was run.
    Ran,
}

/// A call, as it is handed to whoever runs all of them.
pub(super) struct Request {
    participant: Participant,
    pub(super) inputs: Vec<Buffer>,
    pub(super) shapes: Vec<Shape>,
    pub(super) states: Vec<Buffer>,
    pub(super) workspace: Workspace,
    pub(super) started: Instant,
    pub(super) outcome: Outcome,
}

impl Request {
    /// Takes states and workspace out of a call.
    ///
    /// # Errors
    /// When there is no memory for a copy of the inputs.
    pub(super) fn new(participant: &Participant, call: &mut Call) -> Result<Self, OpError> {
        let inputs = call.inputs.iter().map(|input| Buffer::copy_of(input));
        Ok(Request {
            participant: participant.clone(),
            inputs: inputs.collect::<Result<_, _>>()?,
            shapes: call.shapes.to_vec(),
            states: call.states.iter_mut().map(std::mem::take).collect(),
            workspace: std::mem::take(call.workspace),
            started: call.started,
            outcome: Outcome::Untouched,
        })
    }

    /// Gives the call what was taken out of it.
    pub(super) fn give_back(self, call: &mut Call) {
        call.states.iter_mut().zip(self.states).for_each(|(to, state)| *to = state);
        *call.workspace = self.workspace;
    }
}

/// Calls of one plan that wait for each other.
#[derive(Default)]
pub(super) struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Who came the last time, or has come since.
    members: Vec<Member>,
    waiting: Vec<Request>,
    /// Those that are done with, for their callers to fetch.
    done: Vec<Request>,
    /// Whether somebody runs calls.
    running: bool,
    /// Time from one call of a member to its next.
    period: Duration,
}

struct Member {
    participant: Weak<()>,
    came: Instant,
}

impl Meeting {
    /// Notes that somebody is here; gives whether others are to be waited for.
    pub(super) fn has_others(&self, participant: &Participant) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        let state = &mut *state;
        match state.members.iter_mut().find(|member| participant.is(&member.participant)) {
            Some(member) => {
                let sample = now.saturating_duration_since(member.came);
                member.came = now;
                let average = (state.period * 3 + sample) / 4;
                state.period = if state.period.is_zero() { sample } else { average };
            }
            None => {
                let participant = Arc::downgrade(&participant.0);
                state.members.push(Member { participant, came: now });
            }
        }
        state.forget_the_gone();
        state.members.len() > 1
    }

    /// Waits for the others; one of the callers then runs all calls with `run`, which says what became of them. A
    /// call that `is_cancelled` comes back as it is.
    pub(super) fn run(
        &self,
        request: Request,
        is_cancelled: impl Fn() -> bool,
        run: impl FnOnce(&mut [Request]),
    ) -> Request {
        let participant = request.participant.clone();
        let is_mine = |request: &Request| Arc::ptr_eq(&request.participant.0, &participant.0);
        let mut state = self.state();
        state.waiting.push(request);
        let deadline = Instant::now() + (state.period * 2).min(MOST_PATIENCE);
        let mut run = Some(run);
        loop {
            if let Some(at) = state.done.iter().position(is_mine) {
                return state.done.swap_remove(at);
            }
            let waits = state.waiting.iter().position(is_mine).filter(|_| !state.running);
            if let Some(at) = waits
                && is_cancelled()
            {
                return state.waiting.swap_remove(at);
            }
            let is_late = Instant::now() >= deadline;
            if waits.is_some() && (is_late || state.all_are_here()) {
                state.running = true;
                let mut leading = Leading { meeting: self, requests: state.take_waiting() };
                drop(state);
                if let Some(run) = run.take() {
                    run(&mut leading.requests);
                }
                drop(leading);
                state = self.state();
                continue;
            }
            let waited = self.changed.wait_timeout(state, GLANCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_the_gone(&mut self) {
        self.members.retain(|member| member.participant.strong_count() > 0);
    }

    fn all_are_here(&mut self) -> bool {
        self.forget_the_gone();
        self.members.iter().all(|member| self.is_waiting(member))
    }

    fn is_waiting(&self, member: &Member) -> bool {
        self.waiting.iter().any(|request| request.participant.is(&member.participant))
    }

    /// All calls that wait; who is not among them is no longer waited for.
    fn take_waiting(&mut self) -> Vec<Request> {
        let mut members = std::mem::take(&mut self.members);
        members.retain(|member| self.is_waiting(member));
        self.members = members;
        std::mem::take(&mut self.waiting)
    }
}

/// Calls that are run. They are handed back whatever happens.
struct Leading<'m> {
    meeting: &'m Meeting,
    requests: Vec<Request>,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut state = self.meeting.state();
        state.done.append(&mut self.requests);
        state.running = false;
        drop(state);
        self.meeting.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn request(participant: &Participant, number: usize) -> Request {
        let shapes = vec![Shape::from_slice(&[number])];
        Request {
            participant: participant.clone(),
            inputs: Vec::new(),
            shapes,
            states: Vec::new(),
            workspace: Workspace::default(),
            started: Instant::now(),
            outcome: Outcome::Untouched,
        }
    }

    fn run(requests: &mut [Request]) {
        requests.iter_mut().for_each(|request| request.outcome = Outcome::Ran);
    }

    #[test]
    fn who_is_alone_waits_for_nobody() {
        let (meeting, alone) = (Meeting::default(), Participant::new());
        assert!(!meeting.has_others(&alone));
        assert!(!meeting.has_others(&alone.clone()));
        drop(Participant::new());
        assert!(!meeting.has_others(&alone));
    }

    #[test]
    fn calls_in_step_run_together_and_everybody_gets_its_own_back() {
        const MEMBERS: usize = 4;
        const ROUNDS: usize = 50;
        let meeting = Meeting::default();
        let participants: Vec<Participant> = (0..MEMBERS).map(|_| Participant::new()).collect();
        participants.iter().for_each(|participant| {
            meeting.has_others(participant);
        });
        let (calls, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Barrier::new(MEMBERS);
        thread::scope(|scope| {
            for participant in participants {
                let (meeting, calls, runs, start) = (&meeting, &calls, &runs, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..ROUNDS {
                        let number = calls.fetch_add(1, Ordering::Relaxed);
                        assert!(meeting.has_others(&participant) || round > 0);
                        let done = meeting.run(
                            request(&participant, number),
                            || false,
                            |all| {
                                runs.fetch_add(1, Ordering::Relaxed);
                                thread::sleep(Duration::from_millis(1));
                                run(all);
                            },
                        );
                        assert!(done.outcome == Outcome::Ran && done.shapes[0][0] == number);
                    }
                });
            }
        });
        assert_eq!(calls.load(Ordering::Relaxed), MEMBERS * ROUNDS);
        // Together but for rounds in which the machine kept somebody away.
        assert!(runs.load(Ordering::Relaxed) < MEMBERS * ROUNDS);
    }

    #[test]
    fn who_does_not_come_is_waited_for_once() {
        let meeting = Meeting::default();
        let (here, away) = (Participant::new(), Participant::new());
        assert!(!meeting.has_others(&here) && meeting.has_others(&away));
        assert_eq!(meeting.run(request(&here, 0), || false, run).outcome, Outcome::Ran);
        assert!(!meeting.has_others(&here));
        // It counts again as soon as it comes.
        assert!(meeting.has_others(&away));
    }

    #[test]
    fn who_left_is_not_waited_for() {
        let meeting = Meeting::default();
        let (here, gone) = (Participant::new(), Participant::new());
        assert!(!meeting.has_others(&here) && meeting.has_others(&gone));
        drop(gone);
        assert!(!meeting.has_others(&here));
    }

    #[test]
    fn a_call_that_is_cancelled_comes_back_as_it_is() {
        let meeting = Meeting::default();
        let (here, away) = (Participant::new(), Participant::new());
        meeting.has_others(&away);
        assert!(meeting.has_others(&here));
        assert_eq!(meeting.run(request(&here, 0), || true, run).outcome, Outcome::Untouched);
    }

    #[test]
    fn a_panic_hands_calls_back() {
        let meeting = Meeting::default();
        let (first, second) = (Participant::new(), Participant::new());
        meeting.has_others(&first);
        meeting.has_others(&second);
        let both = Barrier::new(2);
        let call = |participant: &Participant| {
            both.wait();
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let run = |requests: &mut [Request]| {
                    requests.iter_mut().for_each(|request| request.outcome = Outcome::Broken);
                    panic!("a kernel's fault")
                };
                meeting.run(request(participant, 0), || false, run).outcome
            }))
        };
        let results = thread::scope(|scope| {
            let other = scope.spawn(|| call(&second));
            [call(&first), other.join().unwrap()]
        });
        // One caller runs both and panics; the other gets its call back, unless each ran on its own.
        assert!(results.iter().all(|result| matches!(result, Err(_) | Ok(Outcome::Broken))));
        assert!(meeting.state().waiting.is_empty() && !meeting.state().running);
    }
}

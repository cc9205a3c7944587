//! Tokens guessed from the text so far, and whether guessing pays.

use std::collections::VecDeque;
use std::time::Duration;

use crate::llm::network::Prediction;
use crate::llm::options::{GenerationOptions, Speculation};

/// Longest and shortest run of last tokens that is looked up.
const LONGEST: usize = 4;
const SHORTEST: usize = 2;

/// The most tokens drafted at once: text that goes on as it did before rarely does for longer.
const MOST_DRAFTS: usize = 15;

/// Drafts for one generation.
pub(super) struct Speculator {
    mode: Speculation,
    pace: Pace,
    /// Drafted tokens in order, each with what the model says follows it.
    ahead: VecDeque<(u32, Prediction)>,
    pub(super) drafted: usize,
    pub(super) accepted: usize,
}

impl Speculator {
    pub(super) fn new(options: &GenerationOptions) -> Self {
        let reproducible = options.seed.is_some() && options.temperature > 0.0;
        let mode = match options.speculation {
            Speculation::Auto if reproducible => Speculation::Off,
            mode => mode,
        };
        Speculator { mode, pace: Pace::default(), ahead: VecDeque::new(), drafted: 0, accepted: 0 }
    }

    /// What follows `token`, if it was drafted; if another one was, all drafts are void.
    pub(super) fn accept(&mut self, token: u32) -> Option<Prediction> {
        match self.ahead.pop_front() {
            Some((draft, next)) if draft == token => {
                self.accepted += 1;
                self.pace.gained();
                Some(next)
            }
            _ => {
                self.ahead.clear();
                None
            }
        }
    }

    /// Up to `most` tokens that may follow `tokens`; none where guessing is off or does not pay.
    pub(super) fn draft(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        if self.mode == Speculation::Off || most == 0 {
            return Vec::new();
        }
        let drafts = look_up(tokens, most.min(MOST_DRAFTS));
        if drafts.is_empty() || (self.mode == Speculation::Auto && !self.pace.pays()) {
            return Vec::new();
        }
        drafts.to_vec()
    }

    /// Notes drafts that have run in `time`, with what follows each.
    pub(super) fn ran(&mut self, drafts: Vec<u32>, next: Vec<Prediction>, time: Duration) {
        self.drafted += drafts.len();
        self.pace.batch(time);
        self.ahead = drafts.into_iter().zip(next).collect();
    }

    /// Notes the time of a token that ran alone.
    pub(super) fn ran_alone(&mut self, time: Duration) {
        self.pace.single(time);
    }
}

/// What followed the last tokens where they occurred before, the last time: the longest run that
/// is found counts.
fn look_up(tokens: &[u32], most: usize) -> &[u32] {
    for length in (SHORTEST..=LONGEST).rev() {
        let Some(start) = tokens.len().checked_sub(length) else { continue };
        let (Some(last), Some(before)) = (tokens.get(start..), tokens.get(..tokens.len() - 1))
        else {
            continue;
        };
        if let Some(found) = before.windows(length).rposition(|window| window == last) {
            let follows = tokens.get(found + length..).unwrap_or_default();
            return follows.get(..most).unwrap_or(follows);
        }
    }
    &[]
}

/// Whether batches give tokens faster than single runs do, by running means of what was measured.
#[derive(Debug, Default)]
struct Pace {
    single: Option<f64>,
    batch: Option<f64>,
    /// Tokens that a batch gave, the one that comes in any case included.
    tokens: Option<f64>,
    /// Tokens of the last batch, and whether there was one.
    current: Option<f64>,
    /// Chances that are still to be passed over, and how many will be the next time.
    pause: usize,
    next_pause: usize,
}

/// Chances passed over when batches do not pay: so many at first, twice as many each time.
const FIRST_PAUSE: usize = 8;
const LONGEST_PAUSE: usize = 512;

impl Pace {
    fn single(&mut self, time: Duration) {
        mix(&mut self.single, time.as_secs_f64());
    }

    fn batch(&mut self, time: Duration) {
        self.settle();
        mix(&mut self.batch, time.as_secs_f64());
        self.current = Some(1.0);
    }

    fn gained(&mut self) {
        self.current = self.current.map(|tokens| tokens + 1.0);
    }

    fn settle(&mut self) {
        if let Some(tokens) = self.current.take() {
            mix(&mut self.tokens, tokens);
        }
    }

    /// Whether to take this chance of a batch. Until all is measured, yes, but for the time of a
    /// single run, which has to be known first.
    fn pays(&mut self) -> bool {
        self.settle();
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        let Some(single) = self.single else { return false };
        let (Some(batch), Some(tokens)) = (self.batch, self.tokens) else { return true };
        if tokens * single >= batch {
            self.next_pause = FIRST_PAUSE;
            return true;
        }
        // After the pause one batch is tried whatever the means say.
        self.pause = self.next_pause.clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.next_pause = self.pause * 2;
        (self.batch, self.tokens) = (None, None);
        false
    }
}

/// A running mean in which the newest value counts a quarter.
fn mix(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + (value - mean) / 4.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_tokens_is_looked_up() {
        let cases: [(&[u32], usize, &[u32]); 8] = [
            (&[1, 2, 3, 4, 1, 2], 9, &[3, 4, 1, 2]),
            (&[1, 2, 3, 4, 1, 2], 2, &[3, 4]),
            // The longer run goes before the later one.
            (&[7, 1, 2, 8, 9, 1, 2, 5, 7, 1, 2], 1, &[8]),
            // Of equally long ones the last.
            (&[1, 2, 8, 1, 2, 9, 1, 2], 1, &[9]),
            // It may overlap with what is looked up.
            (&[5, 5, 5, 5], 3, &[5]),
            (&[1, 2, 3], 3, &[]),
            (&[1, 3, 1], 3, &[]),
            (&[], 3, &[]),
        ];
        for (tokens, most, expected) in cases {
            assert_eq!(look_up(tokens, most), expected, "{tokens:?}");
        }
    }

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn batches_that_pay_go_on() {
        let mut pace = Pace::default();
        assert!(!pace.pays(), "the time of a single run is not known");
        pace.single(milliseconds(10));
        for _ in 0..20 {
            assert!(pace.pays());
            // 30 ms for four tokens, instead of 40 ms.
            pace.batch(milliseconds(30));
            (0..3).for_each(|_| pace.gained());
        }
    }

    #[test]
    fn batches_that_do_not_pay_are_tried_less_and_less() {
        let mut pace = Pace::default();
        pace.single(milliseconds(10));
        let mut tries = Vec::new();
        for chance in 0..100 {
            if pace.pays() {
                tries.push(chance);
                pace.batch(milliseconds(30));
                pace.gained();
            }
        }
        // After a try one chance finds that it did not pay, then 8, 16, 32, … are passed over.
        assert_eq!(tries, [0, 10, 28, 62]);
        // Text that repeats itself again is noticed.
        for _ in 0..2000 {
            if pace.pays() {
                pace.batch(milliseconds(30));
                (0..7).for_each(|_| pace.gained());
            }
        }
        assert!(pace.pays());
    }

    #[test]
    fn only_drafts_that_the_model_chose_are_accepted() {
        let options = GenerationOptions::new().speculation(Speculation::On);
        let mut speculator = Speculator::new(&options);
        let drafts = speculator.draft(&[1, 2, 3, 4, 1, 2], 3);
        assert_eq!(drafts, [3, 4, 1]);
        let next = [10, 11, 12].map(Prediction::Token).to_vec();
        speculator.ran(drafts, next, milliseconds(1));
        assert_eq!(speculator.accept(3), Some(Prediction::Token(10)));
        assert_eq!(speculator.accept(9), None);
        assert_eq!(speculator.accept(1), None);
        assert_eq!((speculator.drafted, speculator.accepted), (3, 1));
    }

    #[test]
    fn time_does_not_decide_where_tokens_are_to_come_again() {
        let seeded = GenerationOptions::new().temperature(1.0).seed(1);
        assert_eq!(Speculator::new(&seeded).mode, Speculation::Off);
        assert_eq!(Speculator::new(&GenerationOptions::new()).mode, Speculation::Auto);
    }
}

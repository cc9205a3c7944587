//! Tokens guessed from the text so far, and whether guessing pays.

use std::collections::VecDeque;
use std::time::Duration;

use crate::llm::network::Prediction;
use crate::llm::request::{GenerationOptions, Speculation};

/// Longest and shortest run of last tokens that is looked up.
const LONGEST: usize = 4;
const SHORTEST: usize = 2;

/// The most tokens drafted at once. Models with a fixed window run many as fast as few, but text
/// that goes on as it did before rarely does for longer.
const MOST_DRAFTS: usize = 31;

/// Drafts for one generation. Those that are not run are compared with the text that comes as well:
/// how many would have been right costs nothing to know.
pub(super) struct Speculator {
    mode: Speculation,
    pace: Pace,
    trial: Trial,
    /// What follows each of the trial's tokens, if they were run.
    ahead: VecDeque<Prediction>,
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
        Speculator {
            mode,
            pace: Pace::default(),
            trial: Trial::default(),
            ahead: VecDeque::new(),
            drafted: 0,
            accepted: 0,
        }
    }

    /// What follows `token`, if it was drafted and run; if another one was drafted, all drafts are
    /// void.
    pub(super) fn accept(&mut self, token: u32) -> Option<Prediction> {
        if !self.trial.goes_on_with(token) {
            self.ahead.clear();
        }
        if let Some(right) = self.trial.result() {
            self.pace.tried(right);
        }
        let next = self.ahead.pop_front();
        self.accepted += usize::from(next.is_some());
        next
    }

    /// Up to `most` tokens that may follow `tokens`; none where guessing is off or does not pay.
    pub(super) fn draft(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        if self.mode == Speculation::Off || most == 0 {
            return Vec::new();
        }
        let drafts = look_up(tokens, most.min(MOST_DRAFTS));
        if self.mode == Speculation::On || self.pace.pays(drafts.len(), self.trial.right) {
            return drafts;
        }
        if !self.trial.is_running() {
            self.trial = Trial::new(&drafts);
        }
        Vec::new()
    }

    /// Notes drafts that have run in `time`, with what follows each.
    pub(super) fn ran(&mut self, drafts: &[u32], next: VecDeque<Prediction>, time: Duration) {
        self.drafted += drafts.len();
        self.pace.batch(time);
        self.trial = Trial::new(drafts);
        self.ahead = next;
    }

    /// Notes the time of a token that ran alone.
    pub(super) fn ran_alone(&mut self, time: Duration) {
        self.pace.single(time);
    }

    /// Notes the time of a prompt, whose tokens run in batches of up to `lookahead`.
    pub(super) fn ran_prompt(&mut self, tokens: usize, lookahead: usize, time: Duration) {
        if tokens > 1 && lookahead > 1 {
            let batches = (tokens - 1).div_ceil(lookahead);
            self.pace.batch(time / u32::try_from(batches).unwrap_or(u32::MAX));
        }
    }
}

/// Drafts that are compared with the text that comes.
#[derive(Debug, Default)]
struct Trial {
    tokens: VecDeque<u32>,
    right: usize,
    ended: bool,
}

impl Trial {
    fn new(drafts: &[u32]) -> Self {
        Trial { tokens: drafts.iter().copied().collect(), right: 0, ended: false }
    }

    fn is_running(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether `token` is the one drafted for its place.
    fn goes_on_with(&mut self, token: u32) -> bool {
        let Some(draft) = self.tokens.pop_front() else { return false };
        if draft == token {
            self.right += 1;
        } else {
            self.tokens.clear();
        }
        self.ended = self.tokens.is_empty();
        draft == token
    }

    /// How many drafts were right, once, when it has ended.
    fn result(&mut self) -> Option<usize> {
        let result = self.ended.then_some(self.right);
        if self.ended {
            (self.right, self.ended) = (0, false);
        }
        result
    }
}

/// What followed the last tokens where they occurred before, the last time: the longest run that
/// is found counts. Where that reaches the end of the text, the text repeats itself and goes on so.
fn look_up(tokens: &[u32], most: usize) -> Vec<u32> {
    for length in (SHORTEST..=LONGEST).rev() {
        let Some(start) = tokens.len().checked_sub(length) else { continue };
        let (Some(last), Some(before)) = (tokens.get(start..), tokens.get(..tokens.len() - 1))
        else {
            continue;
        };
        if let Some(found) = before.windows(length).rposition(|window| window == last) {
            let follows = tokens.get(found + length..).unwrap_or_default();
            return follows.iter().copied().cycle().take(most).collect();
        }
    }
    Vec::new()
}

/// Whether batches give tokens faster than single runs do, by running means of what was measured.
#[derive(Debug, Default)]
struct Pace {
    /// Seconds of a single run, and of a batch.
    single: Option<f64>,
    batch: Option<f64>,
    /// Drafts that were right, of one look-up.
    right: Option<f64>,
}

/// Right drafts that make a batch worth trying whose time is not known.
const PROMISING: f64 = 4.0;

impl Pace {
    fn single(&mut self, time: Duration) {
        mix(&mut self.single, time.as_secs_f64());
    }

    fn batch(&mut self, time: Duration) {
        mix(&mut self.batch, time.as_secs_f64());
    }

    fn tried(&mut self, right: usize) {
        mix(&mut self.right, right as f64);
    }

    /// Whether a batch with so many drafts pays, when so many were right in a row just now.
    fn pays(&self, drafts: usize, streak: usize) -> bool {
        let Some(single) = self.single else { return false };
        let expected = self.right.unwrap_or(0.0).max(streak as f64).min(drafts as f64);
        match self.batch {
            // The first token of a batch would have come anyway.
            Some(batch) => drafts > 0 && (1.0 + expected) * single > batch,
            None => expected >= PROMISING,
        }
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
            (&[1, 2, 3, 4, 1, 2], 9, &[3, 4, 1, 2, 3, 4, 1, 2, 3]),
            (&[1, 2, 3, 4, 1, 2], 2, &[3, 4]),
            // The longer run goes before the later one.
            (&[7, 1, 2, 8, 9, 1, 2, 5, 7, 1, 2], 1, &[8]),
            // Of equally long ones the last.
            (&[1, 2, 8, 1, 2, 9, 1, 2], 1, &[9]),
            // It may overlap with what is looked up.
            (&[5, 5, 5, 5], 3, &[5, 5, 5]),
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
    fn a_batch_pays_when_its_right_drafts_take_longer_alone() {
        let mut pace = Pace::default();
        assert!(!pace.pays(9, 9), "the time of a single run is not known");
        pace.single(milliseconds(10));
        // The time of a batch is not known.
        assert!(!pace.pays(9, 3) && pace.pays(9, 4));
        pace.batch(milliseconds(45));
        assert!(!pace.pays(9, 0) && !pace.pays(9, 3) && pace.pays(9, 4));
        pace.tried(4);
        assert!(pace.pays(9, 0));
        assert!(!pace.pays(3, 0), "three drafts can't give more than four tokens");
        pace.tried(0);
        assert!(!pace.pays(9, 0));
        assert!(!Pace { batch: Some(0.0), ..pace }.pays(0, 0), "there is nothing to run");
    }

    /// Gives `text` token by token, and counts the batches that were tried at 10 ms for a token and
    /// `batch` for a batch.
    fn batches(mode: Speculation, text: &[u32], batch: u64) -> usize {
        let options = GenerationOptions::new().speculation(mode);
        let mut speculator = Speculator::new(&options);
        speculator.ran_prompt(100, 32, milliseconds(batch * 4));
        let mut batches = 0;
        for end in 1..text.len() {
            if speculator.accept(text[end - 1]).is_some() {
                continue;
            }
            let drafts = speculator.draft(&text[..end], 31);
            if drafts.is_empty() {
                speculator.ran_alone(milliseconds(10));
            } else {
                batches += 1;
                let next = drafts.iter().map(|_| Prediction::Token(0)).collect();
                speculator.ran(&drafts, next, milliseconds(batch));
            }
        }
        batches
    }

    #[test]
    fn text_that_repeats_itself_is_worth_batches_and_other_text_is_not() {
        let circle: Vec<u32> = (0..400).map(|i| i % 20).collect();
        // Pairs come again, but with other followers: no draft is ever right.
        let pairs: Vec<u32> = (0..400).map(|i| if i % 3 < 2 { i % 3 } else { 10 + i }).collect();
        assert!(batches(Speculation::Auto, &circle, 50) > 5);
        assert_eq!(batches(Speculation::Auto, &circle, 5000), 0);
        assert_eq!(batches(Speculation::Auto, &pairs, 50), 0);
        assert!(batches(Speculation::On, &pairs, 50) > 100);
        assert_eq!(batches(Speculation::Off, &circle, 1), 0);
    }

    #[test]
    fn only_drafts_that_the_model_chose_are_accepted() {
        let options = GenerationOptions::new().speculation(Speculation::On);
        let mut speculator = Speculator::new(&options);
        let drafts = speculator.draft(&[1, 2, 3, 4, 1, 2], 3);
        assert_eq!(drafts, [3, 4, 1]);
        let next = [10, 11, 12].map(Prediction::Token).into();
        speculator.ran(&drafts, next, milliseconds(1));
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

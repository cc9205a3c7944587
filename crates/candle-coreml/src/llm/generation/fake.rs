//! A language model of a few lines. Its next token depends on every token before, its cache lists
//! the tokens that it holds, and it notes its calls: a wrong position, an unwanted token in the
//! cache, or one that runs twice, shows.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};

use super::{Core, Session};
use crate::error::{Error, Result, ValueError};
use crate::llm::network::{Network, Prediction};
use crate::llm::text::TextTokenizer;
use crate::llm::text::testing::byte_tokenizer;
use crate::state::{BackendState, CoreMLState};

/// Calls in order: first position and number of tokens.
pub(super) type Calls = Arc<Mutex<Vec<(usize, usize)>>>;

#[derive(Clone)]
pub(super) struct Fake {
    pub(super) context: usize,
    pub(super) vocabulary: usize,
    pub(super) logits: bool,
    pub(super) rewinds: bool,
    pub(super) lookahead: usize,
    /// The next token depends on so many last tokens only: fewer make texts that repeat.
    pub(super) memory: usize,
    /// The position at which the next run that reaches it fails, once.
    pub(super) fails_at: Arc<Mutex<Option<usize>>>,
    pub(super) calls: Calls,
}

impl Default for Fake {
    fn default() -> Self {
        Fake {
            context: 4096,
            vocabulary: 260,
            logits: true,
            rewinds: true,
            lookahead: 1,
            memory: usize::MAX,
            fails_at: Arc::default(),
            calls: Calls::default(),
        }
    }
}

impl Fake {
    pub(super) fn session(&self) -> Session {
        let directory = tempfile::tempdir().unwrap();
        self.session_with(byte_tokenizer(directory.path()))
    }

    /// A session with a chat template.
    pub(super) fn chat_session(&self, template: &str) -> Session {
        let directory = tempfile::tempdir().unwrap();
        byte_tokenizer(directory.path());
        std::fs::write(directory.path().join("chat_template.jinja"), template).unwrap();
        self.session_with(load(directory.path()))
    }

    fn session_with(&self, tokenizer: TextTokenizer) -> Session {
        Session::new(Arc::new(Core::new(self.clone(), tokenizer)))
    }

    /// A logit of every token: small letters are likely, no two are equal.
    pub(super) fn logits(&self, ids: &[u32]) -> Vec<f32> {
        let seen = ids.get(ids.len().saturating_sub(self.memory)..).unwrap();
        let seed = seen.iter().fold(7u64, |sum, &id| (sum * 31 + u64::from(id) + 1) % 1_000_003);
        let logit = |id: u64| {
            let noise = ((seed * (id + 3) * 2_654_435_761) >> 8) % 1000;
            let letter = (97..123).contains(&id);
            noise as f32 / 250.0 + if letter { 3.0 } else { 0.0 } + id as f32 * 1e-4
        };
        (0..self.vocabulary as u64).map(logit).collect()
    }

    /// The most likely token.
    pub(super) fn next(&self, ids: &[u32]) -> u32 {
        let logits = self.logits(ids);
        (0u32..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
    }

    /// The tokens that greedy generation gives after `ids`.
    pub(super) fn greedy(&self, ids: &[u32], count: usize) -> Vec<u32> {
        let mut all = ids.to_vec();
        for _ in 0..count {
            all.push(self.next(&all));
        }
        all.split_off(ids.len())
    }

    fn predict(&self, ids: &[u32]) -> Prediction {
        match self.logits {
            true => Prediction::Logits(self.logits(ids)),
            false => Prediction::Token(self.next(ids)),
        }
    }
}

fn load(directory: &Path) -> TextTokenizer {
    TextTokenizer::load(directory).unwrap()
}

impl Network for Fake {
    fn context_length(&self) -> usize {
        self.context
    }

    fn vocabulary_size(&self) -> usize {
        self.vocabulary
    }

    fn gives_logits(&self) -> bool {
        self.logits
    }

    fn make_states(&self) -> Result<Vec<CoreMLState>> {
        Ok(vec![CoreMLState::new(Box::new(Held(Vec::new())))])
    }

    fn rewinds(&self, held: usize, kept: usize) -> bool {
        assert!(kept < held);
        self.rewinds
    }

    fn run(&self, ids: &[u32], start: usize, states: &mut [CoreMLState]) -> Result<Prediction> {
        let mut each = self.run_all(ids, start, states)?;
        Ok(each.pop().unwrap())
    }

    fn lookahead(&self, _start: usize) -> usize {
        self.lookahead
    }

    fn run_each(
        &self,
        ids: &[u32],
        start: usize,
        states: &mut [CoreMLState],
    ) -> Result<Vec<Prediction>> {
        assert!(ids.len() > 1 && ids.len() <= self.lookahead);
        self.run_all(ids, start, states)
    }
}

impl Fake {
    fn run_all(
        &self,
        ids: &[u32],
        start: usize,
        states: &mut [CoreMLState],
    ) -> Result<Vec<Prediction>> {
        assert!(!ids.is_empty(), "a run of nothing");
        assert!(start + ids.len() <= self.context, "a run past the context");
        self.calls.lock().unwrap().push((start, ids.len()));
        let Held(held) = states[0].downcast_mut::<Held>().unwrap();
        assert!(start <= held.len(), "positions without tokens");
        assert!(self.rewinds || start == held.len(), "a cache that can't go back went back");
        held.truncate(start);
        let mut each = Vec::new();
        for &id in ids {
            let mut fails_at = self.fails_at.lock().unwrap();
            if fails_at.take_if(|position| *position == held.len()).is_some() {
                return Err(Error::other("planted"));
            }
            held.push(id);
            each.push(self.predict(held));
        }
        Ok(each)
    }
}

/// The tokens that a cache holds.
struct Held(Vec<u32>);

impl BackendState for Held {
    fn names(&self) -> Vec<String> {
        vec!["held".to_owned()]
    }

    fn read(&self, _name: &str) -> Result<Tensor> {
        Ok(Tensor::new(self.0.as_slice(), &Device::Cpu)?)
    }

    fn write(&mut self, name: &str, _value: &Tensor) -> Result<()> {
        Err(Error::State {
            name: name.to_owned(),
            source: ValueError::Unknown { owner: "the fake".to_owned(), available: Vec::new() },
        })
    }

    fn reset(&mut self) {
        self.0.clear();
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

//! How a model's components are driven: sizes, caches, and what each function may be used for. All
//! differences between exports are data here; what runs the components is one for all.

mod head;
mod interface;

use std::collections::HashMap;

use coreml_format::description::{MultiArrayType, ShapeFlexibility};

pub(crate) use head::Head;
use interface::Rows;
pub(crate) use interface::{Feed, Input, Interface};

use super::discovery::Discovery;
use super::facts::CacheUse;
use super::roles::Component;
use crate::error::{Error, Result};

/// A model's sizes and habits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// Tokens that prompt and answer may have together.
    pub(crate) context: usize,
    /// Tokens that prefill runs at once; 1 where tokens run one by one.
    pub(crate) window: usize,
    /// Length of a hidden state; 0 where the model shows none.
    pub(crate) hidden: usize,
    pub(crate) head: Head,
    pub(crate) prefill: Prefill,
    /// The position from which `infer_rotate` runs instead of `infer`, since the local caches are
    /// full.
    pub(crate) sliding: Option<usize>,
    /// Whether states mix tokens, so that no token can be taken back.
    pub(crate) recurrent: bool,
    /// How to read what follows each token of a window, if the function of windows tells it.
    pub(crate) each: Option<Head>,
    /// Whether the LM head takes the hidden states of a window at once.
    pub(crate) head_takes_windows: bool,
    /// The state of each chunk, by number: chunks that declare the same states share one.
    pub(crate) slots: Vec<usize>,
    /// What is odd, for people.
    pub(crate) findings: Vec<String>,
}

/// What prefill in windows is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefill {
    /// Nothing: tokens run one by one.
    None,
    /// Windows anywhere, padded if need be: padding lies behind the mask and is overwritten.
    Padded,
    /// Like `Padded`, from position 0 only.
    First,
    /// Full windows only: padding would stay in the state.
    Full,
    /// Any number of tokens up to the window.
    Free,
}

impl Layout {
    pub(crate) fn new(discovery: &Discovery) -> Result<Self> {
        let chunks = &discovery.components.chunks;
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Err(Error::language_model(&discovery.directory, "has no layers"));
        };
        let manifest = discovery.manifest.as_ref();
        let head_component = discovery.components.lm_head.as_ref().unwrap_or(&last.infer);
        let head = Head::new(
            Interface(head_component),
            discovery.facts(head_component),
            manifest,
            discovery.original.size("vocab_size"),
        )?;
        let infer = Interface(&first.infer);
        let mut layout = Layout {
            context: 0,
            window: 1,
            hidden: match infer.input(Feed::HiddenStates).map(|ty| ty.shape.as_slice()) {
                Some(&[_, _, hidden]) => hidden,
                Some(_) => return Err(infer.wrong("`hidden_states` must have 3 dimensions")),
                None => 0,
            },
            head,
            prefill: Prefill::None,
            sliding: None,
            recurrent: false,
            each: None,
            head_takes_windows: false,
            slots: slots(discovery),
            findings: discovery.components.findings.clone(),
        };
        layout.read_caches(discovery)?;
        layout.read_prefill(discovery)?;
        layout.check(discovery)?;
        layout.look_for_oddities(discovery);
        Ok(layout)
    }

    /// Context, sliding window and recurrence, from `infer`.
    fn read_caches(&mut self, discovery: &Discovery) -> Result<()> {
        let chunks = &discovery.components.chunks;
        let mut rows: Option<usize> = None;
        for chunk in chunks {
            let interface = Interface(&chunk.infer);
            if chunk.infer.function.states.is_empty() {
                return Err(interface.wrong(
                    "has no key-value state; export the model with a state (iOS 18 or later)",
                ));
            }
            for (state, cache_use) in &discovery.facts(&chunk.infer).cache_uses {
                match cache_use {
                    CacheUse::Positioned => {
                        let of_state = interface.state_rows(state);
                        rows = rows.into_iter().chain(of_state).min();
                    }
                    _ => self.recurrent = true,
                }
            }
        }
        let interface = Interface(&chunks[0].infer);
        // A mask of free length ends with the last key, and tells nothing of the context.
        let mask = interface.input(Feed::CausalMask).filter(|mask| is_fixed(mask));
        let spanned = mask.and_then(|mask| mask.shape.last().copied());
        let rotates = chunks.iter().all(|chunk| chunk.infer_rotate.is_some());
        self.context = match (spanned, rows) {
            (Some(spanned), Some(rows)) if rows < spanned && rotates => {
                self.sliding = Some(rows);
                spanned
            }
            (Some(spanned), Some(rows)) if rows < spanned => {
                self.findings.push(format!(
                    "a cache has {rows} rows for a context of {spanned} tokens and there is no \
                     `infer_rotate`: the context ends at {rows}"
                ));
                rows
            }
            (Some(size), _) | (None, Some(size)) => size,
            (None, None) => return Err(interface.wrong("does not state the length of its context")),
        };
        Ok(())
    }

    /// What `prefill` is good for.
    fn read_prefill(&mut self, discovery: &Discovery) -> Result<()> {
        let chunks = &discovery.components.chunks;
        if let Rows::UpTo(most) = Interface(&chunks[0].infer).rows()? {
            self.window = most.min(FREE_WINDOW).min(self.context);
            self.prefill = if self.recurrent { Prefill::None } else { Prefill::Free };
            self.each = Some(self.head.clone()).filter(|_| self.prefill == Prefill::Free);
            return Ok(());
        }
        let Some(prefills) = chunks.iter().map(|c| c.prefill.as_ref()).collect::<Option<Vec<_>>>()
        else {
            return Ok(());
        };
        let Rows::Fixed(window @ 2..) = Interface(prefills[0]).rows()? else { return Ok(()) };
        let mut prefill = Prefill::Padded;
        for (chunk, of_chunk) in chunks.iter().zip(&prefills) {
            let steps = &discovery.facts(&chunk.infer).cache_uses;
            let windows = &discovery.facts(of_chunk).cache_uses;
            for (state, step) in steps {
                prefill = match (step, windows.get(state)) {
                    (_, Some(CacheUse::Positioned)) => prefill,
                    (CacheUse::Positioned, Some(CacheUse::FirstRows))
                        if prefill != Prefill::Full =>
                    {
                        Prefill::First
                    }
                    (CacheUse::Whole, Some(CacheUse::Whole)) if prefill != Prefill::First => {
                        Prefill::Full
                    }
                    _ => {
                        self.findings.push(format!(
                            "`prefill` does not fill state `{state}` as `infer` does: prompts run \
                             token by token"
                        ));
                        return Ok(());
                    }
                };
            }
        }
        if prefill == Prefill::First {
            self.findings.push(
                "`prefill` always writes the first rows of a cache: only a prompt's first window \
                 runs at once"
                    .to_owned(),
            );
        }
        self.window = window;
        self.prefill = prefill;
        if prefill == Prefill::Padded {
            self.each = self.head_of_windows(discovery, prefills[prefills.len() - 1]);
        }
        let head = discovery.components.lm_head.as_ref();
        self.head_takes_windows = head.is_some_and(|head| {
            let hidden = [1, window, self.hidden];
            Interface(head).allows(Feed::HiddenStates, &hidden, "").is_ok()
        });
        Ok(())
    }

    /// How to read what follows each token of a window from `prefill`, the last chunk's function.
    fn head_of_windows(&self, discovery: &Discovery, prefill: &Component) -> Option<Head> {
        let interface = Interface(prefill);
        let facts = discovery.facts(prefill);
        let of_window = |name: &str| {
            interface.output_shape(name).and_then(|shape| shape.get(1)) == Some(&self.window)
        };
        if discovery.components.lm_head.is_some() {
            // Most exports give an unnormed row, since nobody looks at it.
            let given = facts.ends_with_norm && of_window("output_hidden_states");
            return Some(self.head.clone()).filter(|_| given);
        }
        let head = Head::new(interface, facts, discovery.manifest.as_ref(), None).ok()?;
        match &head {
            Head::Logits { parts, .. } if parts.iter().all(|part| of_window(part)) => Some(head),
            _ => None,
        }
    }

    /// Checks that the components fit together.
    fn check(&self, discovery: &Discovery) -> Result<()> {
        let components = &discovery.components;
        let first = Interface(&components.chunks[0].infer);
        if self.context < 2 || self.window > self.context {
            return Err(first.wrong(format!(
                "has a context of {} and a prefill window of {} tokens, with which nothing can be \
                 generated",
                self.context, self.window
            )));
        }
        if self.prefill == Prefill::Free {
            return first.inputs().map(|_| ());
        }
        for chunk in &components.chunks {
            self.check_layers(&chunk.infer, 1)?;
            if let Some(prefill) = chunk.prefill.as_ref().filter(|_| self.window > 1) {
                self.check_layers(prefill, self.window)?;
            }
            if let Some(rotate) = chunk.infer_rotate.as_ref().filter(|_| self.sliding.is_some()) {
                self.check_layers(rotate, 1)?;
            }
        }
        if let Some(embeddings) = &components.embeddings {
            let embeddings = Interface(embeddings);
            let given = embeddings.output_shape("hidden_states");
            if let Some(&[_, _, size]) = given
                && size != self.hidden
            {
                return Err(embeddings.wrong(format!(
                    "output `hidden_states`: the FFN needs hidden states of {} numbers, found \
                     {size}; look at shapes.hidden_size",
                    self.hidden
                )));
            }
        }
        match &components.lm_head {
            Some(head) => Interface(head).allows(
                Feed::HiddenStates,
                &[1, 1, self.hidden],
                "shapes.hidden_size",
            ),
            None => Ok(()),
        }
    }

    fn check_layers(&self, component: &Component, rows: usize) -> Result<()> {
        let interface = Interface(component);
        interface.inputs()?;
        let hidden = [1, rows, self.hidden];
        interface.allows(Feed::TokenIds, &[1, rows], "shapes.batch_size")?;
        interface.allows(
            Feed::HiddenStates,
            &hidden,
            "shapes.batch_size and shapes.hidden_size",
        )?;
        let positions = interface.input(Feed::PositionIds).map(|ty| ty.shape.iter().product());
        if positions.is_some_and(|positions: usize| positions != rows) {
            interface.allows(Feed::PositionIds, &[rows], "shapes.batch_size")?;
        }
        let mask = interface.input(Feed::CausalMask).filter(|mask| is_fixed(mask));
        if let Some(&[_, _, of_mask, spanned]) = mask.map(|ty| ty.shape.as_slice())
            && (of_mask != rows || spanned < self.context)
        {
            let shape = [1, 1, rows, self.context];
            interface.allows(Feed::CausalMask, &shape, "shapes.context_length")?;
        }
        let outputs = interface.outputs();
        let hands_on = outputs.contains(&"output_hidden_states");
        if !hands_on && self.hidden > 0 && !outputs.iter().any(|name| name.starts_with("logits")) {
            return Err(interface.wrong("has no output `output_hidden_states`"));
        }
        Ok(())
    }

    /// What works and still deserves a word.
    fn look_for_oddities(&mut self, discovery: &Discovery) {
        let chunks = &discovery.components.chunks;
        for (number, chunk) in chunks.iter().enumerate().take(chunks.len().saturating_sub(1)) {
            let unlike = chunk
                .prefill
                .as_ref()
                .is_none_or(|prefill| !discovery.facts(prefill).ends_with_norm);
            if unlike && discovery.facts(&chunk.infer).ends_with_norm {
                self.findings.push(format!(
                    "chunk {} ends `infer` with the final norm, which only the last chunk should: \
                     ANEMLL 0.3.4 exports Qwen models in several chunks so, and they talk \
                     nonsense; export the model again with a newer version or in one chunk",
                    number + 1
                ));
            }
        }
        let Some(manifest) = &discovery.manifest else { return };
        let fields = [
            ("context_length", manifest.context_length, self.context),
            ("batch_size", manifest.batch_size, self.window),
            ("num_chunks", manifest.num_chunks, chunks.len()),
            ("vocab_size", manifest.vocab_size, self.head.sizes().iter().sum()),
        ];
        for (field, stated, actual) in fields {
            if let Some(stated) = stated.filter(|&stated| stated != actual) {
                self.findings
                    .push(format!("meta.yaml says `{field}: {stated}`, but the packages {actual}"));
            }
        }
    }

    /// How the model is driven, for people.
    pub(crate) fn habits(&self) -> Vec<String> {
        let mut habits = Vec::new();
        let window = self.window;
        habits.push(match self.prefill {
            Prefill::None => "prompts run token by token".to_owned(),
            Prefill::Padded => format!("prompts run in windows of {window} tokens"),
            Prefill::First => format!("a prompt's first {window} tokens run in one window"),
            Prefill::Full => format!("prompts run in full windows of {window} tokens"),
            Prefill::Free => format!("prompts run in pieces of up to {window} tokens"),
        });
        if let Some(sliding) = self.sliding {
            habits.push(format!(
                "local caches hold {sliding} tokens: from position {sliding} on `infer_rotate` \
                 shifts them, one token at a time"
            ));
        }
        if self.recurrent {
            habits.push("states mix all tokens: a changed conversation runs from its start".into());
        }
        let own = (0..).zip(&self.slots).filter(|(number, slot)| number == *slot).count();
        if self.slots.len() > 1 {
            habits.push(format!("{} chunks share {own} state objects", self.slots.len()));
        }
        let parts = self.head.sizes().len();
        habits.push(match &self.head {
            Head::Logits { .. } => format!("logits come in {parts} parts"),
            Head::Argmax { .. } => {
                format!("the model chooses tokens itself, from {parts} parts; greedy only")
            }
        });
        habits
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.head.vocabulary()
    }
}

/// Tokens that a function of any length runs at once: enough to be fast, and few shapes to plan.
const FREE_WINDOW: usize = 64;

fn is_fixed(ty: &MultiArrayType) -> bool {
    ty.flexibility == ShapeFlexibility::Fixed
}

/// Chunks that declare the same states share one object, unless the export says otherwise or they
/// write the same layers.
fn slots(discovery: &Discovery) -> Vec<usize> {
    let chunks = &discovery.components.chunks;
    let own = discovery.manifest.as_ref().is_some_and(|manifest| manifest.per_chunk_state);
    let types = |component: &Component| {
        let states = component.function.states.iter();
        states.map(|state| (state.name.clone(), state.ty.clone())).collect::<HashMap<_, _>>()
    };
    let shares = |a: &Component, b: &Component| {
        let (of_a, of_b) = (&discovery.facts(a).layers, &discovery.facts(b).layers);
        let collide = of_a.iter().any(|(state, layers)| {
            of_b.get(state).is_some_and(|others| !layers.is_disjoint(others))
        });
        types(a) == types(b) && !collide
    };
    let infer = |number: usize| chunks.get(number).map(|chunk| &chunk.infer);
    let first_alike = |number: usize| {
        let of_this = infer(number)?;
        (0..number).find(|&other| infer(other).is_some_and(|other| shares(other, of_this)))
    };
    let mut slots: Vec<usize> = Vec::with_capacity(chunks.len());
    for number in 0..chunks.len() {
        let alike = first_alike(number).filter(|_| !own);
        slots.push(alike.and_then(|other| slots.get(other).copied()).unwrap_or(number));
    }
    slots
}

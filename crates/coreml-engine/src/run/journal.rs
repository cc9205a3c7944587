//! What a run overwrites of states: when it fails, they are given back as they were.
//!
//! States are updated in place, and most updates are small parts of them: a copy of what is overwritten
//! costs less than one of a whole cache would.

use crate::error::{OpError, OutOfMemory};
use crate::ids::StateId;
use crate::value::{Buffer, Layout, Storage};

/// The old content of what was overwritten, in order. Its memory serves the next run.
#[derive(Default)]
pub(crate) struct Journal {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Bytes that were kept of each state; all that is still to come is known once they are the whole.
    kept: Vec<usize>,
}

/// A part of a state with its content, at `start` of the journal's bytes.
struct Entry {
    state: StateId,
    /// Where its elements lie; `None` for all.
    part: Option<Layout>,
    storage: Storage,
    start: usize,
}

/// The whole of a state was kept.
const WHOLE: usize = usize::MAX;

impl Journal {
    /// Forgets everything, for a run with so many states.
    pub(super) fn clear(&mut self, states: usize) {
        self.bytes.clear();
        self.entries.clear();
        self.kept.clear();
        self.kept.resize(states, 0);
    }

    /// Keeps what is about to be overwritten: a part of a state, or all of it.
    pub(super) fn keep(
        &mut self,
        state: StateId,
        content: &Buffer,
        part: Option<Layout>,
        storage: Storage,
    ) -> Result<(), OpError> {
        let Some(kept) = self.kept.get_mut(state.index()) else { return Ok(()) };
        if *kept == WHOLE {
            return Ok(());
        }
        // Many small parts, as a loop makes them, are no more than the whole.
        let size = |part: &Layout| part.count().saturating_mul(storage.size());
        let part = part.filter(|part| kept.saturating_add(size(part)) < content.len());
        let len = part.as_ref().map_or(content.len(), size);
        *kept = if part.is_some() { *kept + len } else { WHOLE };
        let start = self.bytes.len();
        self.bytes.try_reserve(len).map_err(|_| OutOfMemory { bytes: len })?;
        match &part {
            Some(layout) => {
                self.bytes.resize(start + len, 0);
                layout.read(content.bytes(), &mut self.bytes[start..], storage)?;
            }
            None => self.bytes.extend_from_slice(content.bytes()),
        }
        self.entries.push(Entry { state, part, storage, start });
        Ok(())
    }

    /// Gives the states back what was overwritten, the last first.
    pub(super) fn restore(&mut self, states: &mut [Buffer]) {
        while let Some(Entry { state, part, storage, start }) = self.entries.pop() {
            let (Some(content), Some(old)) =
                (states.get_mut(state.index()), self.bytes.get(start..))
            else {
                continue;
            };
            match part {
                // It fits: it was read by the same layout.
                Some(layout) => drop(layout.write(old, content.bytes_mut(), storage)),
                None => content.bytes_mut().copy_from_slice(old),
            }
            self.bytes.truncate(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::States;

    #[test]
    fn states_are_given_back_whatever_was_kept_of_them() {
        let mut ids = States::default();
        let (a, b) = (ids.add(()), ids.add(()));
        let content = [Buffer::copy_of(&[1, 2, 3, 4]).unwrap(), Buffer::copy_of(&[5, 6]).unwrap()];
        let mut states = content.clone();
        let mut journal = Journal::default();
        for _ in 0..2 {
            journal.clear(2);
            // More parts than the state has elements, then all of the other state, twice.
            for round in 0..3 {
                for place in 0..3 {
                    let part = Layout::new(place, [(2, 1)]);
                    journal.keep(a, &states[0], Some(part), Storage::U8).unwrap();
                    states[0].bytes_mut()[place..place + 2].fill(10 * round + place as u8);
                }
                journal.keep(b, &states[1], None, Storage::U8).unwrap();
                states[1].bytes_mut().fill(round);
            }
            assert!(journal.bytes.len() <= 4 + 3 + 2, "no more than twice the states");
            journal.restore(&mut states);
            assert_eq!(states[0].bytes(), content[0].bytes());
            assert_eq!(states[1].bytes(), content[1].bytes());
        }
    }
}

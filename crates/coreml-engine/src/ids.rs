//! Typed numbers of the things that a graph and a plan consist of, and arenas that hold them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// The place of a `T` in its [`Arena`].
pub(crate) struct Id<T> {
    index: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    fn new(index: usize) -> Self {
        // An arena of more than 2^32 values would take more memory than the file that asks for it.
        Id { index: u32::try_from(index).unwrap_or(u32::MAX), of: PhantomData }
    }

    /// The number.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.index.cmp(&other.index)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index)
    }
}

/// Things by the [`Id`] of what they are or belong to: the values of a graph as well as what a pass
/// finds out about each of them.
#[derive(Clone)]
pub(crate) struct Arena<K, T> {
    things: Vec<T>,
    of: PhantomData<fn() -> K>,
}

impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Arena { things: Vec::new(), of: PhantomData }
    }
}

impl<K, T> Arena<K, T> {
    /// Adds one; gives its id.
    pub(crate) fn add(&mut self, thing: T) -> Id<K> {
        self.things.push(thing);
        Id::new(self.things.len() - 1)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.things.len()
    }

    /// Forgets all but the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.things.truncate(len);
    }

    /// All ids, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id<K>> + use<K, T> {
        (0..self.things.len()).map(Id::new)
    }

    /// All things, in order.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.things.iter()
    }

    /// All things with their ids, in order.
    pub(crate) fn enumerate(&self) -> impl Iterator<Item = (Id<K>, &T)> {
        self.things.iter().enumerate().map(|(index, thing)| (Id::new(index), thing))
    }
}

impl<K, T> Index<Id<K>> for Arena<K, T> {
    type Output = T;

    fn index(&self, id: Id<K>) -> &T {
        &self.things[id.index()]
    }
}

impl<K, T> IndexMut<Id<K>> for Arena<K, T> {
    fn index_mut(&mut self, id: Id<K>) -> &mut T {
        &mut self.things[id.index()]
    }
}

impl<K, T> FromIterator<T> for Arena<K, T> {
    fn from_iter<I: IntoIterator<Item = T>>(things: I) -> Self {
        Arena { things: things.into_iter().collect(), of: PhantomData }
    }
}

/// What ids number.
mod kinds {
    #[derive(Debug)]
    pub(crate) enum Value {}
    #[derive(Debug)]
    pub(crate) enum Constant {}
    #[derive(Debug)]
    pub(crate) enum State {}
    #[derive(Debug)]
    pub(crate) enum Buffer {}
    #[derive(Debug)]
    pub(crate) enum Open {}
    #[derive(Debug)]
    pub(crate) enum List {}
}

/// A value: a function's input, a state's content or an operation's result.
pub(crate) type ValueId = Id<kinds::Value>;
/// Values, or what a pass knows of each.
pub(crate) type Values<T> = Arena<kinds::Value, T>;
/// A constant.
pub(crate) type ConstantId = Id<kinds::Constant>;
/// Constants.
pub(crate) type Constants<T> = Arena<kinds::Constant, T>;
/// A state of the function.
pub(crate) type StateId = Id<kinds::State>;
/// States, or what a pass knows of each.
pub(crate) type States<T> = Arena<kinds::State, T>;
/// A buffer of the arena that values live in.
pub(crate) type BufferId = Id<kinds::Buffer>;
/// Buffers, or what is known of each.
pub(crate) type Buffers<T> = Arena<kinds::Buffer, T>;
/// A value whose shape is found at run time.
pub(crate) type OpenId = Id<kinds::Open>;
/// Values whose shapes are found at run time.
pub(crate) type Opens<T> = Arena<kinds::Open, T>;
/// A list.
pub(crate) type ListId = Id<kinds::List>;
/// Lists.
pub(crate) type Lists<T> = Arena<kinds::List, T>;

/// What an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    /// A value.
    Value(ValueId),
    /// A constant.
    Constant(ConstantId),
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Value(id) => write!(f, "v{id:?}"),
            Operand::Constant(id) => write!(f, "c{id:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_gives_back_what_was_added() {
        let mut values = Values::default();
        let (a, b) = (values.add("a"), values.add("b"));
        assert_eq!((values[a], values[b], values.len()), ("a", "b", 2));
        assert_eq!(values.ids().collect::<Vec<_>>(), [a, b]);
        values.truncate(1);
        assert_eq!(values.enumerate().collect::<Vec<_>>(), [(a, &"a")]);
        assert_eq!(Operand::Value(b).to_string(), "v1");
    }
}

//! Choices that follow from bytes, be they a fuzzer's or a generator's.

/// Bytes to choose by. When they are used up, everything is the first that it may be.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        let number: usize = match end {
            ..=256 => self.byte().into(),
            _ => u16::from_le_bytes([self.byte(), self.byte()]).into(),
        };
        number % end
    }

    /// True once in `times`; never when the bytes are used up.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of some things.
    pub fn of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len())]
    }
}

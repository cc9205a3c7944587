//! Aligned byte buffers.

use bytemuck::{Pod, Zeroable};

use crate::error::OutOfMemory;

/// A cache line: the unit of allocation, so that every typed view of a buffer is aligned.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A growable block of bytes, aligned to 64 bytes and zeroed when made.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Result<Self, OutOfMemory> {
        let lines = bytemuck::try_zeroed_vec(len.div_ceil(size_of::<Line>()))
            .map_err(|()| OutOfMemory { bytes: len })?;
        Ok(Buffer { lines, len })
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Result<Self, OutOfMemory> {
        let mut buffer = Buffer::zeroed(bytes.len())?;
        buffer.bytes_mut().copy_from_slice(bytes);
        Ok(buffer)
    }

    /// Makes the buffer hold at least `len` bytes; the contents are unspecified if it grows.
    pub fn grow(&mut self, len: usize) -> Result<(), OutOfMemory> {
        if len > self.len {
            *self = Buffer::zeroed(len)?;
        }
        Ok(())
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zeroed() {
        let buffer = Buffer::zeroed(100).unwrap();
        assert_eq!(buffer.bytes(), [0u8; 100]);
        assert_eq!(buffer.bytes().as_ptr() as usize % 64, 0);
    }

    #[test]
    fn an_absurd_size_is_an_error_and_no_abort() {
        assert_eq!(
            Buffer::zeroed(usize::MAX / 2).err(),
            Some(OutOfMemory { bytes: usize::MAX / 2 })
        );
    }

    #[test]
    fn growing_never_shrinks() {
        let mut buffer = Buffer::copy_of(&[1, 2, 3]).unwrap();
        buffer.grow(200).unwrap();
        assert_eq!(buffer.len(), 200);
        buffer.grow(2).unwrap();
        assert_eq!(buffer.bytes().len(), 200);
    }
}

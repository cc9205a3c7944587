//! Aligned byte buffers.

use bytemuck::{Pod, Zeroable};

/// A cache line: the unit of allocation, so that every typed view of a buffer is aligned.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A growable block of bytes, aligned to 64 bytes and zeroed when made.
#[derive(Clone, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

/// Memory for a buffer could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough memory for a buffer of {bytes} bytes")]
pub(crate) struct OutOfMemory {
    pub(crate) bytes: usize,
}

impl Buffer {
    /// A buffer of `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Result<Self, OutOfMemory> {
        let lines = bytemuck::try_zeroed_vec(len.div_ceil(size_of::<Line>()))
            .map_err(|()| OutOfMemory { bytes: len })?;
        Ok(Buffer { lines, len })
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Self, OutOfMemory> {
        let mut buffer = Buffer::zeroed(bytes.len())?;
        buffer.bytes_mut().copy_from_slice(bytes);
        Ok(buffer)
    }

    /// Sets the length; the contents are unspecified afterwards. Memory is kept for reuse.
    pub(crate) fn set_len(&mut self, len: usize) -> Result<(), OutOfMemory> {
        if len.div_ceil(size_of::<Line>()) > self.lines.len() {
            *self = Buffer::zeroed(len)?;
        }
        self.len = len;
        Ok(())
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The bytes, to write.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
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
    fn growing_keeps_the_asked_length() {
        let mut buffer = Buffer::copy_of(&[1, 2, 3]).unwrap();
        buffer.set_len(200).unwrap();
        assert_eq!(buffer.len(), 200);
        buffer.set_len(2).unwrap();
        assert_eq!(buffer.bytes().len(), 2);
    }
}

//! Packed sub-byte integers to bytes.
//!
//! Core ML stores sub-byte elements as one contiguous little-endian bit stream: element `i`
//! takes the bits from `i * bits`, lowest first, and may straddle two bytes (coremltools,
//! `optimize/_utils.py`, `restore_elements_from_packed_bits`).

use crate::error::{KernelError, check_len};

/// Bytes that `count` packed elements of `bits` bits take; `None` if that overflows.
pub fn packed_len(count: usize, bits: u8) -> Option<usize> {
    // Whole groups of eight elements take `bits` bytes each: no intermediate overflow.
    let whole = (count / 8).checked_mul(usize::from(bits))?;
    whole.checked_add((count % 8 * usize::from(bits)).div_ceil(8))
}

/// Unpacks `out.len()` unsigned elements of `bits` (1 to 8) bits.
///
/// # Errors
/// If `bits` is out of range or `packed` is not exactly as long as the elements need.
pub fn unpack_unsigned(bits: u8, packed: &[u8], out: &mut [u8]) -> Result<(), KernelError> {
    check("unpack_unsigned", bits, packed, out.len())?;
    unpack_from(bits, packed, 0, out);
    Ok(())
}

/// Unpacks `out.len()` two's-complement elements of `bits` (1 to 8) bits.
///
/// # Errors
/// As [`unpack_unsigned`].
pub fn unpack_signed(bits: u8, packed: &[u8], out: &mut [i8]) -> Result<(), KernelError> {
    check("unpack_signed", bits, packed, out.len())?;
    let spare = 8 - u32::from(bits);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
    unpack_from(bits, packed, 0, bytes);
    for byte in bytes {
        *byte = ((*byte << spare).cast_signed() >> spare).cast_unsigned();
    }
    Ok(())
}

fn check(kernel: &'static str, bits: u8, packed: &[u8], count: usize) -> Result<(), KernelError> {
    if !(1..=8).contains(&bits) {
        return Err(KernelError::value(kernel, "bits", "1 to 8", bits));
    }
    let expected =
        packed_len(count, bits).ok_or(KernelError::Overflow { kernel, argument: "packed" })?;
    check_len(kernel, "packed", expected, packed.len())
}

/// Element `index` of a bit stream; bits beyond its end read as zero.
#[inline(always)]
pub(crate) fn element(bits: u8, packed: &[u8], index: usize) -> u8 {
    let (byte, shift) = position(bits, index);
    let low = packed.get(byte).copied().unwrap_or(0);
    let high = packed.get(byte + 1).copied().unwrap_or(0);
    let mask = ((1u16 << bits) - 1) as u8;
    (u16::from_le_bytes([low, high]) >> shift) as u8 & mask
}

/// The byte and the bit in it at which element `index` starts, without overflow on the way.
fn position(bits: u8, index: usize) -> (usize, u32) {
    let bits = usize::from(bits);
    let rest = index % 8 * bits;
    (index / 8 * bits + rest / 8, (rest % 8) as u32)
}

/// Unpacks elements `start..start + out.len()`; bits beyond the stream's end read as zero.
pub(crate) fn unpack_from(bits: u8, packed: &[u8], start: usize, out: &mut [u8]) {
    if bits == 8 {
        let end = (start + out.len()).min(packed.len());
        if let Some(bytes) = packed.get(start..end) {
            out[..bytes.len()].copy_from_slice(bytes);
        }
        return;
    }
    let misaligned = (start % 8).min(1) * (8 - start % 8).min(out.len());
    let (head, body) = out.split_at_mut(misaligned);
    for (i, value) in head.iter_mut().enumerate() {
        *value = element(bits, packed, start + i);
    }
    let first = start + misaligned;
    let stride = usize::from(bits);
    let bytes = packed.get(first / 8 * stride..).unwrap_or(&[]);
    // Eight elements are `bits` whole bytes: one 64-bit word each.
    for (group, values) in body.chunks_mut(8).enumerate() {
        let at = (group * stride).min(bytes.len());
        let word = read_word(&bytes[at..]);
        for (i, value) in values.iter_mut().enumerate() {
            *value = (word >> (i * stride)) as u8 & ((1u16 << bits) - 1) as u8;
        }
    }
}

/// The first eight bytes as a little-endian number; missing ones are zero.
#[inline(always)]
pub(crate) fn read_word(bytes: &[u8]) -> u64 {
    if let Some(&word) = bytes.first_chunk() {
        return u64::from_le_bytes(word);
    }
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads bit by bit, the definition itself.
    fn oracle(bits: u8, packed: &[u8], index: usize) -> u8 {
        (0..usize::from(bits)).fold(0, |value, bit| {
            let at = index * usize::from(bits) + bit;
            value | ((packed[at / 8] >> (at % 8) & 1) << bit)
        })
    }

    proptest::proptest! {
        #[test]
        fn matches_bit_by_bit(bits in 1u8..=8, start in 0usize..40, count in 0usize..70,
                              seed in proptest::collection::vec(0u8.., 128)) {
            let mut out = vec![0; count];
            unpack_from(bits, &seed, start, &mut out);
            for (i, &value) in out.iter().enumerate() {
                proptest::prop_assert_eq!(value, oracle(bits, &seed, start + i));
                proptest::prop_assert_eq!(value, element(bits, &seed, start + i));
            }
        }
    }

    #[test]
    fn coremltools_packing() {
        // pack_elements_into_bits([0, 3, 2, 1, 3], 2), the example of constexpr_lut_to_dense.
        let mut out = [0; 5];
        unpack_unsigned(2, &[0b0110_1100, 0b11], &mut out).unwrap();
        assert_eq!(out, [0, 3, 2, 1, 3]);
        let mut signed = [0; 3];
        unpack_signed(4, &[0x8a, 0x07], &mut signed).unwrap();
        assert_eq!(signed, [-6, -8, 7]);
    }

    #[test]
    fn refuses_bad_lengths() {
        assert_eq!(
            unpack_unsigned(4, &[0], &mut [0; 3]).unwrap_err().to_string(),
            "unpack_unsigned: `packed` holds 1 elements, expected 2"
        );
        assert!(unpack_unsigned(0, &[], &mut []).is_err());
        assert!(unpack_signed(9, &[], &mut []).is_err());
        assert_eq!(packed_len(usize::MAX, 8), Some(usize::MAX));
    }
}

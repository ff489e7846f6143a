//! LEB128 variable-length integers, as postcard writes them: seven bits a byte, low bits first.

/// Returns the number of bytes that `value` takes, 1 to 10.
pub(crate) const fn len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Overwrites `out`, whose length must be `len(value)`, with `value`.
pub(crate) fn write(out: &mut [u8], mut value: u64) {
    let last = out.len() - 1;
    for byte in &mut out[..last] {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    out[last] = value as u8;
}

/// The result of reading a length prefix that may be incomplete.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// The value, and the number of its bytes.
    Value(usize, usize),
    /// The prefix is incomplete.
    Partial,
    /// The value has more than 32 bits, or is padded with zero groups.
    Invalid,
}

/// Reads a frame length. It has at most 32 bits, in five bytes, and its shortest form.
pub(crate) fn prefix(bytes: &[u8]) -> Prefix {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let padded = index > 0 && *byte == 0;
            return match u32::try_from(value) {
                Ok(value) if !padded => Prefix::Value(value as usize, index + 1),
                _ => Prefix::Invalid,
            };
        }
    }
    if bytes.len() >= 5 { Prefix::Invalid } else { Prefix::Partial }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_postcard(value: u64) {
            let mut ours = Vec::new();
            put(&mut ours, value);
            prop_assert_eq!(&ours, &postcard::to_allocvec(&value).unwrap());
            prop_assert_eq!(ours.len(), len(value));
            let mut written = vec![0; len(value)];
            write(&mut written, value);
            prop_assert_eq!(written, ours);
        }

        #[test]
        fn prefix_reads_what_put_wrote(value: u32, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            put(&mut bytes, value.into());
            let width = bytes.len();
            for cut in 0..width {
                prop_assert_eq!(prefix(&bytes[..cut]), Prefix::Partial);
            }
            bytes.extend(tail);
            prop_assert_eq!(prefix(&bytes), Prefix::Value(value as usize, width));
        }
    }

    #[test]
    fn prefix_refuses_padding_and_more_than_32_bits() {
        assert_eq!(prefix(&[0x80, 0x00]), Prefix::Invalid);
        assert_eq!(prefix(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Prefix::Invalid);
        assert_eq!(prefix(&[0x80; 5]), Prefix::Invalid);
    }
}

//! The bytes of a journal: pure. A file is a header and blocks. A block has a checksum, and is
//! complete in itself: it can be read although those before it cannot.
//!
//! Fields of entries are in the encoding of postcard. Variants are only appended and fields never
//! change; whatever cannot be said so takes another [`VERSION`].

pub(crate) mod block;
pub(crate) mod header;
pub(crate) mod note;
pub(crate) mod part;
pub(crate) mod record;

#[cfg(test)]
mod tests;

/// The version of the format. A file with a higher one is set aside.
pub(crate) const VERSION: u32 = 1;

/// The bytes of an entry are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<postcard::Error> for Malformed {
    fn from(_: postcard::Error) -> Self {
        Self
    }
}

// Appends a value in postcard.
fn put<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    use postcard::ser_flavors::Flavor;

    struct Append<'a>(&'a mut Vec<u8>);

    impl Flavor for Append<'_> {
        type Output = ();

        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.push(byte);
            Ok(())
        }

        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }

        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }

    // A vector takes everything.
    let _ = postcard::serialize_with_flavor(value, Append(out));
}

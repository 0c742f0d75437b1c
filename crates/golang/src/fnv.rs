//! The hashes of Fowler, Noll and Vo, variant a (<https://datatracker.ietf.org/doc/html/rfc9923>).

use std::fmt;

/// The hash of 32 bits.
pub fn hash_32(bytes: &[u8]) -> u32 {
    let mut hash = Hash32::default();
    hash.update(bytes);
    hash.value()
}

/// The hash of 32 bits, of what is written to it.
pub struct Hash32(u32);

impl Default for Hash32 {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Hash32 {
    /// Takes in more.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    }

    /// The hash of all that was taken in.
    pub fn value(&self) -> u32 {
        self.0
    }
}

impl fmt::Write for Hash32 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.update(text.as_bytes());
        Ok(())
    }
}

/// The hash of 128 bits, of what is written to it.
pub struct Hash128(u128);

impl Default for Hash128 {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Hash128 {
    /// Takes in more.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul((1 << 88) + 0x13b);
        }
    }

    /// The hash of all that was taken in.
    pub fn value(&self) -> u128 {
        self.0
    }
}

impl fmt::Write for Hash128 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.update(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        for (text, hash) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(hash_32(text.as_bytes()), hash, "{text}");
        }
        let mut hash = Hash128::default();
        hash.update(b"foo");
        hash.update(b"bar");
        assert_eq!(hash.value(), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}

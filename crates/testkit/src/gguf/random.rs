//! Random weights: quick, and the same for the same seed on every machine.

use std::io::{self, Write};

/// `SplitMix64`: eight bytes a step, the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds start far apart.
        let mut random = Self(seed);
        Self(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Writes `bytes` bytes of F16 values: random sign and mantissa, magnitude between 2^-shrink and 2^(1-shrink).
    pub(super) fn write_f16(&mut self, out: &mut impl Write, bytes: u64, shrink: u32) -> io::Result<()> {
        // Four values at once: sign and mantissa stay, the exponent (bias 15) is set.
        const KEEP: u64 = 0x83FF_83FF_83FF_83FF;
        let exponent = u64::from(15_u32.saturating_sub(shrink).max(1) << 10) * 0x0001_0001_0001_0001;
        let mut block = vec![0_u8; 1 << 16];
        let mut left = bytes;
        while left > 0 {
            let now = usize::try_from(left.min(block.len() as u64)).expect("at most a block");
            for chunk in block[..now].chunks_mut(8) {
                let values = ((self.next() & KEEP) | exponent).to_le_bytes();
                chunk.copy_from_slice(&values[..chunk.len()]);
            }
            out.write_all(&block[..now])?;
            left -= now as u64;
        }
        Ok(())
    }
}

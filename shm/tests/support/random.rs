//! Random numbers that a seed repeats.

/// A xorshift generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Never zero, where the generator would stay.
        Self(mix(seed) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 16) % bound as u64).unwrap()
    }
}

/// Spreads neighbouring numbers far apart.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (number ^ number >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ number >> 32
}

/// The seed of this run: from `SHM_TEST_SEED`, or else the clock's. Printed, to be used again.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SHM_TEST_SEED").ok();
    let clock = || {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    };
    let seed = given.map_or_else(clock, |text| text.parse().unwrap());
    println!("SHM_TEST_SEED={seed}");
    seed
}

//! The one source of chance of a schedule, and of what its requests hold: a generator whose stream no release changes, and how seeds are spread over it.

use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// One step of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that spreads neighbouring seeds far apart.
pub(crate) fn split_mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of what is called `name` in what has this seed.
pub(crate) fn seed_of_name(seed: u64, name: &str) -> u64 {
    // FNV-1a over the name, then one round of SplitMix64 to spread it over all bits.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    split_mix(seed ^ hash)
}

/// The seed of the `index`-th part of what has this seed: parts are independent of one another.
pub(super) fn seed_of_part(seed: u64, index: u64) -> u64 {
    split_mix(seed ^ split_mix(index.wrapping_add(1)))
}

pub(super) fn generator(seed: u64) -> Pcg64Mcg {
    // Both halves of the state are derived here rather than by a seeding routine that another release may change.
    let (low, high) = (split_mix(seed), split_mix(split_mix(seed)));
    Pcg64Mcg::new((u128::from(high) << 64) | u128::from(low))
}

/// 53 random bits in (0, 1]: the logarithm is finite.
pub(super) fn uniform(random: &mut Pcg64Mcg) -> f64 {
    ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

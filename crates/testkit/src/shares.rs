use proptest::test_runner::{Config, RngSeed};

/// The share of the cases that thread number `thread` of `threads` runs, from a seed that no other thread has, nor any
/// thread of a run with the next seed.
#[must_use]
pub fn share(config: &Config, thread: u32, threads: u32) -> Config {
    let RngSeed::Fixed(seed) = config.rng_seed else { panic!("the configuration has no seed") };
    let seed = seed.wrapping_mul(threads.into()).wrapping_add(thread.into());
    Config { cases: config.cases / threads, rng_seed: RngSeed::Fixed(seed), ..config.clone() }
}

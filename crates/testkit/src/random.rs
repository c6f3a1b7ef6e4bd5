//! The configuration of every random test.
//!
//! The tests of `domain`, which depend on no other crate of the workspace, include this file by its path.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use proptest::test_runner::{Config, RngSeed, contextualize_config};

/// The configuration of a random test of so many cases. It prints the seed, which the environment variable
/// `PROPTEST_RNG_SEED` repeats; `PROPTEST_CASES` sets another number of cases.
#[must_use]
pub fn seeded(cases: u32) -> Config {
    let config = contextualize_config(Config { cases, failure_persistence: None, ..Config::default() });
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().build_hasher().finish(),
    };
    eprintln!("PROPTEST_RNG_SEED={seed} PROPTEST_CASES={}", config.cases);
    Config { rng_seed: RngSeed::Fixed(seed), ..config }
}

//! The configuration of all random tests.
//!
//! The tests of `domain` include this file by its path, because `domain` depends on no other crate of the workspace.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use proptest::test_runner::{Config, RngSeed, contextualize_config};

/// Returns the configuration of a random test with this number of cases, and prints the seed.
///
/// The environment variable `PROPTEST_RNG_SEED` repeats a seed, and `PROPTEST_CASES` sets another number of cases.
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

use crate::seeded;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestError, TestRunner};

/// Returns the configuration for the cases of thread number `thread` of `threads`. Its seed differs from the seeds of
/// all other threads, and from those of a run with the next seed.
fn share(config: &Config, thread: u32, threads: u32) -> Config {
    let RngSeed::Fixed(seed) = config.rng_seed else { panic!("the configuration has no seed") };
    let seed = seed.wrapping_mul(threads.into()).wrapping_add(thread.into());
    Config { cases: config.cases / threads, rng_seed: RngSeed::Fixed(seed), ..config.clone() }
}

/// Runs a random test with this number of cases on this number of threads. Panics with the smallest failing input.
///
/// Each thread runs a share of the cases in its own world, which `start` creates. `play` runs one case in that world.
pub fn run_in_shares<S: Strategy, W>(
    cases: u32,
    threads: u32,
    inputs: impl Fn() -> S + Sync,
    start: impl AsyncFn() -> W + Sync,
    play: impl AsyncFn(&W, S::Value) -> TestCaseResult + Sync,
) {
    let config = Config { max_shrink_iters: 500, ..seeded(cases) };
    let run = |config: Config| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = runtime.block_on(start());
        TestRunner::new(config).run(&inputs(), |input| runtime.block_on(play(&world, input))).map_err(|error| {
            match error {
                TestError::Fail(reason, input) => format!("{reason}\nsmallest input: {input:#?}"),
                TestError::Abort(reason) => format!("aborted: {reason}"),
            }
        })
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| share(&config, thread, threads))
            .map(|share| scope.spawn(|| run(share)))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

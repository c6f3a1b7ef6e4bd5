//! `evoke bench cold`: measures every packaged function as a process of its own, beside a peer in Python where there is
//! one. The services around them are those of the tests.

mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use indicatif::ProgressBar;

use super::percentiles;
use super::process::{Launch, Running};
use super::python::{Peers, Python};
use world::World;

/// The number of invocations before those that are measured.
const WARM_UP: u32 = 10;
/// Where `make package` puts the functions for this machine.
const PACKAGED: &str = if cfg!(target_arch = "aarch64") {
    "target/package/arm64/target/lambda"
} else {
    "target/package/x86_64/target/lambda"
};
/// The type of the section with the symbols in a binary (`SHT_SYMTAB`). `make package` strips it.
const SYMBOL_TABLE: usize = 2;

/// What to measure, and how often.
#[derive(Args)]
pub struct Options {
    /// The folder with the release binaries, `FUNCTION/bootstrap`, as `make package` builds them for this machine.
    #[arg(long, default_value = PACKAGED)]
    functions: PathBuf,
    /// Measure only these functions, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The number of cold starts of each function.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    starts: u32,
    /// The number of warm invocations of each function.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    invocations: u32,
    #[command(flatten)]
    peers: Peers,
}

/// An aim: what a function may take at most, as a share of its peer.
struct Aim {
    what: &'static str,
    /// The factor by which the peer's figure must be larger at least.
    times: f64,
    of: fn(&Figures) -> f64,
}

const AIMS: [Aim; 3] = [
    Aim { what: "cold start", times: 25.0, of: |figures| figures.cold_ms },
    Aim { what: "warm p50", times: 4.0, of: |figures| figures.p50_ms },
    Aim { what: "peak memory", times: 5.0, of: |figures| figures.peak_mb },
];

/// The figures of a function or of its peer.
struct Figures {
    cold_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    peak_mb: f64,
}

/// The figures of a function, and those of its peer if there is one.
struct Measured {
    function: String,
    rust: Figures,
    python: Option<Figures>,
}

/// A function or its peer while it is measured.
struct Side {
    language: &'static str,
    launch: Launch,
    cold_ms: Vec<f64>,
    warm_ms: Vec<f64>,
    peak_mb: f64,
}

/// Measures every packaged function and prints a table.
pub async fn cold(options: &Options) -> Result<()> {
    let functions = packaged(options)?;
    let python = Python::find(&options.peers).await?;
    let progress = ProgressBar::new(functions.len() as u64);
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    for (function, binary) in &functions {
        // Boxed, as below: the SDK's futures are large.
        match Box::pin(measure(function, binary, python.as_ref(), options)).await {
            Ok(measured) => all.push(measured),
            Err(error) => failed.push(format!("{function}: {error:#}")),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    print_table(&all);
    println!(
        "cold: from the start of the process to the answer to its first invocation, the median of {} starts.\n\
         p50, p99: {} invocations of one process, one after the other, after {WARM_UP} that are not counted.\n\
         peak: the process's memory (VmHWM) after them. There is no TLS; function and peer take turns.",
        options.starts, options.invocations
    );
    if let Some(python) = &python {
        println!("Python: {}.", python.versions);
        print_aims(&all);
    }
    print_unstripped(&functions)?;
    ensure!(failed.is_empty(), "not measured:\n{}", failed.join("\n"));
    Ok(())
}

/// Returns the names and the absolute paths of the packaged functions to measure.
fn packaged(options: &Options) -> Result<Vec<(String, PathBuf)>> {
    let folder = std::path::absolute(&options.functions)?;
    let mut functions = Vec::new();
    for name in names(options)? {
        let binary = folder.join(&name).join("bootstrap");
        ensure!(binary.exists(), "{} has no {name}: make bench-cold builds it", folder.display());
        functions.push((name, binary));
    }
    Ok(functions)
}

/// Returns the names of the functions to measure: those that were asked for, or all functions of the project.
fn names(options: &Options) -> Result<Vec<String>> {
    if !options.only.is_empty() {
        return Ok(options.only.clone());
    }
    let folders = std::fs::read_dir("crates/functions").context("run this in the folder of the project")?;
    let mut names = Vec::new();
    for folder in folders {
        names.push(folder?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Measures a function and its peer in a world of their own.
async fn measure(function: &str, binary: &Path, python: Option<&Python>, options: &Options) -> Result<Measured> {
    let world = World::start().await?;
    let (starts, count) = (options.starts, options.starts + WARM_UP + options.invocations);
    Box::pin(world.prepare(function, count)).await?;
    let launch = Launch {
        program: binary.to_owned(),
        arguments: Vec::new(),
        folder: std::path::absolute(".")?,
        environment: world.environment("ev"),
    };
    let mut sides = vec![Side::new("Rust", launch)];
    let peer = world::peer(function);
    if let Some(python) = python.filter(|python| python.has(peer)) {
        let environment = world.environment("peer");
        python.prepare(&world.request(peer, count), environment.clone()).await?;
        sides.push(Side::new("Python", python.launch(peer, environment)));
    }
    for number in 0..starts {
        let payload = world::payload(function, number)?;
        for index in order(sides.len(), number) {
            let side = &mut sides[index];
            let (running, ms) = Running::start_cold(&side.launch, &payload).await.context(side.language)?;
            running.stop().await?;
            side.cold_ms.push(ms);
        }
    }
    let mut running = Vec::new();
    for side in &sides {
        running.push(Running::start(&side.launch).await?);
    }
    for number in starts..count {
        let payload = world::payload(function, number)?;
        for index in order(sides.len(), number) {
            let (_, ms) = running[index].invoke(&payload).await.context(sides[index].language)?;
            if number >= starts + WARM_UP {
                sides[index].warm_ms.push(ms);
            }
        }
    }
    for (side, running) in sides.iter_mut().zip(running) {
        side.peak_mb = running.peak_mb()?;
        running.stop().await?;
    }
    let mut figures = sides.into_iter().map(Side::figures);
    let rust = figures.next().context("no figures")?;
    Ok(Measured { function: function.to_owned(), rust, python: figures.next() })
}

/// Returns the order of the sides in this turn. The side that goes first changes with every turn.
fn order(sides: usize, turn: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sides).collect();
    if turn % 2 == 1 {
        order.reverse();
    }
    order
}

impl Side {
    fn new(language: &'static str, launch: Launch) -> Self {
        Self { language, launch, cold_ms: Vec::new(), warm_ms: Vec::new(), peak_mb: 0.0 }
    }

    fn figures(self) -> Figures {
        let [cold_ms] = percentiles(self.cold_ms, [50]);
        let [p50_ms, p99_ms] = percentiles(self.warm_ms, [50, 99]);
        Figures { cold_ms, p50_ms, p99_ms, peak_mb: self.peak_mb }
    }
}

fn print_table(all: &[Measured]) {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "function", "cold ms", "Python", "ratio", "p50 ms", "Python", "ratio", "p99 ms", "Python", "ratio", "peak MB",
        "Python", "ratio",
    ]);
    for Measured { function, rust, python } in all {
        let mut row = vec![function.clone()];
        let mut add = |of: fn(&Figures) -> f64, digits: usize| {
            let (own, peer) = (of(rust), python.as_ref().map(of));
            row.push(format!("{own:.digits$}"));
            row.push(peer.map_or_else(String::new, |peer| format!("{peer:.digits$}")));
            row.push(peer.map_or_else(String::new, |peer| format!("1/{:.1}", peer / own)));
        };
        add(|figures| figures.cold_ms, 1);
        add(|figures| figures.p50_ms, 2);
        add(|figures| figures.p99_ms, 2);
        add(|figures| figures.peak_mb, 1);
        table.add_row(row);
    }
    println!("{table}");
}

/// Prints the aims, and which functions miss them.
fn print_aims(all: &[Measured]) {
    for Aim { what, times, of } in AIMS {
        let pairs = all.iter().filter_map(|measured| Some((measured, measured.python.as_ref()?)));
        let missed: Vec<String> = pairs
            .filter(|(measured, python)| of(python) < times * of(&measured.rust))
            .map(|(measured, python)| format!("{} (1/{:.1})", measured.function, of(python) / of(&measured.rust)))
            .collect();
        let missed =
            if missed.is_empty() { "met by all".to_owned() } else { format!("missed by {}", missed.join(", ")) };
        println!("aim: {what} at most 1/{times:.0} of Python's: {missed}");
    }
}

/// Warns of binaries that were built for tests rather than for AWS.
fn print_unstripped(functions: &[(String, PathBuf)]) -> Result<()> {
    let mut unstripped = Vec::new();
    for (function, binary) in functions {
        if has_symbols(&std::fs::read(binary)?) == Some(true) {
            unstripped.push(function.as_str());
        }
    }
    if !unstripped.is_empty() {
        println!(
            "WARNING: not release binaries, since they have symbols (make build rather than make package): {}",
            unstripped.join(", ")
        );
    }
    Ok(())
}

/// Returns whether a binary has a symbol table. Returns `None` for what is no binary in 64-bit ELF.
fn has_symbols(binary: &[u8]) -> Option<bool> {
    if !binary.starts_with(b"\x7fELF") {
        return None;
    }
    let number = |at: usize, length: usize| {
        let bytes = binary.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |number: usize, byte| (number << 8) | usize::from(*byte)))
    };
    let (sections, size, count) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?);
    Some((0..count).any(|section| number(sections + section * size + 4, 4) == Some(SYMBOL_TABLE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_take_turns_in_going_first() {
        assert_eq!((order(2, 0), order(2, 1), order(1, 1)), (vec![0, 1], vec![1, 0], vec![0]));
    }

    #[test]
    fn a_binary_that_is_not_stripped_is_recognised() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!((has_symbols(&own), has_symbols(b"#!/bin/sh")), (Some(true), None));
    }
}

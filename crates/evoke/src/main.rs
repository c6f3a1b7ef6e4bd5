//! The operator's command line.
#![allow(clippy::print_stdout)] // printing is what a command line does

mod bench;
mod demo;
mod dlq;
mod fleet;
mod republish;
mod stack;
mod story;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use stack::Stack;

/// Evoke, the backend of an EV charging network: the operator's command line.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which deployed stack is meant.
#[derive(clap::Args)]
struct Target {
    /// The outputs of the deployed stack, as `make up` writes them.
    #[arg(long, global = true, env = "EVOKE_OUTPUTS", default_value = ".local/outputs.json")]
    outputs: PathBuf,
    /// A stack deployed on AWS instead, by name, reached by the usual AWS configuration (`AWS_PROFILE` …).
    #[arg(long, global = true, env = "EVOKE_STACK")]
    stack: Option<String>,
}

impl Target {
    async fn open(&self) -> Result<Stack> {
        match &self.stack {
            Some(name) => Stack::deployed(name).await,
            None => Stack::open(&self.outputs).await,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Play an hour of charging on the deployed stack, in simulated time, and watch it.
    Demo {
        /// Minutes that each tick advances.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=30))]
        step: u32,
    },
    /// Invoke one function with its sample payload, or another file.
    Invoke {
        /// The function, e.g. `health_check`.
        function: String,
        /// The payload; `events/FUNCTION.json` unless it is said.
        #[arg(long)]
        data_file: Option<PathBuf>,
    },
    /// Dead letters: what waits, what is in quarantine, and back to its queue with it.
    Dlq {
        #[command(subcommand)]
        what: Dlq,
    },
    /// Sends the ends of sessions to billing and the others again, under the ids they have: for ends that were lost.
    Republish {
        #[command(flatten)]
        options: republish::Options,
    },
    /// Simulated battery-swap stations that report over MQTT, each with a certificate of its own.
    Fleet {
        #[command(flatten)]
        options: fleet::Options,
    },
    /// A stand-in for OpenChargeMap's API with POIs that are nobody's; POST /_control/change and /_control/faults
    /// change its data and let it fail.
    OcmServer {
        /// POIs it has.
        #[arg(long, default_value_t = 2_000)]
        pois: u32,
        /// Port to listen on; 0 chooses a free one.
        #[arg(long, default_value_t = 4580)]
        port: u16,
        /// The API key it takes.
        #[arg(long, default_value = testkit::OcmServer::KEY)]
        key: String,
        /// Of the POIs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measure.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Serve the embedded `DynamoDB` until standard input ends: a process of its own for the benches.
    #[command(hide = true)]
    EmbeddedDynamodb,
    /// Serve an S3 API over a folder until standard input ends: a process of its own for the benches.
    #[command(hide = true)]
    EmbeddedS3,
}

#[derive(Subcommand)]
enum Dlq {
    /// The dead-letter queues with their depths, and the letters in quarantine.
    List {
        #[command(flatten)]
        filter: dlq::Filter,
    },
    /// A letter in quarantine, by its message id or key.
    Show {
        /// What `list` calls it.
        letter: String,
    },
    /// Sends letters in quarantine back to their queues, each once, with a record of who did it.
    Replay {
        #[command(flatten)]
        filter: dlq::Filter,
        #[command(flatten)]
        replay: dlq::ReplayOptions,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The mirror of OpenChargeMap in process, against the embedded `DynamoDB` and a stand-in for the API.
    Mirror {
        /// POIs that are mirrored.
        #[arg(long, default_value_t = 25_000)]
        pois: u32,
    },
    /// Telemetry in process against the embedded `DynamoDB` and a real S3 API, by both paths.
    Telemetry {
        /// Messages measured by each path.
        #[arg(long, default_value_t = 20_000)]
        messages: u32,
        /// Stations that send them.
        #[arg(long, default_value_t = 2_000)]
        stations: u32,
    },
    /// Billing in process against the embedded `DynamoDB`, beside bare transactions of the same shape.
    Billing {
        /// Invoices measured.
        #[arg(long, default_value_t = 5000)]
        invoices: u32,
    },
    /// From the stop of a session to its invoice, on the deployed stack.
    Invoice {
        /// Sessions measured, one after the other.
        #[arg(long, default_value_t = 200)]
        sessions: u32,
    },
    /// Every deployed function with its sample: its first invocation, which is a cold start after `make up`, and the rest.
    Invoke {
        /// Invocations measured of each function after the first.
        #[arg(long, default_value_t = 200)]
        count: u32,
    },
    /// The simulator in process against the embedded `DynamoDB`, beside bare `UpdateItem`s.
    Tick {
        /// Active sessions, one run for each.
        #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
        sessions: Vec<u32>,
        /// Ticks measured in each run.
        #[arg(long, default_value_t = 5)]
        ticks: u32,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { target, command } = Arguments::parse();
    match command {
        Command::Demo { step } => demo::run(&target.open().await?, step).await,
        Command::Invoke { function, data_file } => {
            let file = data_file.unwrap_or_else(|| PathBuf::from(format!("events/{function}.json")));
            target.open().await?.invoke_file(&function, &file).await
        }
        Command::Dlq { what } => {
            let stack = target.open().await?;
            let letters = dlq::DeadLetters::of(&stack)?;
            match what {
                Dlq::List { filter } => letters.list(&filter).await,
                Dlq::Show { letter } => letters.show(&letter).await,
                Dlq::Replay { filter, replay } => letters.replay(&filter, &replay).await,
            }
        }
        Command::Republish { options } => republish::run(&target.open().await?, &options).await,
        Command::Fleet { options } => fleet::run(&target.open().await?, &options).await,
        Command::OcmServer { pois, port, key, seed } => {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
            let server = testkit::OcmServer::serve(listener, pois, seed, &key);
            println!("{}", server.url());
            Ok(tokio::signal::ctrl_c().await?)
        }
        Command::Bench { what: Bench::Mirror { pois } } => bench::mirror(pois).await,
        Command::Bench { what: Bench::Billing { invoices } } => bench::billing(invoices).await,
        Command::Bench { what: Bench::Invoice { sessions } } => {
            bench::invoice_latency(&target.open().await?, sessions).await
        }
        Command::Bench { what: Bench::Telemetry { messages, stations } } => bench::telemetry(messages, stations).await,
        Command::Bench { what: Bench::Tick { sessions, ticks } } => bench::tick(&sessions, ticks).await,
        Command::Bench { what: Bench::Invoke { count } } => bench::invoke(&target.open().await?, count).await,
        Command::EmbeddedDynamodb => bench::serve().await,
        Command::EmbeddedS3 => bench::serve_s3().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_make_sense_together() {
        super::Arguments::command().debug_assert();
    }
}

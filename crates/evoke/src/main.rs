//! `evoke`, the operator's command line.
#![allow(clippy::print_stdout)] // a command line prints its results

mod api;
mod bench;
mod demo;
mod dlq;
mod fleet;
mod graphql;
mod live;
mod republish;
mod stack;
mod story;
mod view;
mod watch;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use stack::Stack;

/// Command line for operators of Evoke, the backend of an EV charging network.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// The deployed stack on which a command works.
#[derive(clap::Args)]
struct Target {
    /// The file with the outputs of the deployed stack, written by `make up`.
    #[arg(long, global = true, env = "EVOKE_OUTPUTS", default_value = ".local/outputs.json")]
    outputs: PathBuf,
    /// The name of a stack on AWS to use instead, with the usual AWS configuration (`AWS_PROFILE` …).
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
    /// Simulate an hour of charging on the deployed stack and show it.
    Demo {
        /// The simulated minutes by which each tick advances.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=30))]
        step: u32,
    },
    /// Show a session or a station live, as a user or as staff.
    Watch {
        #[command(flatten)]
        options: watch::Options,
    },
    /// Invoke one function with its sample payload or another file.
    Invoke {
        /// The name of the function, e.g. `health_check`.
        function: String,
        /// The file with the payload. The default is `events/FUNCTION.json`.
        #[arg(long)]
        data_file: Option<PathBuf>,
    },
    /// List, show and replay dead letters.
    Dlq {
        #[command(subcommand)]
        what: Dlq,
    },
    /// Publish the ends of sessions again, under their original event ids, to recover lost events.
    Republish {
        #[command(flatten)]
        options: republish::Options,
    },
    /// Simulate battery-swap stations that report over MQTT, each with its own certificate.
    Fleet {
        #[command(flatten)]
        options: fleet::Options,
    },
    /// Serve a simulated OpenChargeMap API with generated POIs. POST `/_control/change` changes its data, and POST
    /// `/_control/faults` makes it fail.
    OcmServer {
        /// The number of generated POIs.
        #[arg(long, default_value_t = 2_000)]
        pois: u32,
        /// The port to listen on; 0 chooses a free one.
        #[arg(long, default_value_t = 4580)]
        port: u16,
        /// The API key that the server accepts.
        #[arg(long, default_value = testkit::OcmServer::KEY)]
        key: String,
        /// The seed from which the POIs are generated.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Run benchmarks.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Serve the embedded DynamoDB until standard input ends. The benchmarks run it as a separate process.
    #[command(hide = true)]
    EmbeddedDynamodb,
    /// Serve an S3 API over a folder until standard input ends. The benchmarks run it as a separate process.
    #[command(hide = true)]
    EmbeddedS3,
}

#[derive(Subcommand)]
enum Dlq {
    /// List the dead-letter queues with their depths, and the messages in quarantine.
    List {
        #[command(flatten)]
        filter: dlq::Filter,
    },
    /// Show a message in quarantine.
    Show {
        /// The message id or the key of the message, as `list` shows it.
        letter: String,
    },
    /// Send messages in quarantine back to their queues, each once, and record who did it.
    Replay {
        #[command(flatten)]
        filter: dlq::Filter,
        #[command(flatten)]
        replay: dlq::ReplayOptions,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Measure the OpenChargeMap mirror in process, with the embedded DynamoDB and a simulated API.
    Mirror {
        /// The number of POIs to mirror.
        #[arg(long, default_value_t = 25_000)]
        pois: u32,
    },
    /// Measure telemetry in process by both paths, with the embedded DynamoDB and a real S3 API.
    Telemetry {
        /// The number of messages measured on each path.
        #[arg(long, default_value_t = 20_000)]
        messages: u32,
        /// The number of stations that send the messages.
        #[arg(long, default_value_t = 2_000)]
        stations: u32,
    },
    /// Measure billing in process with the embedded DynamoDB, and compare it with bare transactions of the same shape.
    Billing {
        /// The number of invoices to measure.
        #[arg(long, default_value_t = 5000)]
        invoices: u32,
    },
    /// Measure the time from the stop of a session to its invoice on the deployed stack.
    Invoice {
        /// The number of sessions to measure, one after the other.
        #[arg(long, default_value_t = 200)]
        sessions: u32,
    },
    /// Measure the time from the stop of a session to its update at subscribers on the deployed stack.
    Live {
        /// The number of sessions to measure with each number of subscribers, one after the other.
        #[arg(long, default_value_t = 200)]
        sessions: u32,
        /// The number of subscribers that get every update, besides a measurement with one alone.
        #[arg(long, default_value_t = 500)]
        subscribers: u32,
    },
    /// Measure a sign-in and a request with its token on the deployed stack, and the units of a registration with the
    /// embedded DynamoDB.
    Login {
        /// The number of sign-ins to measure, one after the other.
        #[arg(long, default_value_t = 200)]
        n: u32,
    },
    /// Measure each deployed function with its sample payload: the first invocation, a cold start after `make up`, and
    /// the following ones.
    Invoke {
        /// The number of invocations of each function after the first.
        #[arg(long, default_value_t = 200)]
        count: u32,
    },
    /// Measure the simulator in process with the embedded DynamoDB, and compare it with bare `UpdateItem` calls and a
    /// peer in Python.
    Tick {
        /// The numbers of active sessions, one run for each.
        #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000")]
        sessions: Vec<u32>,
        /// The number of ticks measured in each run.
        #[arg(long, default_value_t = 5)]
        ticks: u32,
        #[command(flatten)]
        peers: bench::Peers,
    },
    /// Measure each packaged function as a process of its own: cold starts, warm invocations and memory, beside a peer
    /// in Python.
    Cold {
        #[command(flatten)]
        options: bench::ColdOptions,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { target, command } = Arguments::parse();
    match command {
        Command::Demo { step } => demo::run(&target.open().await?, step).await,
        Command::Watch { options } => watch::run(&target.open().await?, &options).await,
        Command::Invoke { function, data_file } => {
            let file = data_file.unwrap_or_else(|| stack::sample(&function));
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
        Command::Bench { what: Bench::Live { sessions, subscribers } } => {
            bench::live(&target.open().await?, sessions, subscribers).await
        }
        Command::Bench { what: Bench::Login { n } } => bench::login(&target.open().await?, n).await,
        Command::Bench { what: Bench::Telemetry { messages, stations } } => bench::telemetry(messages, stations).await,
        Command::Bench { what: Bench::Tick { sessions, ticks, peers } } => bench::tick(&sessions, ticks, &peers).await,
        Command::Bench { what: Bench::Cold { options } } => bench::cold(&options).await,
        Command::Bench { what: Bench::Invoke { count } } => bench::invoke(&target.open().await?, count).await,
        Command::EmbeddedDynamodb => bench::serve().await,
        Command::EmbeddedS3 => bench::serve_s3().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn clap_accepts_the_definition_of_the_arguments() {
        super::Arguments::command().debug_assert();
    }
}

//! Functions as processes, each with a Lambda Runtime API of its own.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;
use testkit::RuntimeApi;
use tokio::process::{Child, Command};

use super::peak_mb_of;

/// The maximum time until an answer.
const PATIENCE: Duration = Duration::from_mins(5);
/// The number of lines of a function's log that its error shows.
const SHOWN: usize = 10;

/// The names and values of environment variables.
pub type Variables = Vec<(&'static str, String)>;

/// How a function is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The absolute path of the program.
    pub program: PathBuf,
    /// The arguments of the program.
    pub arguments: Vec<String>,
    /// The folder in which the program runs.
    pub folder: PathBuf,
    /// The environment, in addition to what Lambda sets.
    pub environment: Variables,
}

/// A running function. Lambda calls this an execution environment.
pub struct Running {
    runtime: RuntimeApi,
    process: Child,
    log: File,
    answered: usize,
}

impl Running {
    /// Starts a function.
    pub async fn start(launch: &Launch) -> Result<Self> {
        Self::spawn(launch, RuntimeApi::start().await)
    }

    /// Starts a function that is invoked at once. Returns the time from the start of its process to its answer, ms.
    pub async fn start_cold(launch: &Launch, payload: &Value) -> Result<(Self, f64)> {
        let runtime = RuntimeApi::start().await;
        runtime.push(payload.to_string());
        let watch = Instant::now();
        let mut running = Self::spawn(launch, runtime)?;
        running.answer().await?;
        Ok((running, watch.elapsed().as_secs_f64() * 1000.0))
    }

    fn spawn(launch: &Launch, runtime: RuntimeApi) -> Result<Self> {
        let log = tempfile::tempfile()?;
        let environment: Vec<(&str, &str)> =
            launch.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut command = runtime.command(&launch.program, &environment);
        command.args(&launch.arguments).current_dir(&launch.folder).stdout(log.try_clone()?).stderr(log.try_clone()?);
        let process = Command::from(command).kill_on_drop(true).spawn();
        let process = process.with_context(|| format!("{} cannot be started", launch.program.display()))?;
        Ok(Self { runtime, process, log, answered: 0 })
    }

    /// Invokes the function. Returns the answer and the time until it came, ms.
    pub async fn invoke(&mut self, payload: &Value) -> Result<(Value, f64)> {
        let payload = payload.to_string();
        let watch = Instant::now();
        self.runtime.push(payload);
        let answer = self.answer().await?;
        Ok((answer, watch.elapsed().as_secs_f64() * 1000.0))
    }

    /// Waits for the next answer.
    async fn answer(&mut self) -> Result<Value> {
        let answer = tokio::select! {
            biased;
            answer = self.runtime.answered(self.answered) => answer,
            ended = self.process.wait() => {
                let ended = ended?;
                bail!("the function ended with {ended}:\n{}", self.last_lines());
            }
            () = tokio::time::sleep(PATIENCE) => bail!("no answer within {PATIENCE:?}:\n{}", self.last_lines()),
        };
        self.answered += 1;
        let answer = answer.map_err(|error| anyhow!("the function failed: {error}"))?;
        let failures = answer["batchItemFailures"].as_array();
        ensure!(failures.is_none_or(Vec::is_empty), "messages failed: {answer}\n{}", self.last_lines());
        Ok(answer)
    }

    /// Returns the last lines of the function's log. They say why it failed.
    fn last_lines(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Err(error) = self.log.rewind().and_then(|()| self.log.read_to_end(&mut bytes)) {
            return format!("its log cannot be read: {error}");
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// Returns the peak memory of the process until now, MB.
    pub fn peak_mb(&self) -> Result<f64> {
        peak_mb_of(self.process.id().context("the function has ended")?)
    }

    /// Ends the process.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

//! The peers of the functions: the same work in Python with boto3, run by AWS's runtime interface client.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use tokio::process::Command;

use super::process::{Launch, Running, Variables};

/// The variables with the names of tables, and the names without their prefix.
const TABLES: [(&str, &str); 7] = [
    ("STATIONS_TABLE", "stations"),
    ("SESSIONS_TABLE", "sessions"),
    ("USERS_TABLE", "users"),
    ("ERROR_LOGS_TABLE", "error-logs"),
    ("BILLING_TABLE", "billing"),
    ("TELEMETRY_TABLE", "telemetry"),
    ("POIS_TABLE", "ocm-pois"),
];
/// Prints the interpreter and the versions, one a line. Fails if a package is missing.
const PROBE: &str = "import platform, sys, awslambdaric, boto3\n\
    print(sys.executable, platform.python_version(), boto3.__version__, awslambdaric.__version__, sep='\\n')";

/// Where the peers are, and whether they run.
#[derive(Args)]
pub struct Peers {
    /// The folder with the peers in Python.
    #[arg(long = "peers", default_value = "bench/python")]
    folder: PathBuf,
    /// Measure without the peers in Python.
    #[arg(long)]
    alone: bool,
}

/// An interpreter with the packages of the peers.
pub struct Python {
    program: PathBuf,
    folder: PathBuf,
    /// The versions of Python, boto3 and the runtime interface client.
    pub versions: String,
}

impl Python {
    /// Finds the interpreter: that of `.venv`, or else `python3`. Returns `None` if no peers are wanted.
    pub async fn find(peers: &Peers) -> Result<Option<Self>> {
        if peers.alone {
            return Ok(None);
        }
        let own = Path::new(".venv/bin/python");
        let program = if own.exists() { own } else { Path::new("python3") };
        let probe = Command::new(program).args(["-c", PROBE]).output().await;
        let Some(probe) = probe.ok().filter(|probe| probe.status.success()) else {
            let (program, requirements) = (program.display(), peers.folder.join("requirements.txt"));
            bail!(
                "the peers in Python need packages: {program} -m pip install -r {} (or measure without: --alone)",
                requirements.display()
            );
        };
        let probe = String::from_utf8_lossy(&probe.stdout).into_owned();
        let lines: Vec<&str> = probe.lines().collect();
        let [program, python, boto3, client] = lines[..] else { bail!("{probe:?} are no versions") };
        Ok(Some(Self {
            program: PathBuf::from(program),
            folder: std::path::absolute(&peers.folder)?,
            versions: format!("Python {python}, boto3 {boto3}, awslambdaric {client}"),
        }))
    }

    /// Returns whether there is a peer with this name.
    pub fn has(&self, peer: &str) -> bool {
        self.folder.join(format!("{peer}.py")).exists()
    }

    /// Returns how a peer is started.
    pub fn launch(&self, peer: &str, environment: Variables) -> Launch {
        let arguments = ["-m".to_owned(), "awslambdaric".to_owned(), format!("{peer}.handler")];
        Launch { program: self.program.clone(), arguments: arguments.into(), folder: self.folder.clone(), environment }
    }

    /// Creates the tables of a peer and fills them, as `request` says.
    pub async fn prepare(&self, request: &Value, environment: Variables) -> Result<()> {
        let mut world = Running::start(&self.launch("world", environment)).await?;
        world.invoke(request).await.context("the tables of the peer were not filled")?;
        world.stop().await
    }
}

/// Returns the variables with the names of the tables that have this prefix.
pub fn tables(prefix: &str) -> Variables {
    TABLES.iter().map(|(variable, name)| (*variable, format!("{prefix}-{name}"))).collect()
}

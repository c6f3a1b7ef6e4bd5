#!/usr/bin/env python3
"""The local cloud: MiniStack with the application, deployed by `sam deploy` from the unchanged template.

    local_cloud.py up    start the cloud unless it is running, deploy changes, write outputs.json
    local_cloud.py down  stop the cloud

All its files are in one folder (`--state`, default .local): outputs.json, logs/, and the data of MiniStack.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "infrastructure" / "template.yaml"
REGION = "eu-central-1"
START_SECONDS = 60
STOP_SECONDS = 15


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--state", type=Path, default=ROOT / ".local", help="folder for all files of the cloud")
    parser.add_argument("--port", type=int, default=4566, help="port to listen on; 0 chooses a free one")
    parser.add_argument("--parameters", default="", help="further parameters of the template: Name=value Name=value")
    args = parser.parse_args()
    cloud = Cloud(args.state.resolve(), args.port, args.parameters)
    cloud.up() if args.command == "up" else cloud.down()


def fail(message):
    sys.exit(f"local cloud: {message}")


class Cloud:
    def __init__(self, state, port, parameters=""):
        self.state = state
        self.logs = state / "logs"
        self.process_file = state / "process.json"
        self.outputs_file = state / "outputs.json"
        self.port = port
        self.mqtt_port = None
        self.ocm_port = None
        self.more_parameters = parameters
        running = self.running()
        if running:
            self.port, self.mqtt_port, self.ocm_port = running["port"], running["mqttPort"], running.get("ocmPort")

    @property
    def endpoint(self):
        # An IP address makes S3 clients put the bucket into the path; names below localhost may not resolve.
        return f"http://127.0.0.1:{self.port}"

    @property
    def ocm_url(self):
        """The URL of the simulated OpenChargeMap API. The local cloud never calls the real one."""
        return f"http://127.0.0.1:{self.ocm_port}"

    @property
    def parameters(self):
        own = f"Environment=dev Architecture={_architecture()} OcmBaseUrl={self.ocm_url}"
        return f"{own} {self.more_parameters}".strip()

    def environment(self):
        """Returns the environment for the tools and MiniStack. It contains only the variables of the caller that they
        need, so that a function whose template lacks a variable fails here as it would on AWS."""
        keep = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
        return {name: os.environ[name] for name in keep if name in os.environ} | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAM_CLI_TELEMETRY": "0",
        }

    def running(self):
        """Returns the processes of this folder, or None if its MiniStack is not running."""
        known = self.known()
        return known if known and _runs(known["pid"], b"ministack") else None

    def known(self):
        """Returns the processes that were last started from this folder, whether they are still running or not."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.process_file.read_text())
        return None

    def up(self):
        self.logs.mkdir(parents=True, exist_ok=True)
        if not self.running():
            self.stop()
            self.start()
        elif not self.ocm_port:
            fail("an earlier version of this project started the cloud: run `make down` first")
        self.wait_until_ready()
        self.deploy()

    def start(self):
        self.outputs_file.unlink(missing_ok=True)
        (self.state / "deployed").unlink(missing_ok=True)
        if self.port == 0:
            self.port = _free_port()
        elif _in_use(self.port):
            fail(f"port {self.port} is taken by another process: stop it, or choose another with PORT=…")
        self.mqtt_port = _free_port()
        environment = self.environment() | {
            "AUTH": "true",  # enforce IAM, so that the policies in the template are tested
            "LAMBDA_EXECUTOR": "local",
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "IOT_MTLS_PORT": str(self.mqtt_port),
            "S3_DATA_DIR": str(self.state / "s3"),
        }
        log = (self.logs / "ministack.log").open("ab")
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "ministack")],
            env=environment,
            cwd=self.state,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.ocm_port = _free_port()
        with (self.logs / "ocm-server.log").open("ab") as log:
            ocm = subprocess.Popen(
                [str(ROOT / "target" / "evoke"), "ocm-server", "--port", str(self.ocm_port)],
                cwd=self.state, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        self.process_file.write_text(
            json.dumps(
                {
                    "pid": process.pid, "port": self.port, "mqttPort": self.mqtt_port,
                    "ocmPid": ocm.pid, "ocmPort": self.ocm_port,
                }
            )
        )
        print(f"local cloud: MiniStack at {self.endpoint} (log: {_short(self.logs / 'ministack.log')})", flush=True)

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"{self.endpoint}/_ministack/ready", timeout=2) as answer:
                    if answer.status == 200 and _in_use(self.ocm_port):
                        return
            if not self.running():
                fail(f"MiniStack stopped while starting: see {_short(self.logs / 'ministack.log')}")
            time.sleep(0.05)
        fail(f"MiniStack was not ready within {START_SECONDS} s: see {_short(self.logs / 'ministack.log')}")

    def deploy(self):
        fingerprint = _fingerprint(self.parameters)
        stamp = self.state / "deployed"
        if stamp.exists() and stamp.read_text() == fingerprint and self.outputs_file.exists():
            print("local cloud: up to date", flush=True)
            return
        log_path = self.logs / "deploy.log"
        print(f"local cloud: sam deploy (log: {_short(log_path)})", flush=True)
        began = time.monotonic()
        with log_path.open("wb") as log:
            deployed = subprocess.run(
                [
                    str(Path(sys.executable).parent / "sam"), "deploy",
                    "--template-file", str(TEMPLATE),
                    "--config-file", str(ROOT / "infrastructure" / "samconfig.toml"),
                    "--parameter-overrides", self.parameters,
                ],
                env=self.environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
            )
        if deployed.returncode != 0:
            tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
            fail(f"sam deploy failed: see {_short(log_path)}\n{tail}")
        outputs = self.read_outputs()
        self.complete(outputs)
        self.outputs_file.write_text(json.dumps(outputs, indent=2) + "\n")
        stamp.write_text(fingerprint)
        print(f"local cloud: deployed in {time.monotonic() - began:.0f} s", flush=True)

    def client(self, service):
        import boto3

        environment = self.environment()
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )

    def read_outputs(self):
        stack = self.client("cloudformation").describe_stacks(StackName="evoke")["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        outputs["endpoint"] = self.endpoint
        outputs["region"] = REGION
        outputs["stackName"] = "evoke"
        # API Gateway's host name does not resolve locally; MiniStack serves the same API under this name.
        outputs["HttpApiUrl"] = f"http://{outputs['HttpApiId']}.execute-api.localhost:{self.port}"
        # Devices need the local address and root certificate of IoT Core. On AWS they request the endpoint, and the
        # root certificates of the system suffice.
        ca = self.state / "iot-ca.pem"
        with urllib.request.urlopen(f"{self.endpoint}/_ministack/iot/ca.pem", timeout=10) as answer:
            ca.write_bytes(answer.read())
        outputs |= {"iotHost": "127.0.0.1", "iotPort": str(self.mqtt_port), "iotCaFile": str(ca)}
        outputs["ocmUrl"] = self.ocm_url
        return outputs

    def complete(self, outputs):
        """Sets what MiniStack's CloudFormation ignores in the template although MiniStack's API supports it.

        Also removes the bucket policies: they deny HTTP, and the local cloud supports nothing else.
        """
        for key in ("QuarantineBucket", "TelemetryBucket"):
            self.client("s3").delete_bucket_policy(Bucket=outputs[key])
        dynamodb = self.client("dynamodb")
        lives = (("TelemetryTable", "expires_at"), ("ErrorLogsTable", "expiresAt"), ("BillingTable", "expiresAt"))
        for key, attribute in lives:
            dynamodb.update_time_to_live(
                TableName=outputs[key],
                TimeToLiveSpecification={"AttributeName": attribute, "Enabled": True},
            )
        for key in ("StationsTable", "SessionsTable", "UsersTable", "ErrorLogsTable", "BillingTable", "TelemetryTable", "PoisTable"):
            dynamodb.update_continuous_backups(
                TableName=outputs[key], PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )

        # CloudFormation cannot create SecureString parameters, so on AWS an operator stores the key.
        self.client("ssm").put_parameter(
            Name=outputs["OcmApiKeyParameterName"], Value="ocm-test-key", Type="SecureString", Overwrite=True
        )

    def down(self):
        if self.stop():
            print("local cloud: stopped", flush=True)
        else:
            print("local cloud: was not running", flush=True)
        for path in (self.process_file, self.outputs_file, self.state / "deployed"):
            path.unlink(missing_ok=True)


    def stop(self):
        """Stops MiniStack and the simulated OpenChargeMap API. Returns whether any of them was running."""
        known = self.known() or {}
        started = ((known.get("pid"), b"ministack"), (known.get("ocmPid"), b"ocm-server"))
        running = [pid for pid, name in started if pid and _runs(pid, name)]
        for pid in running:
            _stop(pid)
        return bool(running)


def _runs(pid, name):
    """Returns whether the process is still running, and its id has not been reused by another program."""
    command = Path(f"/proc/{pid}/cmdline")
    if not command.parent.parent.exists():
        return _alive(pid)
    with contextlib.suppress(OSError):
        return name in command.read_bytes()
    return False


def _alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _stop(pid):
    """Stops the process and the functions that it started, which belong to its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _in_use(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _architecture():
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def _fingerprint(parameters):
    """Returns a fingerprint of everything that a deployment deploys."""
    digest = hashlib.sha256(parameters.encode())
    functions = sorted(folder.name for folder in (ROOT / "crates" / "functions").iterdir())
    binaries = [ROOT / "target" / "lambda" / function / "bootstrap" for function in functions]
    if not all(binary.exists() for binary in binaries):
        fail("the functions are not built: run `make build`")
    for path in [TEMPLATE, Path(__file__), *binaries]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _short(path):
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


if __name__ == "__main__":
    main()

"""The files for users of the local cloud: outputs.json for programs, and env for a shell."""

import json
import shlex
import urllib.request
from typing import Any

from local_cloud import environment
from local_cloud.cloud import Cloud
from local_cloud.paths import TOOLS, State
from local_cloud.stack import Stack

# Variables of the caller's shell that would point a tool at another cloud.
UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "EVOKE_STACK",
)
# Runs the AWS CLI that is next in PATH.
AWS = """\
#!/bin/sh
# AWS CLI 1 ignores AWS_ENDPOINT_URL for the commands of sqs, but not the option.
PATH=$(printf %s "$PATH" | tr : '\\n' | grep -vxF "$(dirname "$0")" | paste -s -d : -)
exec aws ${AWS_ENDPOINT_URL:+"--endpoint-url=$AWS_ENDPOINT_URL"} "$@"
"""


def write(state: State, cloud: Cloud, main: Stack, graphql: Stack) -> None:
    """Writes outputs.json, and the root certificate of the local IoT Core beside it."""
    with urllib.request.urlopen(f"{cloud.endpoint}/_ministack/iot/ca.pem", timeout=10) as answer:
        state.certificate.write_bytes(answer.read())
    content = compose(state, cloud, main, graphql)
    state.outputs.write_text(json.dumps(content, indent=2) + "\n")


def compose(state: State, cloud: Cloud, main: Stack, graphql: Stack) -> dict[str, Any]:
    """Returns the outputs of both stacks by key, with the addresses of the local cloud."""
    api = main.outputs["HttpApiId"]
    # MiniStack serves the hosted sign-in pages itself, and not under the host name that they have on AWS.
    pages = {"SignInUrl": cloud.endpoint} if "SignInUrl" in main.outputs else {}
    return {
        **main.outputs,
        **pages,
        **graphql.outputs,
        "GraphqlApiKey": graphql.outputs["ApiKey"],
        "endpoint": cloud.endpoint,
        "region": environment.REGION,
        "stackName": main.name,
        "graphqlStackName": graphql.name,
        # API Gateway's host name does not resolve locally; MiniStack serves the same API under this name.
        "HttpApiUrl": f"http://{api}.execute-api.localhost:{cloud.port}",
        # Devices need the local address and root certificate of IoT Core. On AWS they request the endpoint, and the
        # root certificates of the system suffice.
        "iotHost": "127.0.0.1",
        "iotPort": str(cloud.mqtt_port),
        "iotCaFile": str(state.certificate),
        "ocmUrl": cloud.ocm_url,
        # Any client on this machine can use these URLs as they are. A path after the id of the HTTP API is a path in its
        # stage $default.
        "urls": {
            "http": f"{cloud.endpoint}/_aws/execute-api/{api}",
            "graphql": graphql.outputs["GraphqlUrl"],
            "realtime": graphql.outputs["RealtimeUrl"],
        },
    }


def write_env(state: State, cloud: Cloud) -> None:
    """Writes env, and the tools that env puts first in PATH."""
    state.tools.mkdir(exist_ok=True)
    wrapper = state.tools / "aws"
    wrapper.write_text(AWS)
    wrapper.chmod(0o755)
    state.env.write_text(env(state, cloud))


def env(state: State, cloud: Cloud) -> str:
    """Returns commands for any POSIX shell that point all AWS tools and `evoke` at the local cloud."""
    variables = environment.aws(cloud.endpoint) | {"EVOKE_OUTPUTS": str(state.outputs)}
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    first = f"{state.tools}:{TOOLS}"
    return f"""\
# Points AWS tools in this shell at the local cloud. `make up` writes this file: `. .local/env`
unset {" ".join(UNSET)}
{exports}
case ":$PATH:" in
  *:{shlex.quote(first)}:*) ;;
  *) export PATH={shlex.quote(first)}:"$PATH" ;;
esac
"""

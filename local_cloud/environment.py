"""The environment variables that point AWS tools at the local cloud, and the clean environment of the cloud."""

import os
from collections.abc import Mapping
from typing import Any

import boto3

REGION = "eu-central-1"
# The variables of the caller that the tools need.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")


def aws(endpoint: str) -> dict[str, str]:
    """Returns the variables with which AWS tools and SDKs use the local cloud. MiniStack accepts any credentials."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
    }


def clean(caller: Mapping[str, str]) -> dict[str, str]:
    """Returns only those variables of the caller that the tools need.

    MiniStack passes its environment on to the functions. A function whose template lacks a variable must fail here as
    it would on AWS. Settings for another cloud, such as AWS_PROFILE, must not reach the tools either.
    """
    return {name: caller[name] for name in KEPT if name in caller}


def isolate() -> None:
    """Reduces the environment of this process to the clean one, because boto3 reads it, too."""
    kept = clean(os.environ)
    os.environ.clear()
    os.environ.update(kept)


def client(service: str, endpoint: str) -> Any:
    """Returns a client of boto3 for the local cloud."""
    variables = aws(endpoint)
    session = boto3.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )
    return session.client(service, endpoint_url=endpoint)  # type: ignore[call-overload]

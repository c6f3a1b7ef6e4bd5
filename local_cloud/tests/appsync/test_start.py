"""What MiniStack does at its start if the extensions do not fit it."""

import subprocess
import sys

import pytest

from local_cloud.paths import ROOT

# Replaces a name of MiniStack before it is extended.
PROGRAM = """
import importlib, sys
module, _, name = sys.argv[1].rpartition(".")
delattr(importlib.import_module(module), name)
sys.path.append(sys.argv[2])
from local_cloud import appsync
appsync.install()
"""


@pytest.mark.parametrize(
    "name",
    [
        "ministack.services.appsync._execute_with_schema",
        "ministack.services.appsync._unauthorized_field",
        "ministack.services.cognito._signature_valid",
        "ministack.core.appsync_graphql._as_appsync_errors",
        "ministack.core.appsync_js._WORKER_SCRIPT",
        "ministack.app.app",
    ],
)
def test_a_name_that_ministack_lacks_ends_the_program(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, name, ROOT], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 1
    assert name.rpartition(".")[2] in done.stderr.splitlines()[-1]


def test_a_ministack_that_has_all_names_is_extended() -> None:
    program = "import sys; sys.path.append(sys.argv[1]); from local_cloud import appsync; appsync.install()"
    subprocess.run([sys.executable, "-I", "-c", program, ROOT], check=True)

"""What is deployed: the functions in release mode, and the templates that deploy them.

A package is a folder with the layout of the project. It contains unchanged copies of the templates, whose relative
paths lead to the functions of the package. Local builds are in another folder, so they are never deployed to AWS.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cfnlint.decode  # type: ignore[import-untyped]
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]

from deployment.failure import Failure

ROOT = Path(__file__).resolve().parent.parent
INFRASTRUCTURE = ROOT / "infrastructure"
# The machine of an ELF file (e_machine).
MACHINES = {"x86_64": 62, "arm64": 183}
# Files that `sam deploy` does not need, and that may be large.
NOT_COPIED = ("terraform", ".terraform", ".aws-sam", "node_modules")


@dataclass(frozen=True)
class Package:
    """The package for one architecture, which `make package` fills."""

    architecture: str
    root: Path = ROOT

    @property
    def folder(self) -> Path:
        return self.root / "target" / "package" / self.architecture

    @property
    def template(self) -> Path:
        return self.folder / "infrastructure" / "template.yaml"

    @property
    def graphql_template(self) -> Path:
        return self.folder / "infrastructure" / "graphql" / "template.yaml"

    @property
    def config(self) -> Path:
        return self.folder / "infrastructure" / "samconfig.toml"

    def binary(self, function: str) -> Path:
        return self.folder / "target" / "lambda" / function / "bootstrap"

    def complete(self) -> None:
        """Checks the functions, and copies the folder `infrastructure` into the package."""
        functions = sorted(folder.name for folder in (self.root / "crates" / "functions").iterdir() if folder.is_dir())
        for function in functions:
            self.check(self.binary(function))
        shutil.rmtree(self.template.parent, ignore_errors=True)
        infrastructure = self.root / "infrastructure"
        shutil.copytree(infrastructure, self.template.parent, ignore=shutil.ignore_patterns(*NOT_COPIED))

    def check(self, binary: Path) -> None:
        """Checks that a binary runs on this architecture."""
        name, again = binary.relative_to(self.root), f"run `make package ARCH={self.architecture}`"
        if not binary.exists():
            raise Failure(f"{name} is missing: {again}")
        with binary.open("rb") as file:
            number = machine(file.read(20))
        if number is None:
            raise Failure(f"{name} is no 64-bit program for Linux (ELF): {again}")
        if number != MACHINES[self.architecture]:
            built_for = {value: key for key, value in MACHINES.items()}.get(number, f"machine {number}")
            raise Failure(f"{name} is built for {built_for}, not for {self.architecture}: {again}")


def machine(header: bytes) -> int | None:
    """Returns the machine that a program is built for, or None if this is not the header of a 64-bit ELF file."""
    is_elf, is_64_bit, is_little_endian = header[:4] == b"\x7fELF", header[4:5] == b"\x02", header[5:6] == b"\x01"
    if not (is_elf and is_64_bit and is_little_endian and len(header) >= 20):
        return None
    return int.from_bytes(header[18:20], "little")


def read_template(template: Path) -> dict[str, Any]:
    """Returns the content of the template."""
    if not template.exists():
        raise Failure(f"{template.relative_to(ROOT)} is missing: run `make build`, which assembles it")
    content, problems = cfnlint.decode.decode(str(template))
    if problems or not content:
        raise Failure(f"{template.relative_to(ROOT)} cannot be read: {problems}")
    result: dict[str, Any] = content
    return result


def missing_types(template: Mapping[str, Any], region: str) -> list[str]:
    """Returns the types of resources that do not exist in a region, as far as cfn-lint knows."""
    known = set(PROVIDER_SCHEMA_MANAGER.get_resource_types(region))
    # SAM makes resources of other types of these.
    return sorted(each for each in types(template["Resources"]) - known if not each.startswith("AWS::Serverless::"))


def types(part: Any) -> set[str]:
    """Returns the types of the resources in a part of a template, also of those in loops."""
    if isinstance(part, list):
        return set().union(*map(types, part))
    if not isinstance(part, Mapping):
        return set()
    if isinstance(kind := part.get("Type"), str) and kind.startswith("AWS::"):
        return {kind}
    return set().union(*map(types, part.values()))


def retained_buckets(template: Mapping[str, Any], environment: str, account: str, region: str) -> list[str]:
    """Returns the names of the buckets that remain when the stack is deleted."""
    values = {"Environment": environment, "AWS::AccountId": account, "AWS::Region": region}
    names = []
    for resource in template["Resources"].values():
        if not (isinstance(resource, Mapping) and resource.get("Type") == "AWS::S3::Bucket"):
            continue
        name = resource.get("Properties", {}).get("BucketName")
        if str(resource.get("DeletionPolicy")).startswith("Retain") and isinstance(name, Mapping):
            names.append(re.sub(r"\${([^}]*)}", lambda match: values.get(match[1], match[0]), name["Fn::Sub"]))
    return names

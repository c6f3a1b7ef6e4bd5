from pathlib import Path

import pytest

from deployment import package
from deployment.failure import Failure
from deployment.package import Package

LITTLE_ENDIAN_64_BIT = b"\x7fELF\x02\x01\x01" + bytes(9)
PROGRAM = b"\x03\x00"
X86_64 = LITTLE_ENDIAN_64_BIT + PROGRAM + b"\x3e\x00"
ARM64 = LITTLE_ENDIAN_64_BIT + PROGRAM + b"\xb7\x00"
RISC_V = LITTLE_ENDIAN_64_BIT + PROGRAM + b"\xf3\x00"
ARM_32_BIT = b"\x7fELF\x01\x01\x01" + bytes(9) + PROGRAM + b"\x28\x00"
MACOS = b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01" + bytes(12)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    graphql = "infrastructure/graphql/node_modules"
    for folder in ("crates/functions/billing", "infrastructure/terraform/.terraform", "infrastructure/contexts", graphql):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "infrastructure" / "template.yaml").write_text("CodeUri: ../target/lambda/billing/\n")
    (tmp_path / "infrastructure" / "graphql" / "template.yaml").write_text("CodeUri: ../../target/lambda/billing/\n")
    (tmp_path / "infrastructure" / "samconfig.toml").write_text("version = 0.1\n")
    (tmp_path / "infrastructure" / "contexts" / "billing.yaml").write_text("")
    return tmp_path


def build(project: Path, folder: str, header: bytes) -> None:
    binary = project / folder / "target" / "lambda" / "billing" / "bootstrap"
    binary.parent.mkdir(parents=True, exist_ok=True)
    binary.write_bytes(header)


def test_the_machine_of_a_program_is_in_its_header() -> None:
    assert [package.machine(header) for header in (X86_64, ARM64, RISC_V)] == [62, 183, 243]
    assert [package.machine(header) for header in (ARM_32_BIT, MACOS, b"#!/bin/sh\n", b"", X86_64[:19])] == [None] * 5


def test_a_package_has_the_template_as_it_is_and_its_paths_lead_to_the_functions(project: Path) -> None:
    build(project, "target/package/arm64", ARM64)
    built = Package("arm64", project)
    built.complete()
    for template, file in ((built.template, "template.yaml"), (built.graphql_template, "graphql/template.yaml")):
        assert template.read_bytes() == (project / "infrastructure" / file).read_bytes()
        code = template.parent / template.read_text().split()[1]
        assert (code / "bootstrap").resolve() == built.binary("billing")
    assert built.config.exists()
    for folder in ("terraform", "graphql/node_modules"):
        assert not (built.template.parent / folder).exists()


def test_a_package_follows_the_template(project: Path) -> None:
    build(project, "target/package/arm64", ARM64)
    built = Package("arm64", project)
    built.complete()
    (project / "infrastructure" / "contexts" / "billing.yaml").rename(project / "infrastructure" / "money.yaml")
    built.complete()
    assert not (built.template.parent / "contexts" / "billing.yaml").exists()
    assert (built.template.parent / "money.yaml").exists()


def test_a_local_build_is_not_deployed(project: Path) -> None:
    build(project, ".", X86_64)
    with pytest.raises(
        Failure, match=r"package/x86_64/.*/billing/bootstrap is missing: run `make package ARCH=x86_64`"
    ):
        Package("x86_64", project).complete()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (X86_64, "billing/bootstrap is built for x86_64, not for arm64: run `make package ARCH=arm64`"),
        (RISC_V, "is built for machine 243, not for arm64"),
        (MACOS, r"is no 64-bit program for Linux \(ELF\): run `make package ARCH=arm64`"),
    ],
)
def test_a_function_for_another_machine_is_not_deployed(project: Path, header: bytes, message: str) -> None:
    build(project, "target/package/arm64", header)
    with pytest.raises(Failure, match=message):
        Package("arm64", project).complete()


def test_the_buckets_that_outlive_a_stack_are_known_by_name(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    file.write_text("""\
Resources:
  Archive:
    Type: AWS::S3::Bucket
    DeletionPolicy: RetainExceptOnCreate
    Properties: { BucketName: !Sub "ev-archive-${Environment}-${AWS::AccountId}-${AWS::Region}" }
  Scratch:
    Type: AWS::S3::Bucket
    Properties: { BucketName: !Sub "ev-scratch-${Environment}" }
  Unnamed: { Type: AWS::S3::Bucket, DeletionPolicy: Retain }
  Fn::ForEach::Queues: [Name, [A], { "${Name}Queue": { Type: AWS::SQS::Queue } }]
""")
    names = package.retained_buckets(package.read_template(file), "qa", "123456789012", "eu-west-1")
    assert names == ["ev-archive-qa-123456789012-eu-west-1"]


def test_the_types_that_a_region_does_not_have_are_known() -> None:
    budget, queue = {"Type": "AWS::Budgets::Budget"}, {"Type": "AWS::SQS::Queue"}
    loop = ["Name", ["A"], {"${Name}Template": {"Type": "AWS::IoT::ProvisioningTemplate"}}]
    function = {"Type": "AWS::Serverless::Function", "Properties": {"Type": "AWS::Nothing::Else"}}
    template = {"Resources": {"B": budget, "Q": queue, "F": function, "Fn::ForEach::Templates": loop}}
    assert package.missing_types(template, "eu-central-1") == []
    assert package.missing_types(template, "mx-central-1") == ["AWS::Budgets::Budget", "AWS::IoT::ProvisioningTemplate"]


@pytest.mark.parametrize("template", ["template.yaml", "graphql/template.yaml"])
def test_the_templates_can_be_deployed_to_the_region_of_the_examples(template: str) -> None:
    assert package.missing_types(package.read_template(package.INFRASTRUCTURE / template), "eu-central-1") == []


def test_a_template_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "ROOT", tmp_path)
    file = tmp_path / "template.yaml"
    with pytest.raises(Failure, match=r"template\.yaml is missing: run `make build`"):
        package.read_template(file)
    file.write_text("Resources: [\n")
    with pytest.raises(Failure, match=r"template\.yaml cannot be read"):
        package.read_template(file)

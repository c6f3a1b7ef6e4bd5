"""Deploys an environment to AWS, or to the cloud that AWS_ENDPOINT_URL names.

Shows the account, the region, the stacks and the parameters, and asks for confirmation before it changes anything.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from deployment import graphql, stacks
from deployment import plan as plans
from deployment.failure import Failure
from deployment.package import MACHINES, ROOT, Package
from deployment.plan import Plan
from deployment.stacks import Stack, Step

# The tools that requirements.txt installs are beside the interpreter.
SAM = Path(sys.executable).parent / "sam"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deployment", description=__doc__)
    parser.add_argument("environment", help="dev, prod, or another name of 2 to 10 lowercase letters and digits")
    parser.add_argument("--architecture", choices=sorted(MACHINES), default="arm64")
    parser.add_argument("--parameters", default="", help="parameters of the template: Name=value Name='two words'")
    parser.add_argument("--yes", action="store_true", help="agree in advance, e.g. in a workflow")
    parser.add_argument("--no-build", action="store_true", help="deploy what `make package` has built")
    arguments = parser.parse_args()
    try:
        plan = plans.make(arguments.environment, arguments.architecture, arguments.parameters)
        plans.show(plan)
        if not (arguments.yes or agreed()):
            raise Failure("nothing was changed")
        if not arguments.no_build:
            build(plan.package)
        deploy(plan, ask=not arguments.yes)
    except Failure as failure:
        sys.exit(f"deploy: {failure}")
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"deploy: {error}")
    except KeyboardInterrupt:
        sys.exit("deploy: interrupted. CloudFormation finishes a change that it has begun")


def agreed() -> bool:
    try:
        return input("Deploy? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        raise Failure("nobody answered, and nothing was changed: YES=1 agrees in advance") from None


def build(package: Package) -> None:
    done = subprocess.run(["make", "--no-print-directory", "package", f"ARCH={package.architecture}"], cwd=ROOT)
    if done.returncode != 0:
        raise Failure("the functions cannot be built, see above. Nothing was changed")


def deploy(plan: Plan, *, ask: bool) -> None:
    """Deploys the main stack, and then the stack of the GraphQL API, which takes parameters from the main stack."""
    plan.package.complete()
    deploy_stack(plan, plan.stack, plan.step, plan.package.template, plan.parameters, ask=ask)
    main = stacks.find(plan.session.client("cloudformation"), plan.stack.name)
    values = graphql.compose(plan.effective, main, plan.graphql.parameters)
    stack, step = plan.graphql.stack, plan.graphql.step
    deploy_stack(plan, stack, step, plan.package.graphql_template, values, ask=ask)


def deploy_stack(
    plan: Plan, stack: Stack, step: Step, template: Path, parameters: dict[str, str], *, ask: bool
) -> None:
    if step is Step.REPEAT_CREATION:
        stacks.delete_failed_creation(plan.session.client("cloudformation"), stack.name)
    with tempfile.TemporaryDirectory() as folder:
        # In a file, a value needs no quotes. JSON is YAML too.
        overrides = Path(folder) / "parameters.yaml"
        overrides.write_text(json.dumps(parameters))
        done = subprocess.run(sam_command(plan, stack, template, overrides, ask=ask), cwd=ROOT)
    if done.returncode != 0:
        raise Failure(
            f"sam deploy of {stack.name} failed, see above. A stack whose update failed is as it was before. If the first"
            f" creation failed, repeat `{plan.command()}`, which deletes what is left of it"
        )


def sam_command(plan: Plan, stack: Stack, template: Path, overrides: Path, *, ask: bool) -> list[str]:
    return [
        str(SAM), "deploy",
        "--template-file", str(template),
        "--config-file", str(plan.package.config),
        "--config-env", plan.section,
        "--stack-name", stack.name,
        "--region", str(plan.session.region_name),
        "--parameter-overrides", f"file://{overrides}",
        "--confirm-changeset" if ask else "--no-confirm-changeset",
    ]  # fmt: skip


if __name__ == "__main__":
    main()

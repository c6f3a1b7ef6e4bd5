"""What a stack of the local cloud has: its parameters and outputs."""

from dataclasses import dataclass

from local_cloud import environment


@dataclass(frozen=True)
class Stack:
    """A deployed stack. Parameters and outputs are by their keys."""

    name: str
    parameters: dict[str, str]
    outputs: dict[str, str]

    @classmethod
    def read(cls, endpoint: str, name: str) -> "Stack":
        described = environment.client("cloudformation", endpoint).describe_stacks(StackName=name)["Stacks"][0]
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in described.get("Parameters", [])}
        outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
        return cls(name, parameters, outputs)

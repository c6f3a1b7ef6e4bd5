"""Reads the resources of the template, with its loops expanded."""


def of_type(resources, kind):
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


def functions(resources):
    return of_type(resources, "AWS::Serverless::Function")


def target(value):
    """Returns the logical id that a `Ref` or `GetAtt` names."""
    if isinstance(value, dict):
        value = value.get("Ref") or value.get("Fn::GetAtt")
    return value[0] if isinstance(value, list) else str(value).split(".")[0]


def statements(resources, role):
    policies = resources[role]["Properties"]["Policies"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def actions(resources, role):
    found = set()
    for statement in statements(resources, role):
        action = statement["Action"]
        found.update([action] if isinstance(action, str) else action)
    return found


def branches(value):
    """Returns the possible values of a property: both sides of an `If`, or the value itself."""
    if isinstance(value, dict) and "Fn::If" in value:
        return value["Fn::If"][1:]
    return [value]


def listed(value):
    return [value] if isinstance(value, str) else value


def text(value):
    """Returns the text that an intrinsic function makes, with its references as `${…}`."""
    if isinstance(value, str):
        return value
    (function, argument), = value.items()
    if function == "Fn::Join":
        return argument[0].join(text(part) for part in argument[1])
    return argument if function == "Fn::Sub" else f"${{{argument}}}"

"""Checks that the template and the schema of the GraphQL API agree, and rules that the local cloud does not check.

AWS accepts a field without a resolver (it is null for ever), a resolver without access to its function, a subscription
to which nothing is published, and an API without limits.
"""

from assemble_template import GRAPHQL
from graphql import parse
from resources import functions, listed, of_type, statements, target, text

API, SCHEMA, PUBLISHER = "Api", "Schema", "LivePublisherFunction"
OPERATIONS = ("Query", "Mutation", "Subscription")
RUNTIME = {"Name": "APPSYNC_JS", "RuntimeVersion": "1.0.0"}
# What AppSync allows, https://docs.aws.amazon.com/appsync/latest/APIReference/API_Resolver.html.
LONGEST_CODE = 32768
# A page that needs more fields at once can make two requests.
MOST_RESOLVERS = 50
# A resolver has no other properties: its code must be in a file.
OF_A_RESOLVER = {"ApiId", "TypeName", "FieldName", "DataSourceName", "Runtime", "CodeS3Location"}


def schema():
    """Returns the schema as a document of graphql-core."""
    return parse((GRAPHQL / "schema.graphql").read_text())


def failures_of(resources, document):
    """Returns what is wrong with the GraphQL API."""
    return [
        *apis(resources, document), *keys(resources), *fields(resources, document), *resolvers(resources, document),
        *sources(resources), *publishers(resources, document), *subscriptions(document),
    ]  # fmt: skip


def types(document):
    """Returns the fields of each object type of the schema, by the names of both."""
    return {
        definition.name.value: {field.name.value: field for field in definition.fields}
        for definition in document.definitions
        if definition.kind == "object_type_definition"
    }


def directives(node):
    return {directive.name.value for directive in node.directives}


def publications(document):
    """Returns the mutations that can be called only with a signature of IAM."""
    return {name for name, field in types(document)["Mutation"].items() if directives(field) == {"aws_iam"}}


def named(node):
    """Returns the name of a type without lists and non-nulls."""
    while not hasattr(node, "name"):
        node = node.type
    return node.name.value


def depth(document):
    """Returns the number of levels of the deepest request that the schema allows."""
    known = types(document)

    def below(name, above):
        if name in above:
            raise ValueError(f"{name} contains itself, so a request can have any depth")
        fields = known.get(name, {}).values()
        return max((1 + below(named(field.type), (*above, name)) for field in fields), default=0)

    return max(below(name, ()) for name in OPERATIONS)


def apis(resources, document):
    """The API takes tokens of one app client, limits requests, and has no introspection in prod.

    It logs nothing by default: AppSync logs the text of requests, which may have passwords.
    """
    only_prod = {"Fn::If": ["IsProd", "DISABLED", "ENABLED"]}
    found = of_type(resources, "AWS::AppSync::GraphQLApi")
    if list(found) != [API]:
        yield f"there must be one API, {API}, not {sorted(found)}"
    for name, api in found.items():
        pool = api.get("UserPoolConfig", {})
        if api.get("AuthenticationType") != "AMAZON_COGNITO_USER_POOLS" or pool.get("DefaultAction") != "ALLOW":
            yield f"{name}: a field without a directive must demand a token of the user pool"
        if pool.get("AppIdClientRegex") != {"Fn::Sub": "^${UserPoolClientId}$"}:
            yield f"{name}: takes tokens of other app clients"
        others = sorted(other["AuthenticationType"] for other in api.get("AdditionalAuthenticationProviders", []))
        if others != ["API_KEY", "AWS_IAM"]:
            yield f"{name}: must also take API keys and signatures of IAM alone, not {others}"
        if api.get("IntrospectionConfig") != only_prod:
            yield f"{name}: introspection must be off in prod"
        deepest, limit = depth(document), api.get("QueryDepthLimit")
        if not isinstance(limit, int) or not deepest <= limit <= deepest + 1:
            yield f"{name}: QueryDepthLimit is {limit}, but the deepest request of the schema has {deepest} levels"
        if not 1 <= api.get("ResolverCountLimit", 0) <= MOST_RESOLVERS:
            yield f"{name}: ResolverCountLimit must be 1 to {MOST_RESOLVERS}"
        if api.get("XrayEnabled") != {"Fn::If": ["IsProd", True, False]}:
            yield f"{name}: must be traced in prod alone, as the functions are"
        yield from logs(name, api)


def logs(name, api):
    condition, settings, otherwise = api.get("LogConfig", {}).get("Fn::If", [None, {}, None])
    if condition != "HasGraphqlLogs" or otherwise != {"Ref": "AWS::NoValue"}:
        yield f"{name}: must have a log only with GraphqlLogs"
    if settings.get("FieldLogLevel") != "ERROR" or settings.get("ExcludeVerboseContent") is not True:
        yield f"{name}: must log errors only, without headers and contexts"


def keys(resources):
    """The API key expires when the parameter says, which `make deploy` sets anew."""
    found = of_type(resources, "AWS::AppSync::ApiKey")
    if len(found) != 1:
        yield f"there must be one API key, not {sorted(found)}"
    for name, key in found.items():
        if key.get("Expires") != {"Ref": "ApiKeyExpires"}:
            yield f"{name}: must expire when ApiKeyExpires says"


def fields(resources, document):
    """Each field of an operation has one resolver, and each resolver has a field."""
    known = types(document)
    wanted = [(kind, field) for kind in OPERATIONS for field in known.get(kind, {})]
    made = [(r["TypeName"], r["FieldName"]) for r in of_type(resources, "AWS::AppSync::Resolver").values()]
    for kind, field in sorted(set(wanted) - set(made)):
        yield f"{kind}.{field}: has no resolver in the template"
    for kind, field in sorted(set(made) - set(wanted)):
        yield f"{kind}.{field}: has a resolver, but schema.graphql does not have it"
    for kind, field in sorted({each for each in made if made.count(each) > 1}):
        yield f"{kind}.{field}: has several resolvers"


def resolvers(resources, document):
    """A resolver is made after the schema, and has the code and the data source for its kind of field."""
    published = publications(document)
    known = of_type(resources, "AWS::AppSync::DataSource")
    for name, resolver in of_type(resources, "AWS::AppSync::Resolver").items():
        if SCHEMA not in listed(resources[name].get("DependsOn", [])):
            yield f"{name}: must depend on {SCHEMA}, because AppSync refuses a resolver of an unknown field"
        if more := sorted(resolver.keys() - OF_A_RESOLVER):
            yield f"{name}: has {', '.join(more)}, but its code must be a file, and it must be no pipeline"
        if target(resolver["ApiId"]) != API or resolver.get("Runtime") != RUNTIME:
            yield f"{name}: must be of {API}, and run by {RUNTIME}"
        kind, field = resolver["TypeName"], resolver["FieldName"]
        is_publication = kind == "Mutation" and field in published
        code = "subscription.js" if kind == "Subscription" else "publish.js" if is_publication else "resolver.js"
        if resolver.get("CodeS3Location") != code:
            yield f"{name}: must have the code {code}"
        source = known.get(target(resolver["DataSourceName"]), {}).get("Type")
        if source != ("AWS_LAMBDA" if code == "resolver.js" else "NONE"):
            yield f"{name}: must not have a data source of the type {source}"
    for file in ("resolver.js", "subscription.js", "publish.js"):
        if (length := len((GRAPHQL / file).read_text())) > LONGEST_CODE:
            yield f"{file}: has {length} characters, more than the {LONGEST_CODE} that AppSync takes"


def sources(resources):
    """A data source may invoke its own function, and can do nothing else."""
    for name, source in of_type(resources, "AWS::AppSync::DataSource").items():
        if target(source["ApiId"]) != API:
            yield f"{name}: must be of {API}"
        if source["Type"] == "NONE":
            continue
        function, role = target(source["LambdaConfig"]["LambdaFunctionArn"]), target(source["ServiceRoleArn"])
        if function not in functions(resources):
            yield f"{name}: {function} is no function of a stack"
        allowed = [(s["Effect"], s["Action"], list(map(target, listed(s["Resource"])))) for s in statements(resources, role)]
        if allowed != [("Allow", "lambda:InvokeFunction", [function])]:
            yield f"{name}: its role must allow lambda:InvokeFunction of {function} alone"
        trusted = resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        if [statement["Principal"] for statement in trusted] != [{"Service": "appsync.amazonaws.com"}]:
            yield f"{name}: AppSync cannot use its role, or others can"


def publishers(resources, document):
    """live_publisher calls this API, and may call the publishing mutations, all of them and nothing else."""
    function = functions(resources)[PUBLISHER]
    expected = {f"${{{API}.Arn}}/types/Mutation/fields/{field}" for field in publications(document)}
    allowed = {
        text(resource)
        for statement in statements(resources, target(function["Role"]))
        if any(action.startswith("appsync:") for action in listed(statement["Action"]))
        for resource in listed(statement["Resource"])
    }
    for field in sorted(expected - allowed):
        yield f"{PUBLISHER}: may not call {field}"
    for field in sorted(allowed - expected):
        yield f"{PUBLISHER}: may call {field}, which is no publishing mutation"
    url = function["Environment"]["Variables"].get("GRAPHQL_URL")
    if url != {"Fn::GetAtt": [API, "GraphQLUrl"]}:
        yield f"{PUBLISHER}: GRAPHQL_URL is {url}"


def subscriptions(document):
    """A subscription names publishing mutations that return its type, and each of these has a subscription."""
    known, published = types(document), publications(document)
    heard = set()
    for name, field in known["Subscription"].items():
        subscribes = [directive for directive in field.directives if directive.name.value == "aws_subscribe"]
        mutations = {value.value for each in subscribes for value in each.arguments[0].value.values}
        heard |= mutations
        if not mutations or mutations - published:
            yield f"Subscription.{name}: must hear publishing mutations, not {sorted(mutations)}"
        for mutation in sorted(mutations & published):
            if named(known["Mutation"][mutation].type) != named(field.type):
                yield f"Subscription.{name}: has another type than {mutation}"
    for mutation in sorted(published - heard):
        yield f"Mutation.{mutation}: nothing subscribes to it"

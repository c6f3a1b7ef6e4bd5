"""Behaviour of AWS AppSync that MiniStack's AppSync lacks.

MiniStack executes queries and mutations against the schema of an API. This package adds:

- subscriptions over AppSync's real-time protocol, filtered by arguments or by the filters of resolvers;
- authorisation: the directives of the schema, verified tokens of user pools, expiry of API keys, identity of IAM users;
- AppSync's scalars, and `errorInfo` in errors;
- schemas and resolver code from S3 in CloudFormation, and URLs of the API that work without DNS;
- the answer to the preflight request of browsers, before a request with an `Authorization` header (CORS).

The package depends only on MiniStack, and on nothing else of this project. It follows the AppSync developer guide:
"Building a real-time WebSocket client", "Defining enhanced subscriptions filters", "Extensions", "Scalar types in
GraphQL", and "Authorization and authentication".

- `gateway`: the addresses of the APIs
- `protocol`: one WebSocket of a client, and its frames
- `subscriptions`: the subscriptions of all clients, and publishing to them
- `starting`: the start of a subscription
- `filters`: which updates a subscription gets
- `authorization`: the caller, and its rights
- `execution`: operations, their errors, and the `extensions` of resolvers
- `scalars`: AppSync's scalars
- `cloudformation`: the resources of CloudFormation
- `hooks`: replacing functions of MiniStack

Not modelled: introspection that is turned off, limits of depth and of resolvers, invalidation of subscriptions,
Lambda authorizers and OpenID Connect beyond what MiniStack does, and the wording of AppSync's validation errors.
"""

from local_cloud.appsync import cloudformation, execution, gateway


def install() -> None:
    """Extends MiniStack in this process, before it serves. Fails if MiniStack lacks a name that the package needs."""
    execution.install()
    cloudformation.install()
    gateway.install()

"""The caller of an API, and its rights.

Sources: AppSync's developer guide, "Authorization and authentication" and "Access control use cases". A token is
verified by its signature, issuer, expiry and app client. AppSync accepts a token that was revoked until it expires.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphql import GraphQLObjectType, value_from_ast_untyped
from graphql.language import DirectiveNode
from ministack.core import iam_evaluator  # type: ignore[import-untyped]
from ministack.core.iam_evaluator import (  # type: ignore[import-untyped]
    SignedRequest,
    caller_verified,
    resolve_caller_identity,
)
from ministack.core.responses import (  # type: ignore[import-untyped]
    get_account_id,
    set_request_account_id,
    set_request_region,
)
from ministack.core.router import extract_access_key_id  # type: ignore[import-untyped]
from ministack.services.appsync import (  # type: ignore[import-untyped]
    _api_keys,
    _apis,
    _auth_modes,
    _cognito_identity,
    _iam_field_authorizer,
)
from ministack.services.cognito import _signature_valid, _token_claims  # type: ignore[import-untyped]

API_KEY = "API_KEY"
IAM = "AWS_IAM"
USER_POOL = "AMAZON_COGNITO_USER_POOLS"
OPENID_CONNECT = "OPENID_CONNECT"
LAMBDA = "AWS_LAMBDA"
DIRECTIVES = {
    "aws_api_key": API_KEY,
    "aws_iam": IAM,
    "aws_cognito_user_pools": USER_POOL,
    "aws_auth": USER_POOL,
    "aws_oidc": OPENID_CONNECT,
    "aws_lambda": LAMBDA,
}

Json = Any


@dataclass(frozen=True)
class Caller:
    """The caller of an API, by the headers of its request. Their names are in lower case."""

    api: Mapping[str, Json]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, api_id: str, headers: Mapping[str, Json]) -> "Caller":
        return cls(_apis.get(api_id) or {}, {str(name).lower(): str(value) for name, value in headers.items()})

    @cached_property
    def mode(self) -> str:
        """The authorisation mode that the request uses."""
        authorization = self.headers.get("authorization", "")
        if not authorization:
            return API_KEY
        if authorization.startswith("AWS4-HMAC-SHA256"):
            return IAM
        if self._pool is not None:
            return USER_POOL
        modes = _auth_modes(self.api)
        return next((mode for mode in (OPENID_CONNECT, LAMBDA) if mode in modes), USER_POOL)

    @cached_property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @cached_property
    def claims(self) -> Mapping[str, Json]:
        """The claims of the token, verified or not."""
        claims: Mapping[str, Json] = _token_claims(self.token)
        return claims

    @cached_property
    def groups(self) -> frozenset[str]:
        groups = self.claims.get("cognito:groups") if self.mode == USER_POOL else None
        return frozenset(groups or ())

    @cached_property
    def _pool(self) -> Mapping[str, Json] | None:
        """The configuration of the user pool that issued the token, if the API accepts it."""
        issuer = str(self.claims.get("iss", "")).rsplit("/", 1)[-1]
        return next((pool for pool in _user_pools(self.api) if pool.get("userPoolId") == issuer), None)

    @cached_property
    def identity(self) -> Mapping[str, Json] | None:
        """`ctx.identity` of resolvers. It is null for an API key."""
        if self.mode == USER_POOL:
            identity: Mapping[str, Json] | None = _cognito_identity({"userPoolConfig": self._pool}, self.headers)
            return identity
        if self.mode != IAM:
            return None
        caller = resolve_caller_identity(extract_access_key_id(self.headers, {})) or {}
        return {
            "accountId": caller.get("accountId"),
            "userArn": caller.get("userArn"),
            "username": caller.get("userId"),
            "sourceIp": ["127.0.0.1"],
            "cognitoIdentityPoolId": None,
            "cognitoIdentityId": None,
            "cognitoIdentityAuthType": None,
            "cognitoIdentityAuthProvider": None,
        }

    def is_authentic(self, api_id: str) -> bool:
        """Returns whether the API key is valid, or the token. MiniStack itself checks signatures of IAM."""
        if self.mode == API_KEY:
            key = (_api_keys.get(api_id) or {}).get(self.headers.get("x-api-key"))
            return key is not None and float(key["expires"]) > time.time()
        if self.mode == USER_POOL:
            return self._has_valid_token()
        return True

    def _has_valid_token(self) -> bool:
        client = str(self.claims.get("client_id") or self.claims.get("aud") or "")
        expires = self.claims.get("exp")
        return (
            self._pool is not None
            and isinstance(expires, (int, float))
            and expires > time.time()
            and re.fullmatch(self._pool.get("appIdClientRegex") or ".*", client) is not None
            and bool(_signature_valid(self.token))
        )

    def may_access(self, parent: GraphQLObjectType, field: str) -> bool:
        """Returns whether the caller may access the field.

        The directives of the field decide. If there are none, the directives of the type decide, otherwise the API's
        default.
        """
        nodes = (parent.fields[field].ast_node, parent.ast_node, *parent.extension_ast_nodes)
        for node in nodes:
            found = [directive for directive in (node.directives if node else ()) if directive.name.value in DIRECTIVES]
            if found:
                return any(self._is_admitted_by(directive) for directive in found)
        if self.mode != (self.api.get("authenticationType") or API_KEY):
            return False
        return self.mode != USER_POOL or (self._pool or {}).get("defaultAction", "ALLOW") == "ALLOW"

    def _is_admitted_by(self, directive: DirectiveNode) -> bool:
        if DIRECTIVES[directive.name.value] != self.mode:
            return False
        arguments = {argument.name.value: value_from_ast_untyped(argument.value) for argument in directive.arguments}
        groups = arguments.get("cognito_groups")
        return groups is None or not self.groups.isdisjoint(groups)

    @property
    def access(self) -> tuple[str, frozenset[str]]:
        """The part of the caller that decides about access. Callers with equal access see the same of an update."""
        return self.mode, self.groups


def request_is_authenticated(original: Any, api_id: str, api: Json, headers: Json) -> bool:
    return bool(original(api_id, api, headers)) and Caller.of(api_id, headers or {}).is_authentic(api_id)


def enter_scope(api_id: str) -> bool:
    """Sets the account and region of the API for this task or thread. Returns whether there is such an API."""
    for (account, region, stored), _ in _apis.all_items():
        if stored == api_id:
            set_request_account_id(account)
            set_request_region(region)
            return True
    return False


def field_authorizer(api_id: str, caller: Caller, paths: tuple[str, ...], body: str) -> Any:
    """Returns MiniStack's check of fields for an IAM caller, its refusal as an answer, or None in other modes.

    Clients sign what they send over a WebSocket as if it were an HTTP request: at the path of the API's URL.
    """
    if caller.mode != IAM:
        return None
    pin_signature(caller, paths, body)
    return _iam_field_authorizer(api_id, caller.headers, {})


def pin_signature(caller: Caller, paths: tuple[str, ...], body: str) -> None:
    """Lets MiniStack check the signature as if it had come with an HTTP request to one of the paths."""
    key = extract_access_key_id(caller.headers, {})
    for path in paths:
        iam_evaluator._verified_key.set("")
        iam_evaluator._signed_request.set(SignedRequest(key, "POST", path, {}, dict(caller.headers), body.encode()))
        if caller_verified(key, get_account_id()):
            return


def _user_pools(api: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    providers = [api, *(api.get("additionalAuthenticationProviders") or [])]
    for provider in providers:
        if pool := provider.get("userPoolConfig"):
            yield pool

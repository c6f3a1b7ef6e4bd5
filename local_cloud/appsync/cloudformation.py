"""AppSync's resources in CloudFormation: schemas and code from S3, checks at the deployment, and local URLs."""

from collections.abc import Mapping
from typing import Any

from graphql import validate_schema
from ministack.core import appsync_graphql  # type: ignore[import-untyped]
from ministack.services import appsync  # type: ignore[import-untyped]
from ministack.services.cloudformation.provisioners import (  # type: ignore[import-untyped]
    _RESOURCE_HANDLERS,
)
from ministack.services.s3 import _get_object_data  # type: ignore[import-untyped]

from local_cloud.appsync import gateway
from local_cloud.appsync.hooks import wrap

Json = Any
Properties = Mapping[str, Json]


def install() -> None:
    api = _RESOURCE_HANDLERS["AWS::AppSync::GraphQLApi"]
    wrap(api, "create", _with_local_urls)
    wrap(api, "update", _with_local_urls)
    wrap(_RESOURCE_HANDLERS["AWS::AppSync::GraphQLSchema"], "create", _create_schema)
    wrap(_RESOURCE_HANDLERS["AWS::AppSync::Resolver"], "create", _create_resolver)


def _with_local_urls(original: Any, *arguments: Any) -> tuple[str, Mapping[str, str]]:
    api_id, attributes = original(*arguments)
    graphql, realtime = gateway.urls(api_id)
    appsync._apis[api_id]["uris"] = {"GRAPHQL": graphql, "REALTIME": realtime}
    return api_id, attributes | {"GraphQLUrl": graphql, "RealtimeUrl": realtime}


def _create_schema(original: Any, logical_id: str, properties: Properties, stack: str) -> Any:
    properties = _from_s3(properties, "Definition")
    api_id = properties.get("ApiId", "")
    try:
        errors = validate_schema(appsync_graphql.build_api_schema(api_id, properties.get("Definition", "")))
    except appsync_graphql.SchemaUnavailable as unavailable:
        raise ValueError(f"{logical_id}: {unavailable}") from unavailable
    if errors:
        raise ValueError(f"{logical_id}: {'; '.join(error.message for error in errors)}")
    return original(logical_id, properties, stack)


def _create_resolver(original: Any, logical_id: str, properties: Properties, stack: str) -> Any:
    properties = _from_s3(properties, "Code")
    api_id, type_name, field = (properties.get(name, "") for name in ("ApiId", "TypeName", "FieldName"))
    stored = appsync._schemas.get(api_id)
    if not stored:
        raise ValueError(f"{logical_id}: No schema found for this API. The resolver must depend on the schema.")
    found = appsync_graphql.build_api_schema(api_id, stored["definition"]).type_map.get(type_name)
    if field not in getattr(found, "fields", {}):
        raise ValueError(f"{logical_id}: No field named {field} found on type {type_name}")
    return original(logical_id, properties, stack)


def _from_s3(properties: Properties, name: str) -> Properties:
    """Returns the properties with the content of the object that `{name}S3Location` names."""
    location = properties.get(f"{name}S3Location")
    if not location:
        return properties
    bucket, _, key = str(location).removeprefix("s3://").partition("/")
    content = _get_object_data(bucket, key)
    if content is None:
        raise ValueError(f"{name}S3Location does not exist: {location}")
    return {**properties, name: content.decode()}

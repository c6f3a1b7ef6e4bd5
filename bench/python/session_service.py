"""Starts charging sessions."""

import logging
import os
import uuid
from datetime import datetime, timezone
from decimal import Decimal

import boto3
from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError

logger = logging.getLogger()
logger.setLevel(logging.INFO)

dynamodb = boto3.resource("dynamodb")
stations = dynamodb.Table(os.environ["STATIONS_TABLE"])
sessions = dynamodb.Table(os.environ["SESSIONS_TABLE"])
users = dynamodb.Table(os.environ["USERS_TABLE"])


class ConflictError(Exception):
    """The state of the station, the port or the user forbids the start."""


class NotFoundError(Exception):
    """The station or the port does not exist."""


def read_station(station_id):
    """Returns a station, or None, and its ports by their ids."""
    answer = stations.query(
        KeyConditionExpression=Key("PK").eq(f"STATION#{station_id}"),
        ConsistentRead=True,
    )
    station = None
    ports = {}
    for item in answer["Items"]:
        if item["SK"] == "METADATA":
            station = item
        else:
            ports[item["portId"]] = item
    return station, ports


def power_kw(station, port, vehicle, percent):
    """Returns the power at which a further session charges, kW."""
    factor = Decimal("1.0") if percent < 70 else Decimal("0.6") if percent < 90 else Decimal("0.3")
    shared = station["powerKw"] / (station["chargingPorts"] + 1)
    offered = min(shared, port["maxPowerKw"], Decimal(str(vehicle.get("maxPowerKw", 1000))))
    return round(offered * factor, 3)


def start_session(event):
    """Starts a session at a free port."""
    user_id = event["actor"]["userId"]
    station_id, port_id = event["stationId"], event["portId"]
    vehicle = event["vehicle"]
    percent = Decimal(str(event["chargePercent"]))
    target = Decimal(str(event.get("targetPercent", 100)))
    if not 0 <= percent < target <= 100:
        raise ValueError("chargePercent must be below targetPercent")

    user = users.get_item(Key={"PK": f"USER#{user_id}", "SK": "METADATA"}, ConsistentRead=True).get("Item")
    if user and user.get("blocked"):
        raise ConflictError(f"user {user_id} is blocked")
    station, ports = read_station(station_id)
    if station is None:
        raise NotFoundError(f"station {station_id} does not exist")
    if station["status"] != "ACTIVE":
        raise ConflictError(f"station {station_id} is {station['status']}")
    port = ports.get(port_id)
    if port is None:
        raise NotFoundError(f"port {port_id} does not exist")
    if port["status"] != "FREE":
        raise ConflictError(f"port {port_id} is {port['status']}")

    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    session_id = str(uuid.uuid4())
    session = {
        "PK": f"SESSION#{session_id}",
        "SK": "METADATA",
        "sessionId": session_id,
        "stationId": station_id,
        "portId": port_id,
        "userId": user_id,
        "status": "STARTED",
        "createdAt": now,
        "meteredAt": now,
        "chargePercent": percent,
        "targetPercent": target,
        "batteryCapacityKwh": Decimal(str(vehicle["batteryCapacityKwh"])),
        "powerKw": power_kw(station, port, vehicle, percent),
        "energyKwh": Decimal("0"),
        "cost": Decimal("0"),
        "pricePerKwh": station["pricePerKwh"],
        "currency": station["currency"],
        "version": 1,
    }
    try:
        dynamodb.meta.client.transact_write_items(
            TransactItems=[
                {
                    "Update": {
                        "TableName": stations.name,
                        "Key": {"PK": port["PK"], "SK": port["SK"]},
                        "UpdateExpression": "SET #status = :charging, sessionId = :session",
                        "ConditionExpression": "#status = :free",
                        "ExpressionAttributeNames": {"#status": "status"},
                        "ExpressionAttributeValues": {
                            ":charging": "CHARGING",
                            ":free": "FREE",
                            ":session": session_id,
                        },
                    }
                },
                {
                    "Update": {
                        "TableName": stations.name,
                        "Key": {"PK": station["PK"], "SK": station["SK"]},
                        "UpdateExpression": "ADD chargingPorts :one, version :one",
                        "ConditionExpression": "#status = :active AND version = :version",
                        "ExpressionAttributeNames": {"#status": "status"},
                        "ExpressionAttributeValues": {
                            ":one": 1,
                            ":active": "ACTIVE",
                            ":version": station["version"],
                        },
                    }
                },
                {
                    "Put": {
                        "TableName": sessions.name,
                        "Item": session,
                        "ConditionExpression": "attribute_not_exists(PK)",
                    }
                },
            ]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "TransactionCanceledException":
            raise ConflictError(f"port {port_id} is not free") from error
        raise
    return {
        "sessionId": session_id,
        "stationId": station_id,
        "portId": port_id,
        "userId": user_id,
        "status": "STARTED",
        "chargePercent": float(percent),
        "powerKw": float(session["powerKw"]),
        "energyKwh": 0.0,
        "cost": "0.00",
        "currency": session["currency"],
        "startedAt": now,
    }


def handler(event, context):
    """Handles one invocation."""
    if event.get("action") != "startSession":
        raise ValueError(f"unknown action {event.get('action')}")
    session = start_session(event)
    logger.info("session started", extra={"sessionId": session["sessionId"], "stationId": session["stationId"]})
    return session

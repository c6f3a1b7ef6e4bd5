"""Advances every active charging session: per session it reads the station, counts its charging ports and updates."""

import logging
import os
from datetime import datetime
from decimal import Decimal

import boto3
from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError

logger = logging.getLogger()
logger.setLevel(logging.INFO)

dynamodb = boto3.resource("dynamodb")
stations = dynamodb.Table(os.environ["STATIONS_TABLE"])
sessions = dynamodb.Table(os.environ["SESSIONS_TABLE"])

WATT_HOUR = Decimal("0.001")


def active_sessions():
    """Yields the active sessions."""
    arguments = {"IndexName": "status-index", "KeyConditionExpression": Key("status").eq("IN_PROGRESS")}
    while True:
        page = sessions.query(**arguments)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def power_factor(percent):
    """Returns the share of the offered power that a battery takes."""
    if percent < 70:
        return Decimal("1.0")
    if percent < 90:
        return Decimal("0.6")
    return Decimal("0.3")


def advance(session, tick_at):
    """Advances one session. Returns the energy that was charged, kWh, or None if the session was not due."""
    metered_at = datetime.fromisoformat(session["meteredAt"])
    hours = Decimal(str((tick_at - metered_at).total_seconds() / 3600))
    if hours <= 0:
        return None
    pk = f"STATION#{session['stationId']}"
    station = stations.get_item(Key={"PK": pk, "SK": "METADATA"})["Item"]
    ports = stations.query(KeyConditionExpression=Key("PK").eq(pk) & Key("SK").begins_with("PORT#"))["Items"]
    charging = [port for port in ports if port["status"] == "CHARGING"]
    own = next(port for port in charging if port["portId"] == session["portId"])

    percent = session["chargePercent"]
    offered = min(station["powerKw"] / len(charging), own["maxPowerKw"])
    power = (offered * power_factor(percent)).quantize(WATT_HOUR)
    capacity = session["batteryCapacityKwh"]
    left = (session["targetPercent"] - percent) / 100 * capacity
    energy = min(power * hours, left).quantize(WATT_HOUR)
    total = session["energyKwh"] + energy
    percent = min(percent + (energy / capacity * 100).quantize(Decimal("0.000001")), session["targetPercent"])
    try:
        sessions.update_item(
            Key={"PK": session["PK"], "SK": session["SK"]},
            UpdateExpression=(
                "SET #status = :status, meteredAt = :at, chargePercent = :percent, powerKw = :power, "
                "energyKwh = :energy, cost = :cost, version = version + :one"
            ),
            ConditionExpression="version = :version",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={
                ":status": "COMPLETED" if percent >= session["targetPercent"] else "IN_PROGRESS",
                ":at": tick_at.isoformat(),
                ":percent": percent,
                ":power": power,
                ":energy": total,
                ":cost": (total * session["pricePerKwh"]).quantize(Decimal("0.01")),
                ":one": 1,
                ":version": session["version"],
            },
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return None
    return energy


def handler(event, context):
    """Handles one tick."""
    tick_at = datetime.fromisoformat(event["tickAt"].replace("Z", "+00:00"))
    count, skipped, energy = 0, 0, Decimal("0")
    for session in active_sessions():
        count += 1
        charged = advance(session, tick_at)
        if charged is None:
            skipped += 1
        else:
            energy += charged
    logger.info("tick done", extra={"sessions": count, "skipped": skipped})
    return {"tickAt": event["tickAt"], "sessions": count, "skipped": skipped, "energyKwh": float(energy)}

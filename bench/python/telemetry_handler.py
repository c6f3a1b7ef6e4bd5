"""Archives the messages of battery-swap stations and keeps the latest state of each station."""

import json
import logging
import os
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import boto3
from botocore.exceptions import ClientError

logger = logging.getLogger()
logger.setLevel(logging.INFO)

table = boto3.resource("dynamodb").Table(os.environ["TELEMETRY_TABLE"])
s3 = boto3.client("s3")

BUCKET = os.environ["TELEMETRY_BUCKET"]
RANGES = {
    "battery_available": (0, 1000),
    "battery_charging": (0, 1000),
    "temperature": (-90, 90),
    "humidity": (0, 100),
}
STATUSES = ("operational", "maintenance", "offline")


def validate(message, topic_station_id):
    """Returns the time of a message. Raises ValueError if the message is wrong."""
    if message["station_id"] != topic_station_id:
        raise ValueError("station_id differs from the topic")
    for field, (least, most) in RANGES.items():
        if not least <= message[field] <= most:
            raise ValueError(f"{field} must be from {least} to {most}")
    if message["status"] not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}")
    at = datetime.fromisoformat(message["timestamp"].replace("Z", "+00:00"))
    if at > datetime.now(timezone.utc) + timedelta(minutes=5):
        raise ValueError("timestamp lies in the future")
    return at


def archive(message, at):
    """Writes a message to the archive and returns the key of its object."""
    body = json.dumps(message, sort_keys=True)
    message_id = uuid.uuid5(uuid.NAMESPACE_URL, body)
    name = f"{message['station_id']}_{at:%Y-%m-%dT%H-%M-%SZ}_{message_id}.json"
    key = f"telemetry/year={at:%Y}/month={at:%m}/day={at:%d}/{name}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=body.encode(), ContentType="application/json")
    return key


def record(message):
    """Writes the state of a station unless a newer one is known. Returns whether it was written."""
    names = {f"#{name}": name for name in message if name != "station_id"}
    values = {f":{name}": value for name, value in message.items() if name != "station_id"}
    try:
        table.update_item(
            Key={"station_id": message["station_id"]},
            UpdateExpression="SET " + ", ".join(f"{name} = :{name[1:]}" for name in names),
            ConditionExpression="attribute_not_exists(station_id) OR #timestamp < :timestamp",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return False
    return True


def handler(event, context):
    """Handles one message, as the IoT rule passes it on."""
    message = dict(event)
    at = validate(message, message.pop("topic_station_id"))
    key = archive(message, at)
    latest = record(json.loads(json.dumps(message), parse_float=Decimal))
    logger.info("message archived", extra={"stationId": message["station_id"], "key": key, "latest": latest})
    return {"accepted": True, "latest": latest, "key": key}

"""Returns charging stations with their ports."""

import logging
import os

import boto3
from boto3.dynamodb.conditions import Key

logger = logging.getLogger()
logger.setLevel(logging.INFO)

dynamodb = boto3.resource("dynamodb")
stations = dynamodb.Table(os.environ["STATIONS_TABLE"])


class NotFoundError(Exception):
    """The station does not exist."""


def get_station(station_id):
    """Returns a station with its ports."""
    answer = stations.query(
        KeyConditionExpression=Key("PK").eq(f"STATION#{station_id}"),
        ConsistentRead=True,
    )
    station = None
    ports = []
    for item in answer["Items"]:
        if item["SK"] == "METADATA":
            station = item
        else:
            ports.append(item)
    if station is None:
        raise NotFoundError(f"station {station_id} does not exist")
    return {
        "stationId": station_id,
        "name": station["name"],
        "address": station["address"],
        "latitude": float(station["latitude"]),
        "longitude": float(station["longitude"]),
        "powerKw": float(station["powerKw"]),
        "pricePerKwh": str(station["pricePerKwh"]),
        "currency": station["currency"],
        "status": station["status"],
        "ports": [
            {
                "portId": port["portId"],
                "portNumber": int(port["portNumber"]),
                "connectorType": port["connectorType"],
                "maxPowerKw": float(port["maxPowerKw"]),
                "status": port["status"],
            }
            for port in sorted(ports, key=lambda port: port["portNumber"])
        ],
    }


def handler(event, context):
    """Handles one invocation."""
    if event.get("action") != "getStation":
        raise ValueError(f"unknown action {event.get('action')}")
    station = get_station(event["stationId"])
    logger.info("station read", extra={"stationId": station["stationId"]})
    return station

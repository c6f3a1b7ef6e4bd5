"""Finds charge points near a place."""

import logging
import math
import os
from decimal import Decimal

import boto3
from boto3.dynamodb.conditions import Attr, Key

logger = logging.getLogger()
logger.setLevel(logging.INFO)

table = boto3.resource("dynamodb").Table(os.environ["POIS_TABLE"])

# The side of a cell of the index, degrees.
CELL = 0.5
EARTH_RADIUS_KM = 6371.0088
KM_PER_DEGREE = 111.2


def cells(latitude, longitude, radius_km):
    """Returns the cells of the index that a circle touches."""
    height = radius_km / KM_PER_DEGREE
    width = height / max(math.cos(math.radians(latitude)), 0.01)
    rows = range(math.floor((latitude - height) / CELL), math.floor((latitude + height) / CELL) + 1)
    columns = range(math.floor((longitude - width) / CELL), math.floor((longitude + width) / CELL) + 1)
    return [f"{row}:{column}" for row in rows for column in columns]


def distance_km(latitude1, longitude1, latitude2, longitude2):
    """Returns the distance of two places by the haversine formula, km."""
    phi1, phi2 = math.radians(latitude1), math.radians(latitude2)
    half_phi = (phi2 - phi1) / 2
    half_lambda = math.radians(longitude2 - longitude1) / 2
    a = math.sin(half_phi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(a))


def query(cell, condition):
    """Returns the charge points of a cell."""
    arguments = {"IndexName": "cell-index", "KeyConditionExpression": Key("cell").eq(cell)}
    if condition is not None:
        arguments["FilterExpression"] = condition
    items = []
    while True:
        page = table.query(**arguments)
        items.extend(page["Items"])
        if "LastEvaluatedKey" not in page:
            return items
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def find(event):
    """Returns the charge points within a radius, nearest first."""
    latitude, longitude = event["latitude"], event["longitude"]
    radius_km = event.get("radiusKm", 10)
    condition = None
    if "minPowerKw" in event:
        condition = Attr("maxPowerKw").gte(Decimal(str(event["minPowerKw"])))
    found = []
    for cell in cells(latitude, longitude, radius_km):
        for item in query(cell, condition):
            km = distance_km(latitude, longitude, float(item["latitude"]), float(item["longitude"]))
            if km <= radius_km:
                found.append((km, item))
    found.sort(key=lambda pair: pair[0])
    return [
        {
            "ocmId": int(item["ocmId"]),
            "title": item["title"],
            "town": item["town"],
            "latitude": float(item["latitude"]),
            "longitude": float(item["longitude"]),
            "maxPowerKw": float(item["maxPowerKw"]),
            "connectionTypeIds": [int(kind) for kind in item["connectionTypeIds"]],
            "distanceKm": round(km, 3),
        }
        for km, item in found[: event.get("limit", 25)]
    ]


def handler(event, context):
    """Handles one invocation."""
    if event.get("action") != "findPois":
        raise ValueError(f"unknown action {event.get('action')}")
    items = find(event)
    logger.info("charge points found", extra={"count": len(items)})
    return {"items": items, "count": len(items)}

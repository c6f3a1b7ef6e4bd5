"""Creates the tables of the peers and fills them. It is invoked like a peer, with the name of the peer to prepare."""

import json
import math
import os
import urllib.request
from decimal import Decimal

import boto3

from poi_service import CELL

dynamodb = boto3.resource("dynamodb")

STARTED_AT = "2026-03-03T10:00:00+00:00"
# As in the world of evoke: stations with four ports. A tick finds a session at each of them.
PORTS = 4


def index(name, partition, sort):
    """Returns an index that contains all attributes."""
    return {"IndexName": name, "key": (partition, sort)}


TABLES = {
    "STATIONS_TABLE": (("PK", "SK"), []),
    "SESSIONS_TABLE": (("PK", "SK"), [index("status-index", "status", "createdAt")]),
    "USERS_TABLE": (("PK", "SK"), []),
    "BILLING_TABLE": (("PK", "SK"), [index("userId-index", "userId", "createdAt")]),
    "TELEMETRY_TABLE": (("station_id",), []),
    "POIS_TABLE": (("PK", "SK"), [index("cell-index", "cell", "SK")]),
}


def schema(key):
    """Returns the schema of a key of one or two attributes."""
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(key, ("HASH", "RANGE"))]


def create_tables():
    """Creates every table."""
    for variable, (key, indexes) in TABLES.items():
        names = {name for each in (key, *(entry["key"] for entry in indexes)) for name in each}
        arguments = {
            "TableName": os.environ[variable],
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": schema(key),
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in sorted(names)],
        }
        if indexes:
            arguments["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": entry["IndexName"],
                    "KeySchema": schema(entry["key"]),
                    "Projection": {"ProjectionType": "ALL"},
                }
                for entry in indexes
            ]
        dynamodb.create_table(**arguments)


def station(number, charging_ports):
    """Returns the items of a station and its ports."""
    pk = f"STATION#station-{number}"
    yield {
        "PK": pk,
        "SK": "METADATA",
        "stationId": f"station-{number}",
        "name": "Bench",
        "address": "Bench",
        "latitude": Decimal("52.5"),
        "longitude": Decimal("13.4"),
        "powerKw": Decimal("100"),
        "pricePerKwh": Decimal("0.49"),
        "currency": "EUR",
        "status": "ACTIVE",
        "chargingPorts": charging_ports,
        "version": 1,
    }
    for port in range(1, PORTS + 1):
        yield {
            "PK": pk,
            "SK": f"PORT#port-{port}",
            "portId": f"port-{port}",
            "portNumber": port,
            "connectorType": "IEC_62196_T2_COMBO",
            "maxPowerKw": Decimal("100"),
            "status": "CHARGING" if port <= charging_ports else "FREE",
        }


def session(number):
    """Returns an active session. Its battery takes all day to charge."""
    session_id = f"session-{number}"
    return {
        "PK": f"SESSION#{session_id}",
        "SK": "METADATA",
        "sessionId": session_id,
        "stationId": f"station-{number // PORTS}",
        "portId": f"port-{number % PORTS + 1}",
        "userId": "bench",
        "status": "IN_PROGRESS",
        "createdAt": STARTED_AT,
        "meteredAt": STARTED_AT,
        "chargePercent": Decimal("10"),
        "targetPercent": Decimal("100"),
        "batteryCapacityKwh": Decimal("1000"),
        "powerKw": Decimal("0"),
        "energyKwh": Decimal("0"),
        "cost": Decimal("0"),
        "pricePerKwh": Decimal("0.49"),
        "currency": "EUR",
        "version": 1,
    }


def write(variable, items):
    """Writes items to a table and returns their number."""
    count = 0
    with dynamodb.Table(os.environ[variable]).batch_writer() as batch:
        for item in items:
            batch.put_item(Item=item)
            count += 1
    return count


def charging_world(count):
    """Writes stations with `count` active sessions."""
    stations = range(math.ceil(count / PORTS))
    charging = [min(PORTS, count - number * PORTS) for number in stations]
    write("STATIONS_TABLE", (item for number in stations for item in station(number, charging[number])))
    return write("SESSIONS_TABLE", map(session, range(count)))


def wallets(count):
    """Returns the wallets of the users u-0, u-1 and so on."""
    for number in range(count):
        yield {"PK": f"WALLET#u-{number}", "SK": "BALANCE", "balance": Decimal("100.00"), "entries": 1, "version": 1}


def charge_points(url, key):
    """Yields the charge points of a mirror of OpenChargeMap."""
    parameters = "output=json&compact=true&verbose=false&maxresults=1000000"
    request = urllib.request.Request(f"{url}/v3/poi?{parameters}", headers={"X-API-Key": key})
    with urllib.request.urlopen(request) as answer:
        pois = json.load(answer, parse_float=Decimal)
    for poi in pois:
        address = poi["AddressInfo"]
        latitude, longitude = address.get("Latitude"), address.get("Longitude")
        if latitude is None or longitude is None:
            continue
        connections = poi.get("Connections") or []
        powers = [connection.get("PowerKW") or 0 for connection in connections]
        yield {
            "PK": f"POI#{poi['ID']}",
            "SK": "METADATA",
            "ocmId": poi["ID"],
            "cell": f"{math.floor(latitude / Decimal(str(CELL)))}:{math.floor(longitude / Decimal(str(CELL)))}",
            "title": address["Title"],
            "town": address["Town"],
            "latitude": latitude,
            "longitude": longitude,
            "maxPowerKw": Decimal(str(max(powers, default=0))),
            "connectionTypeIds": [connection.get("ConnectionTypeID") or 0 for connection in connections],
        }


def handler(event, context):
    """Creates the tables and fills them for one function. Returns the number of items that matter to it."""
    create_tables()
    count = event.get("count", 0)
    match event["function"]:
        case "tick":
            written = charging_world(count)
        case "station_service" | "session_service":
            written = write("STATIONS_TABLE", (item for number in range(count) for item in station(number, 0)))
        case "billing":
            written = write("BILLING_TABLE", wallets(count))
        case "poi_service":
            written = write("POIS_TABLE", charge_points(event["ocm"], event["key"]))
        case _:
            written = 0
    return {"written": written}

"""Issues the invoice of every ended session and pays it from the wallet of its user."""

import json
import logging
import os
import uuid
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal

import boto3
from boto3.dynamodb.conditions import Key

logger = logging.getLogger()
logger.setLevel(logging.INFO)

dynamodb = boto3.resource("dynamodb")
table = dynamodb.Table(os.environ["BILLING_TABLE"])

CENT = Decimal("0.01")


def price(tariff, energy_kwh):
    """Returns the lines of an invoice with their net amounts, and the total with VAT."""
    lines = []
    vat = Decimal("0")
    for element in tariff["elements"]:
        for component in element["price_components"]:
            if component["type"] != "ENERGY":
                continue
            unit_price = Decimal(str(component["price"]))
            net = (energy_kwh * unit_price).quantize(CENT, ROUND_HALF_UP)
            rate = Decimal(str(component.get("vat") or 0))
            vat += net * rate / 100
            lines.append(
                {
                    "dimension": "ENERGY",
                    "quantity": energy_kwh,
                    "unit": "kWh",
                    "unitPrice": unit_price,
                    "netAmount": net,
                    "vatRate": rate,
                }
            )
    net = sum((line["netAmount"] for line in lines), Decimal("0"))
    return lines, net, net + vat.quantize(CENT, ROUND_HALF_UP)


def bill(ended):
    """Issues the invoice of one session, unless it exists already."""
    invoice_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"invoice/{ended['sessionId']}"))
    user_id = ended["userId"]
    if "Item" in table.get_item(Key={"PK": f"INVOICE#{invoice_id}", "SK": "METADATA"}, ConsistentRead=True):
        logger.info("invoice exists", extra={"invoiceId": invoice_id})
        return
    found = table.query(
        KeyConditionExpression=Key("PK").eq(f"WALLET#{user_id}") & Key("SK").begins_with("BALANCE"),
        ConsistentRead=True,
    )["Items"]
    wallet = found[0] if found else {"balance": Decimal("0"), "entries": 0, "version": 0}

    lines, net, gross = price(ended["tariff"], Decimal(str(ended["energyKwh"])))
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    paid = wallet["balance"] >= gross
    items = [
        {
            "Put": {
                "TableName": table.name,
                "Item": {
                    "PK": f"INVOICE#{invoice_id}",
                    "SK": "METADATA",
                    "invoiceId": invoice_id,
                    "sessionId": ended["sessionId"],
                    "stationId": ended["stationId"],
                    "userId": user_id,
                    "status": "PAID" if paid else "OPEN",
                    "createdAt": now,
                    "currency": ended["tariff"]["currency"],
                    "totalExclVat": net,
                    "totalInclVat": gross,
                },
                "ConditionExpression": "attribute_not_exists(PK)",
            }
        }
    ]
    for number, line in enumerate(lines, start=1):
        item = {"PK": f"INVOICE#{invoice_id}", "SK": f"LINE#{number}", **line}
        items.append({"Put": {"TableName": table.name, "Item": item}})
    if paid:
        entry = int(wallet["entries"]) + 1
        items.append(
            {
                "Update": {
                    "TableName": table.name,
                    "Key": {"PK": f"WALLET#{user_id}", "SK": "BALANCE"},
                    "UpdateExpression": "SET balance = balance - :gross, entries = :entry, version = version + :one",
                    "ConditionExpression": "version = :version",
                    "ExpressionAttributeValues": {
                        ":gross": gross,
                        ":entry": entry,
                        ":one": 1,
                        ":version": wallet["version"],
                    },
                }
            }
        )
        items.append(
            {
                "Put": {
                    "TableName": table.name,
                    "Item": {
                        "PK": f"WALLET#{user_id}",
                        "SK": f"ENTRY#{entry:010}",
                        "kind": "DEBIT",
                        "amount": -gross,
                        "balance": wallet["balance"] - gross,
                        "invoiceId": invoice_id,
                        "at": now,
                    },
                }
            }
        )
    dynamodb.meta.client.transact_write_items(TransactItems=items)
    logger.info("invoice issued", extra={"invoiceId": invoice_id, "paid": paid})


def handler(event, context):
    """Handles one batch of the billing queue."""
    failures = []
    for record in event["Records"]:
        try:
            bill(json.loads(record["body"])["detail"])
        except Exception:
            logger.exception("a message failed", extra={"messageId": record["messageId"]})
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}

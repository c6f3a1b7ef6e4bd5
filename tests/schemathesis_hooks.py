"""Schemathesis: which requests that the OpenAPI document allows may be refused as wrong.

JSON Schema says what a field may be. It cannot say how fields depend on each other, nor what a list of names outside the
document contains. A ValidationError for a request that the schemas allow must name one of the fields below; every other
one is a fault of the document.
"""

import re

import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

RULES = {
    r"nextToken": "must be the token that the same list answered",
    r"timeZone": "must be a name of the IANA time zone database; in a quote it is for a tariff only",
    r"latitude|longitude|radiusKm|countryId": "go together, or exclude each other",
    r"changedFrom": "must not be after changedTo",
    r"userId|status": "staff name one of the fields that a list filters by",
    r"targetPercent": "must be above chargePercent",
    r"limits\.maxCost": "must be at least what the tariff charges at the least",
    r"(ports\[\d+\]\.)?(portId|portNumber)": "must differ from those of the other ports",
    r"(ports\[\d+\]\.)?maxPowerKw": "must not be above the power of the station",
    r"pricePerKwh|currency|tariff": "the short form and the tariff exclude each other; the short form has two fields",
    r"stationId|tariff": "a quote is by exactly one of them",
    r"vehicle|vehicleId": "a start is with exactly one of them",
    r"vehicle\.(brand|model)": "must have a character that is no space",
    r"(vehicle\.)?registrationNumber": "must have 1 to 16 letters and digits",
    r"email|status|registrationNumber": "a list of customers filters by one of them; an address is that of a person",
    r"password|newPassword": "must have the length and the characters that the user pool asks for",
    r"code": "must be the one that was mailed",
    r"refreshToken": "must be one that the user pool issued, and say which sign-in ends unless all do",
    r"name|language": "a change of an account has one of them",
    r"tokenId": "neither begins nor ends with a space",
    r"scopes": "must be scopes of the role",
    r"tariff\..*": "the bounds and restrictions of a tariff must not contradict each other",
    r"chargingModel\..*": "the points of a measured curve ascend",
    r"lines(\[\d+\].*)?": "must name lines of the invoice and credit no more than is left of them",
    r"amount|pricePerKwh|lines\[\d+\]\.netAmount": "the currency decides how many decimals an amount has",
    r"startAt|date": "must lie within the years that can be stored",
    r"body|payload": "must be JSON that a program can hold",
}


@schemathesis.check
def what_the_document_forbids_is_refused(ctx, response, case):
    """Like `negative_data_rejection`, which takes no account of HTTP: white space at the ends of a header is dropped."""
    values = [value for value in (case.headers or {}).values() if isinstance(value, str)]
    if all(value == value.strip() for value in values):
        return negative_data_rejection(ctx, response, case)
    return None


@schemathesis.check
def only_rules_refuse_what_the_document_allows(ctx, response, case):
    meta = case.meta
    if response.status_code != 400 or meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return
    unexplained = [
        error for error in response.json().get("errors", []) if not any(re.fullmatch(rule, error["field"]) for rule in RULES)
    ]
    assert not unexplained, f"the document allows what is refused: {unexplained}"

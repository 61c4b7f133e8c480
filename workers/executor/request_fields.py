"""The fields of requests at the executor's control socket, by type: what a request gives is checked before it is used.

``null`` is the same as a field that is not there; fields that no request has are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from pipeline.model.errors import BadInput
from workers.executor.views import Row

Text = Annotated[str, msgspec.Meta(max_length=2000)]
Uid = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
WITH_OPPORTUNITY = ("execute", "validate")


class LegFields(msgspec.Struct):
    """One leg; its numbers are read by :func:`~pipeline.model.fixedpoint.parse_decimal`."""

    venue: Text
    symbol: Text
    side: Text
    qty: Any
    limit_price: Any


class OpportunityFields(msgspec.Struct):
    """An opportunity of an operator."""

    legs: Annotated[list[LegFields], msgspec.Meta(min_length=2, max_length=3)]
    type: Text = ""


class RequestFields(msgspec.Struct):
    """What any request may give; ``amount`` is a number or its text."""

    op: Text
    uid: Uid = 0
    for_uid: Uid = 0
    reason: Text = ""
    id: Text = ""
    name: Text = ""
    state: Text = ""
    exchange: Text = ""
    symbol: Text = ""
    venue: Text = ""
    asset: Text = ""
    amount: str | int | float = ""
    after: int = 0
    all: bool = False
    anyway: bool = False
    dry_run: bool = False
    wait: bool = True


def checked(request: Row) -> Row:
    """The request without its nulls. Raises BadInput where a field is of another type than the request wants."""
    given = {name: value for name, value in request.items() if value is not None}
    try:
        msgspec.convert(given, RequestFields)
        if given["op"] in WITH_OPPORTUNITY:
            msgspec.convert(given.get("opportunity", given), OpportunityFields)
    except msgspec.ValidationError as error:
        raise BadInput(f"{str(given.get('op'))[:40]}: found a request that cannot be understood: {error}") from None
    return given

"""The definitive/ambiguous tables: what ends an order, what leaves it unknown."""

from __future__ import annotations

import pytest

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.binance import errors as binance
from pipeline.exchanges.gateio import errors as gate
from pipeline.exchanges.mexc import errors as mexc
from pipeline.exchanges.order_session import outcome_kind
from pipeline.exchanges.transport.refusals import DUPLICATE, gateway_error, printable
from pipeline.model.errors import (
    AuthRefused,
    ClockRefused,
    GatewayRefused,
    InstrumentRefused,
    InsufficientBalance,
    OrderNotFound,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    TradingDisabled,
    VenueError,
    VenueRejected,
    VenueUnavailable,
)
from pipeline.model.venue_events import OutcomeKind
from tests.worlds.later import ccxt


def reply(status: int, body: str, **headers: str) -> HttpReply:
    return HttpReply(
        status=status,
        headers={key.replace("_", "-"): value for key, value in headers.items()},
        body=body.encode(),
        recv_mono_ns=1,
    )


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, '{"msg":"Oversold","code":30005}', InsufficientBalance),
        (400, '{"msg":"Oversold","code":30005,"_extend":null}', InsufficientBalance),
        (400, '{"msg":"min","code":30002}', InstrumentRefused),
        (400, '{"msg":"recvWindow","code":700003}', ClockRefused),
        (400, '{"msg":"signature","code":700002}', AuthRefused),
        (401, '{"msg":"ip","code":700006}', AuthRefused),
        (400, '{"msg":"suspended","code":30000}', TradingDisabled),
        (400, '{"msg":"Unknown order sent","code":-2011}', OrderNotFound),
        (400, '{"msg":"duplicate","code":-2010}', OutcomeUnknown),
        (400, '{"msg":"a code that nobody listed","code":987654}', OutcomeUnknown),
        (429, '{"msg":"Too Many Requests","code":429}', RateLimited),
        (418, "banned", RateLimited),
        (500, '{"msg":"x","code":30005}', OutcomeUnknown),
        (502, "<html>bad gateway</html>", GatewayRefused),
        (504, "", GatewayRefused),
        (408, "", GatewayRefused),
        (403, "<html>WAF</html>", GatewayRefused),
        (200, '{"code":20002,"msg":"system"}', OutcomeUnknown),
        (302, "moved", GatewayRefused),
        (400, '{"code":400,"msg":"api key required"}', AuthRefused),
        (401, '{"code":401,"msg":"No authority","_extend":null}', AuthRefused),
        (403, '{"msg":"Access Denied","code":"403"}', AuthRefused),
        (403, '{"code":403,"message":"Forbidden"}', GatewayRefused),
        (403, '{"code":403,"msg":"Forbidden"}', GatewayRefused),
        (403, '{"code":403,"msg":"Access Denied","request_id":"7f"}', GatewayRefused),
        (400, '{"code":400,"msg":"Bad Request"}', GatewayRefused),
        (200, '{"code":403,"msg":"Forbidden"}', OutcomeUnknown),
    ],
)
def test_mexc_table(status: int, body: str, expected: type[VenueError]) -> None:
    error = mexc.error_of("mexc_spot", reply(status, body))
    assert type(error) is expected


@pytest.mark.parametrize("body", ["{}", '{"data":{},"code":0,"msg":"success"}', "[]", '{"code":200,"data":[]}'])
def test_mexc_successes(body: str) -> None:
    assert mexc.error_of("mexc_spot", reply(200, body)) is None


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, '{"label":"BALANCE_NOT_ENOUGH","message":"x"}', InsufficientBalance),
        (400, '{"label":"INSUFFICIENT_AVAILABLE"}', InsufficientBalance),
        (400, '{"label":"ORDER_POC_IMMEDIATE","detail":"order price 1700 while counter price 1793.55"}', VenueRejected),
        (400, '{"label":"INVALID_PRECISION","message":"Amount 0.00011 with currency"}', InstrumentRefused),
        (400, '{"label":"FOK_NOT_FILL","message":"x"}', VenueRejected),
        (403, '{"label":"REQUEST_EXPIRED","message":"gap"}', ClockRefused),
        (401, '{"label":"INVALID_KEY","message":"x"}', AuthRefused),
        (400, '{"label":"MISSING_REQUIRED_HEADER","message":"Missing required header: Timestamp"}', AuthRefused),
        (404, '{"label":"ORDER_NOT_FOUND","message":"x"}', OrderNotFound),
        (400, '{"label":"ORDER_CLOSED","message":"x"}', OrderNotFound),
        (400, '{"label":"REPEATED_CREATION","message":"x"}', OutcomeUnknown),
        (400, '{"label":"A_NEW_LABEL","message":"x"}', OutcomeUnknown),
        (429, '{"label":"TOO_MANY_REQUESTS","message":"x"}', RateLimited),
        (500, '{"label":"SERVER_ERROR","message":"x"}', OutcomeUnknown),
        (503, '{"label":"BALANCE_NOT_ENOUGH","message":"a 5xx stays unknown"}', OutcomeUnknown),
        (400, '{"label":"TOO_BUSY","message":"x"}', OutcomeUnknown),
        (502, "bad gateway", GatewayRefused),
    ],
)
def test_gate_table(status: int, body: str, expected: type[VenueError]) -> None:
    error = gate.error_of("gateio_spot", reply(status, body))
    assert type(error) is expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, '{"code":-2010,"msg":"Account has insufficient balance for requested action."}', InsufficientBalance),
        (400, '{"code":-2010,"msg":"Duplicate order sent."}', OutcomeUnknown),
        (400, '{"code":-4116,"msg":"ClientOrderId is duplicated."}', OutcomeUnknown),
        (400, '{"code":-2010,"msg":"Market is closed."}', TradingDisabled),
        (400, '{"code":-1013,"msg":"Filter failure: NOTIONAL"}', InstrumentRefused),
        (400, '{"code":-1021,"msg":"outside of the recvWindow"}', ClockRefused),
        (400, '{"code":-2013,"msg":"Order does not exist."}', OrderNotFound),
        (400, '{"code":-1007,"msg":"execution status unknown."}', OutcomeUnknown),
        (400, '{"code":-1006,"msg":"unexpected response"}', OutcomeUnknown),
        (503, '{"code":0,"msg":"Unknown error, please check your request or try again later."}', OutcomeUnknown),
        (503, '{"code":0,"msg":"Service Unavailable."}', VenueRejected),
        (503, '{"msg":"Internal error; unable to process your request. Please try again."}', VenueRejected),
        (503, "Service Unavailable.", GatewayRefused),
        (503, '{"message":"Service Unavailable."}', GatewayRefused),
        (503, '{"code":503,"msg":"Service Unavailable."}', OutcomeUnknown),
        (503, '{"code":0,"msg":"Service Unavailable.","request_id":"7f"}', OutcomeUnknown),
        (408, "", GatewayRefused),
        (403, '{"message":"Forbidden"}', GatewayRefused),
        (503, '{"code":-1008,"msg":"Request throttled by system-level protection."}', RateLimited),
        (418, '{"code":-1003,"msg":"IP banned until 1"}', RateLimited),
    ],
)
def test_binance_table(status: int, body: str, expected: type[VenueError]) -> None:
    error = binance.error_of("binance_spot", reply(status, body))
    assert type(error) is expected


def test_duplicate_id_refusals_are_marked_as_evidence_that_the_order_exists() -> None:
    found = [
        mexc.error_of("v", reply(400, '{"code":-2010,"msg":"x"}')),
        gate.error_of("v", reply(400, '{"label":"REPEATED_CREATION","message":"x"}')),
        binance.error_of("v", reply(400, '{"code":-4116,"msg":"x"}')),
    ]
    assert [error is not None and error.api_code for error in found] == [DUPLICATE] * 3
    assert {outcome_kind(error) for error in found if error is not None} == {OutcomeKind.UNKNOWN}


def test_retry_after_is_obeyed_and_a_ban_lasts_two_minutes_without_it() -> None:
    limited = mexc.error_of("v", reply(429, '{"code":429}', retry_after="7"))
    assert isinstance(limited, RateLimited) and limited.retry_after_s == 7
    banned = gateway_error("v", reply(418, ""))
    assert isinstance(banned, RateLimited) and banned.retry_after_s >= 120


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, OutcomeKind.ACKED),
        (VenueRejected("x"), OutcomeKind.REJECTED),
        (InsufficientBalance("x"), OutcomeKind.REJECTED),
        (RateLimited("x", retry_after_s=1), OutcomeKind.REJECTED),
        (OutcomeUnknown("x"), OutcomeKind.UNKNOWN),
        (ProtocolViolation("x"), OutcomeKind.UNKNOWN),
        (VenueUnavailable("x"), OutcomeKind.UNKNOWN),
    ],
)
def test_only_the_venues_definitive_no_is_a_rejection(error: VenueError | None, kind: OutcomeKind) -> None:
    assert outcome_kind(error) is kind


def test_labels_that_orders_get_seldom_are_definite_as_well() -> None:
    """Unknown would be safe, but a question and a delay where the venue has said no."""
    kinds = [
        *(gate.KIND_OF_LABEL[label] for label in ("PRICE_OVER_LIQUIDATION", "PRICE_OVER_BANKRUPT")),
        *(gate.KIND_OF_LABEL[label] for label in ("RISK_LIMIT_TOO_LOW", "FUTURES_BALANCE_NOT_ENOUGH")),
        *(mexc.KIND_OF_CODE[code] for code in (-1128, 30025, 10098, 10101, 10102)),
        binance.KIND_OF_CODE[-4531],
    ]
    assert set(kinds) <= {"rejected", "funds", "row"}


@pytest.mark.parametrize(
    ("client", "part", "table"),
    [
        ("binance", "spot", binance.KIND_OF_CODE | binance._IN_TEXT),
        ("binance", "linear", binance.KIND_OF_CODE | binance._IN_TEXT),
        ("mexc", "", mexc.KIND_OF_CODE),
        ("gate", "", gate.KIND_OF_LABEL),
    ],
)
def test_every_code_that_ccxt_lists_is_in_the_table(client: str, part: str, table: dict[int | str, str]) -> None:
    exceptions = getattr(ccxt, client)().exceptions
    exact = {**exceptions["exact"], **exceptions.get(part, exceptions)["exact"]}
    listed = {int(code) if code.lstrip("-").isdigit() else code for code in exact if " " not in code}
    if client == "binance":  # the rest, common to all its products: margin, withdrawals, savings, loans
        listed = {code for code in listed if str(code) in exceptions["linear"]["exact"] or -3000 < code < 0}
    assert len(listed) > 50
    assert [code for code in sorted(listed, key=str) if code not in table] == []


def test_no_code_is_in_two_classes() -> None:
    assert sum(len(codes) for codes in mexc._KINDS.values()) == len(mexc.KIND_OF_CODE)
    assert sum(len(codes) for codes in binance._KINDS.values()) == len(binance.KIND_OF_CODE)
    assert sum(len(labels.split()) for labels in gate._KINDS.values()) == len(gate.KIND_OF_LABEL)


def test_venue_text_is_escaped_and_bounded() -> None:
    assert printable(b"\x1b[31mred\r\n\xff" + b"x" * 999) == ("?[31mred??\ufffd" + "x" * 999)[:200]

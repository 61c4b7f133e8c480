"""Signature vectors of the venues' documents, clock windows and the order of the checks."""

from __future__ import annotations

import hashlib

import pytest

from pipeline.sim.exchange.accounts import ApiKey, SimAccount
from pipeline.sim.wire import auth
from pipeline.sim.wire.gateio import auth as gateio
from pipeline.sim.wire.mexc import auth as mexc

MEXC_DOC_SECRET = "45d0b3c26f2644f19bfb98b07741b2f5"
MEXC_DOC_QUERY = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=11&recvWindow=5000&timestamp=1644489390087"
MEXC_KEY, MEXC_SECRET = "mx0vglTESTKEY0001", "0123456789abcdef0123456789abcdef"
GATE_KEY, GATE_SECRET, GATE_TS = "testkey0001", "testsecret0001", "1700000000"
NOW_MS = 1_700_000_000_000


def account(key: str, secret: str) -> dict[str, SimAccount]:
    return {key: SimAccount(uid="10001", keys={key: ApiKey(key, secret)})}


@pytest.mark.parametrize(
    ("secret", "query", "body", "signature"),
    [
        (MEXC_DOC_SECRET, MEXC_DOC_QUERY, "", "fd3e4e8543c5188531eb7279d68ae7d26a573d0fc5ab0d18eb692451654d837a"),
        (
            MEXC_DOC_SECRET,
            "symbol=BTCUSDT&side=BUY&type=LIMIT",
            "quantity=1&price=11&recvWindow=5000&timestamp=1644489390087",
            "d1a676610ceb39174c8039b3f548357994b2a34139a8addd33baadba65684592",
        ),
        (
            MEXC_SECRET,
            "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.001&price=65000.5&newClientOrderId=ab_1"
            "&timestamp=1700000000000&recvWindow=5000",
            "",
            "7ba2c75989176599a0a43f4f9b8e02274a142a57b86faa1c9443e7929bf3a486",
        ),
        (
            MEXC_SECRET,
            "timestamp=1700000000000&recvWindow=5000",
            "",
            "39d6a03555df2fb6f1ed45f422fec214791994ebcccbf06794141efd96d57bca",
        ),
    ],
)
def test_mexc_vectors_are_accepted_in_query_or_body(secret: str, query: str, body: str, signature: str) -> None:
    accounts = account("K", secret)
    stamp = int(mexc.mexc_params(query, body)["timestamp"])
    if body:
        body += f"&signature={signature}"
    else:
        query += f"&signature={signature}"
    params = mexc.mexc_params(query, body)
    assert mexc.verify_mexc(accounts, "K", query, body, params, stamp) is accounts["K"]


def mexc_code(*, key: str | None = MEXC_KEY, query: str, now_ms: int = NOW_MS) -> int | str:
    params = mexc.mexc_params(query, "")
    with pytest.raises(auth.AuthRefused) as refused:
        mexc.verify_mexc(account(MEXC_KEY, MEXC_SECRET), key, query, "", params, now_ms)
    return refused.value.code


def signed(query: str) -> str:
    return f"{query}&signature={auth.hmac_sha256_hex(MEXC_SECRET, query.encode())}"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (signed(f"timestamp={NOW_MS + 1000}"), 700003),
        (signed(f"timestamp={NOW_MS - 5001}"), 700003),
        (signed(f"timestamp={NOW_MS - 20000}&recvWindow=19999"), 700003),
        (signed(f"timestamp={NOW_MS}&recvWindow=60001"), 700005),
        (signed("recvWindow=5000"), 700004),
        (f"timestamp={NOW_MS}", 700004),
        (f"timestamp={NOW_MS}&signature={'0' * 64}", 700002),
        (
            signed(f"timestamp={NOW_MS}").upper().replace("TIMESTAMP", "timestamp").replace("SIGNATURE", "signature"),
            700002,
        ),
    ],
)
def test_mexc_refuses_with_the_sheets_codes(query: str, code: int) -> None:
    assert mexc_code(query=query) == code


def test_mexc_window_edges_are_accepted() -> None:
    for stamp, window in ((NOW_MS + 999, 5000), (NOW_MS - 5000, 5000), (NOW_MS - 60000, 60000)):
        query = signed(f"timestamp={stamp}&recvWindow={window}")
        params = mexc.mexc_params(query, "")
        mexc.verify_mexc(account(MEXC_KEY, MEXC_SECRET), MEXC_KEY, query, "", params, NOW_MS)
        assert mexc.mexc_deadline_ms(params) == stamp + window


def test_mexc_key_is_checked_before_the_signature() -> None:
    assert mexc_code(key=None, query="timestamp=1") == 400
    assert mexc_code(key="nobody", query="timestamp=1") == 10072


SPOT_BODY = (
    b'{"currency_pair":"BTC_USDT","side":"buy","type":"limit","account":"spot","amount":"0.001","price":"65000",'
    b'"time_in_force":"gtc","text":"t-ab1"}'
)
FUTURES_BODY = b'{"contract":"BTC_USDT","size":-5,"price":"65000.5","tif":"poc","text":"t-ab1"}'


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "sign"),
    [
        (
            "POST",
            "/api/v4/spot/orders",
            "",
            SPOT_BODY,
            "223857e21200ee890aeaab67c24a52eed85af6df457d3a63df425864b230bfef"
            "89edf31db5ed5df21d57122ab00bdac40ea895d7d1da9ff24022b0780dc23929",
        ),
        (
            "DELETE",
            "/api/v4/spot/orders/t-ab1",
            "currency_pair=BTC_USDT",
            b"",
            "f804620023c9bd6aa20ed963e6c16d205bd7d50a2223407b5ac2f0beb5c40bc5"
            "e89a331cb9eaffa4846fd9b4a4d5f5ba0d27469d987b1ad371844a35f386f7ad",
        ),
        (
            "POST",
            "/api/v4/futures/usdt/orders",
            "",
            FUTURES_BODY,
            "d553686b0f63dd5a6ee90e2ab9aef5fee56afc9e8b86f1a87c0d1abbaa4d5059"
            "583971fe38e65e8a0a15a603599e0b799610390097677190badf325829848e05",
        ),
        (
            "POST",
            "/api/v4/futures/usdt/positions/BTC_USDT/leverage",
            "leverage=10",
            b"",
            "c07742191566c2c95778576ec2b410a42563a5f33283732eed3fe18253f14e7a"
            "b6be10cbfea4957ad0763032196263749fe6abbc7ea31a59a3d558b3082a3771",
        ),
    ],
)
def test_gate_rest_vectors_are_accepted(method: str, path: str, query: str, body: bytes, sign: str) -> None:
    headers = {"key": GATE_KEY, "timestamp": GATE_TS, "sign": sign}
    accounts = account(GATE_KEY, GATE_SECRET)
    found = gateio.verify_gate_rest(accounts, headers, method=method, path=path, query=query, body=body, now_ms=NOW_MS)
    assert found is accounts[GATE_KEY]


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "sign"),
    [
        (
            "GET",
            "/api/v4/futures/orders",
            "contract=BTC_USD&status=finished&limit=50",
            b"",
            "55f84ea195d6fe57ce62464daaa7c3c02fa9d1dde954e4c898289c9a2407a3d6"
            "fb3faf24deff16790d726b66ac9f74526668b13bd01029199cc4fcc522418b8a",
        ),
        (
            "POST",
            "/api/v4/futures/orders",
            "",
            b'{"contract":"BTC_USD","type":"limit","size":100,"price":6800,"time_in_force":"gtc"}',
            "eae42da914a590ddf727473aff25fc87d50b64783941061f47a3fdb92742541f"
            "c4c2c14017581b4199a1418d54471c269c03a38d788d802e2c306c37636389f0",
        ),
    ],
)
def test_gate_vectors_of_the_document_are_reproduced(
    method: str, path: str, query: str, body: bytes, sign: str
) -> None:
    text = gateio.gate_rest_text(method, path, query, body, "1541993715")
    assert auth.hmac_sha512_hex("secret", text) == sign


def test_gate_query_is_signed_as_it_was_before_encoding() -> None:
    encoded = gateio.gate_rest_text("GET", "/p", "ids=1%2C2&text=t-a%20b", b"", "1")
    assert b"\nids=1,2&text=t-a b\n" in encoded
    assert hashlib.sha512(b"").hexdigest().encode() in encoded


@pytest.mark.parametrize(
    ("channel", "sign"),
    [
        (
            "spot.orders",
            "6887295d5d83ed889c57498aa6259cd74281945557dda4e30694819996403e7f"
            "099d8d2b9e0988fa8a26828029366548486e3190e18ad531404cfc98507c00e3",
        ),
        (
            "futures.orders",
            "06ffbe890850df3ba8869606162ed08c8b640aa4ab57338387925ac3a284ce84"
            "ee7ccac0d24b9758ec8ebd0addc51babf39342b320fee86a8a0ee9fe516f268a",
        ),
    ],
)
def test_gate_channel_vectors_are_accepted(channel: str, sign: str) -> None:
    accounts = account(GATE_KEY, GATE_SECRET)
    found = gateio.verify_gate_channel(
        accounts,
        {"method": "api_key", "KEY": GATE_KEY, "SIGN": sign},
        channel=channel,
        event="subscribe",
        time_s=int(GATE_TS),
        now_ms=NOW_MS,
    )
    assert found is accounts[GATE_KEY]


@pytest.mark.parametrize(
    ("channel", "sign"),
    [
        (
            "spot.login",
            "00d22263c1e1bf5c4d62662db4df930116166432533cbef11092648829bda0f9"
            "861534eaceb677f064194452e9f2813178caf7fb68fb1099e1bc46bb0bb1778f",
        ),
        (
            "futures.login",
            "b39f4ec9eb84c8b3a95c714b2dad7ce76e00836a13a987453f3af616a7cd4bbc"
            "8fc251f0425d6a5c025179af9ba15df84ed17d32194ff5737c90d7277efef958",
        ),
    ],
)
def test_gate_login_vectors_are_accepted(channel: str, sign: str) -> None:
    accounts = account(GATE_KEY, GATE_SECRET)
    found = gateio.verify_gate_login(
        accounts,
        channel=channel,
        api_key=GATE_KEY,
        signature=sign,
        timestamp=GATE_TS,
        req_param=b"",
        now_ms=NOW_MS,
    )
    assert found is accounts[GATE_KEY]


@pytest.mark.parametrize(
    ("headers", "status", "label"),
    [
        ({"key": GATE_KEY, "sign": "x"}, 400, "MISSING_REQUIRED_HEADER"),
        ({"key": "nobody", "sign": "x", "timestamp": "1699999939"}, 403, "REQUEST_EXPIRED"),
        ({"key": "nobody", "sign": "x", "timestamp": GATE_TS}, 401, "INVALID_KEY"),
        ({"key": GATE_KEY, "sign": "x", "timestamp": GATE_TS}, 401, "INVALID_SIGNATURE"),
    ],
)
def test_gate_checks_header_clock_key_signature_in_this_order(headers: dict[str, str], status: int, label: str) -> None:
    with pytest.raises(auth.AuthRefused) as refused:
        gateio.verify_gate_rest(
            account(GATE_KEY, GATE_SECRET), headers, method="GET", path="/p", query="", body=b"", now_ms=NOW_MS
        )
    assert (refused.value.status, refused.value.code) == (status, label)


def test_gate_expiry_header_refuses_late_requests_only() -> None:
    gateio.check_gate_exptime({}, NOW_MS)
    gateio.check_gate_exptime({"x-gate-exptime": str(NOW_MS)}, NOW_MS)
    with pytest.raises(auth.AuthRefused):
        gateio.check_gate_exptime({"x-gate-exptime": str(NOW_MS - 1)}, NOW_MS)

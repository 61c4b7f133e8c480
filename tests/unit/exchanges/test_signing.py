"""Signatures of every venue against known vectors (the venues' documentation's, and equal to ccxt's)."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchanges.binance.signing import BinanceSigner
from pipeline.exchanges.gateio.signing import GateSigner
from pipeline.exchanges.mexc.signing import MexcSigner
from pipeline.exchanges.transport.hmac_pads import HmacPads

MEXC_DOC_SECRET = "45d0b3c26f2644f19bfb98b07741b2f5"
MEXC_OWN = MexcSigner("mx0vglTESTKEY0001", "0123456789abcdef0123456789abcdef")
GATE_OWN = GateSigner("testkey0001", "testsecret0001")
BINANCE_OWN = BinanceSigner("testkey0001", "testsecret0001")
TS = 1_700_000_000
SPOT_BODY = (
    b'{"currency_pair":"BTC_USDT","side":"buy","type":"limit","account":"spot","amount":"0.001","price":"65000",'
    b'"time_in_force":"gtc","text":"t-ab1"}'
)
FUTURES_BODY = b'{"contract":"BTC_USDT","size":-5,"price":"65000.5","tif":"poc","text":"t-ab1"}'


@given(secret=st.text(min_size=1, max_size=200), message=st.binary(max_size=300))
def test_precomputed_pads_equal_the_standard_library(secret: str, message: bytes) -> None:
    for name in ("sha256", "sha512"):
        expected = hmac.new(secret.encode(), message, name).hexdigest()
        assert HmacPads(secret, name).hexdigest(message) == expected  # type: ignore[arg-type]


def test_pads_and_signers_never_show_the_secret() -> None:
    assert "secret" not in repr(HmacPads("secret", "sha256"))
    assert not hasattr(MEXC_OWN, "__dict__") and "0123456789abcdef" not in repr(MEXC_OWN)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            b"symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=11&recvWindow=5000&timestamp=1644489390087",
            "fd3e4e8543c5188531eb7279d68ae7d26a573d0fc5ab0d18eb692451654d837a",
        ),
        (
            # query up to type=LIMIT, the rest as body: joined without "&"
            b"symbol=BTCUSDT&side=BUY&type=LIMIT" + b"quantity=1&price=11&recvWindow=5000&timestamp=1644489390087",
            "d1a676610ceb39174c8039b3f548357994b2a34139a8addd33baadba65684592",
        ),
    ],
)
def test_mexc_documentation_vectors(payload: bytes, expected: str) -> None:
    assert MexcSigner("k", MEXC_DOC_SECRET).sign(payload) == expected


def test_mexc_place_and_account_queries_are_signed_as_ccxt_signs_them() -> None:
    order = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.001&price=65000.5&newClientOrderId=ab_1"
    signed = MEXC_OWN.signed_query(order, timestamp_ms=TS * 1000)
    assert signed.endswith("&signature=7ba2c75989176599a0a43f4f9b8e02274a142a57b86faa1c9443e7929bf3a486")
    assert signed.startswith(order + "&timestamp=1700000000000&recvWindow=5000&")
    account = MEXC_OWN.signed_query("", timestamp_ms=TS * 1000)
    assert account.endswith("&signature=39d6a03555df2fb6f1ed45f422fec214791994ebcccbf06794141efd96d57bca")


@pytest.mark.parametrize(("wanted", "sent"), [(0, 1), (1, 1), (60_000, 60_000), (90_000, 60_000)])
def test_mexc_window_stays_within_the_documented_bounds(wanted: int, sent: int) -> None:
    signed = MEXC_OWN.signed_query("", timestamp_ms=1, recv_window_ms=wanted)
    assert f"recvWindow={sent}&" in signed


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "expected"),
    [
        (
            "POST",
            "/api/v4/spot/orders",
            "",
            SPOT_BODY,
            "223857e21200ee890aeaab67c24a52eed85af6df457d3a63df425864b230bfef89edf31db5ed5df21d57122ab00bdac40ea895d7d1da9ff"
            "24022b0780dc23929",
        ),
        (
            "DELETE",
            "/api/v4/spot/orders/t-ab1",
            "currency_pair=BTC_USDT",
            b"",
            "f804620023c9bd6aa20ed963e6c16d205bd7d50a2223407b5ac2f0beb5c40bc5e89a331cb9eaffa4846fd9b4a4d5f5ba0d27469d987b1ad3"
            "71844a35f386f7ad",
        ),
        (
            "POST",
            "/api/v4/futures/usdt/orders",
            "",
            FUTURES_BODY,
            "d553686b0f63dd5a6ee90e2ab9aef5fee56afc9e8b86f1a87c0d1abbaa4d5059583971fe38e65e8a0a15a603599e0b799610390097677190"
            "badf325829848e05",
        ),
        (
            "POST",
            "/api/v4/futures/usdt/positions/BTC_USDT/leverage",
            "leverage=10",
            b"",
            "c07742191566c2c95778576ec2b410a42563a5f33283732eed3fe18253f14e7ab6be10cbfea4957ad0763032196263749fe6abbc7ea31a59"
            "a3d558b3082a3771",
        ),
    ],
)
def test_gate_rest_vectors(method: str, path: str, query: str, body: bytes, expected: str) -> None:
    assert GATE_OWN.rest(method, path, query, body, TS) == expected


def test_gate_documentation_vectors() -> None:
    signer = GateSigner("key", "secret")
    query = "contract=BTC_USD&status=finished&limit=50"
    assert signer.rest("GET", "/api/v4/futures/orders", query, b"", 1541993715) == (
        "55f84ea195d6fe57ce62464daaa7c3c02fa9d1dde954e4c898289c9a2407a3d6fb3faf24deff16790d726b66ac9f74526668b13bd010291"
        "99cc4fcc522418b8a"
    )
    body = b'{"contract":"BTC_USD","type":"limit","size":100,"price":6800,"time_in_force":"gtc"}'
    assert signer.rest("POST", "/api/v4/futures/orders", "", body, 1541993715) == (
        "eae42da914a590ddf727473aff25fc87d50b64783941061f47a3fdb92742541fc4c2c14017581b4199a1418d54471c269c03a38d788d802"
        "e2c306c37636389f0"
    )


def test_gate_body_hashes_of_the_sheets() -> None:
    assert hashlib.sha512(SPOT_BODY).hexdigest().startswith("3b842bf6")
    assert hashlib.sha512(FUTURES_BODY).hexdigest().startswith("9311f6f7")


def test_gate_rest_headers_carry_key_time_and_signature() -> None:
    headers = GATE_OWN.rest_headers("POST", "/api/v4/spot/orders", "", SPOT_BODY, TS)
    assert headers["KEY"] == "testkey0001" and headers["Timestamp"] == "1700000000"
    assert headers["SIGN"] == GATE_OWN.rest("POST", "/api/v4/spot/orders", "", SPOT_BODY, TS)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (
            "spot.orders",
            "6887295d5d83ed889c57498aa6259cd74281945557dda4e30694819996403e7f099d8d2b9e0988fa8a26828029366548486e3190e18ad531"
            "404cfc98507c00e3",
        ),
        (
            "futures.orders",
            "06ffbe890850df3ba8869606162ed08c8b640aa4ab57338387925ac3a284ce84ee7ccac0d24b9758ec8ebd0addc51babf39342b320fee86a"
            "8a0ee9fe516f268a",
        ),
    ],
)
def test_gate_channel_vectors(channel: str, expected: str) -> None:
    assert GATE_OWN.channel(channel, "subscribe", TS) == expected


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (
            "spot.login",
            "00d22263c1e1bf5c4d62662db4df930116166432533cbef11092648829bda0f9861534eaceb677f064194452e9f2813178caf7fb68fb1099"
            "e1bc46bb0bb1778f",
        ),
        (
            "futures.login",
            "b39f4ec9eb84c8b3a95c714b2dad7ce76e00836a13a987453f3af616a7cd4bbc8fc251f0425d6a5c025179af9ba15df84ed17d32194ff573"
            "7c90d7277efef958",
        ),
    ],
)
def test_gate_login_vectors(channel: str, expected: str) -> None:
    assert GATE_OWN.api_login(channel, b"", TS) == expected


@pytest.mark.parametrize(
    ("signer", "payload", "expected"),
    [
        (
            BinanceSigner("k", "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"),
            "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
            "&timestamp=1499827319559",
            "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
        ),
        (
            BINANCE_OWN,
            "timestamp=1700000000000&symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.001&price=65000.50"
            "&newClientOrderId=ab_1&recvWindow=10000",
            "f71553da049dc116dc8077f2bac40888c4d05c0306aec5622da5b6d19b0a4269",
        ),
        (
            BINANCE_OWN,
            "timestamp=1700000000000&symbol=BTCUSDT&origClientOrderId=ab_1&recvWindow=10000",
            "03148678fd28ae144826ff8b9a0435da72ebd3c2104e226399f18a5bd1aefa14",
        ),
        (
            BINANCE_OWN,
            "timestamp=1700000000000&symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTX&quantity=0.001&price=65000.5"
            "&newClientOrderId=ab_1&recvWindow=10000",
            "f86353c88aa0921f429a8fe7e3bb6847ffcbedf0aced3dfe8b321d9003d3cf9b",
        ),
    ],
)
def test_binance_rest_vectors(signer: BinanceSigner, payload: str, expected: str) -> None:
    assert signer.sign(payload.encode()) == expected

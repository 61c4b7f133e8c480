"""Request budgets of Gate.io by kind of call.

*Source:* Gate.io API v4, "Frequency limit rule": public 200 in 10 s of an endpoint and address; private 200 in 10 s of
an endpoint and account; cancel 200 a second; place 10 a second (spot), 100 a second (futures).
"""

from __future__ import annotations

from pipeline.exchanges.transport.throttle import Limit

SPOT_LIMITS = {
    "public": Limit(200, 10),
    "depth": Limit(200, 10),
    "private": Limit(200, 10, account=True),
    "query": Limit(200, 10, part=1.0, account=True),
    "cancel": Limit(200, 1, part=1.0, account=True),
    "order": Limit(10, 1, part=1.0, account=True),
}
FUTURES_LIMITS = {**SPOT_LIMITS, "order": Limit(100, 1, part=1.0, account=True)}

"""Checks and tests of one exchange as a report: what ran, how it ended, whether all of it complies.

``IntegrationTestRunner`` runs coroutines of one's own, and the suite's checks (``run_suite``). The environment:
``RUN_INTEGRATION_TESTS=0`` leaves out what needs a venue (the simulated ones need no network, so that they run unless
told otherwise), ``RUN_PERFORMANCE_TESTS=0`` the thresholds; ``TEST_TIMEOUT``: seconds that a test may take.
"""

from __future__ import annotations

import asyncio
import html
import os
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from pipeline.conformance.suite import FRAME_CHECKS, PRIVATE_CHECKS, check_names, fault_of, outcome_of
from pipeline.model.clock import mono_ns
from pipeline.model.errors import BadInput

TIMEOUT_S = 60.0
THRESHOLDS = "thresholds"


class TestStatus(StrEnum):
    """How a test ended."""

    __test__ = False  # nothing for pytest to collect

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"


class TestCategory(StrEnum):
    """What a test is about."""

    __test__ = False

    INTERFACE = "interface"
    MARKET_DATA = "market_data"
    PERFORMANCE = "performance"
    ORDERS = "orders"


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """One test. ``said``: why it did not pass, or was left out; "" where it passed."""

    __test__ = False

    name: str
    category: TestCategory
    status: TestStatus
    seconds: float
    said: str = ""


class TestReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every test of one runner. ``compliance_status``: by category whether any ran and none failed, and
    ``overall_compliant``: whether that holds of each category that has tests."""

    __test__ = False

    exchange: str
    suite: str
    overall_status: TestStatus
    compliance_status: dict[str, bool]
    results: list[TestResult]

    def as_html(self) -> str:
        """One page that needs nothing else."""
        rows = "".join(
            f'<tr class="{row.status}"><td>{row.category}<td>{html.escape(row.name)}<td>{row.status}'
            f"<td>{row.seconds:.1f}<td>{html.escape(row.said)}"
            for row in self.results
        )
        title = f"{html.escape(self.exchange)}: {html.escape(self.suite)}: {self.overall_status}"
        return (
            f"<!doctype html><meta charset=utf-8><title>{title}</title><style>body{{font-family:sans-serif}}"
            "td{padding:2px 8px;vertical-align:top}.failed,.timeout{background:#fdd}.skipped{color:#777}</style>"
            f"<h1>{title}</h1><table><tr><th>category<th>test<th>status<th>seconds<th>found{rows}</table>\n"
        )


class IntegrationTestRunner:
    """Runs tests one after another and keeps how each ended; none ends the others."""

    def __init__(self, exchange: str, suite: str = "conformance") -> None:
        self.exchange = exchange
        self.suite = suite
        self.results: list[TestResult] = []

    async def run_test_with_timeout(
        self,
        test: Callable[[], Awaitable[object]],
        name: str,
        category: TestCategory,
        timeout_seconds: float | None = None,
    ) -> TestResult:
        """One test: it fails by raising. ``timeout_seconds``: default ``TEST_TIMEOUT`` of the environment."""
        within_s = timeout_from_environment() if timeout_seconds is None else timeout_seconds
        began_ns = mono_ns()
        status, said = TestStatus.PASSED, ""
        try:
            async with asyncio.timeout(within_s) as limit:
                await test()
        except Exception as error:  # noqa: BLE001  whatever a test raises is its result
            late = limit.expired() and isinstance(error, TimeoutError)
            status = TestStatus.TIMEOUT if late else TestStatus.FAILED
            said = f"not done within {within_s:g} s" if late else fault_of(error)
        return self._keep(name, category, status, (mono_ns() - began_ns) / 1e9, said)

    async def run_suite(self, dialect: str, only_market: str = "") -> None:
        """Every check of the conformance suite that applies to a dialect, or to one market of it, as tests."""
        for market, check in check_names(dialect):
            if only_market not in ("", market):
                continue
            category, name = category_of(check), f"{market}: {check}"
            switch = "RUN_PERFORMANCE_TESTS" if check == THRESHOLDS else "RUN_INTEGRATION_TESTS"
            if category is not TestCategory.INTERFACE and os.environ.get(switch) == "0":
                self._keep(name, category, TestStatus.SKIPPED, 0.0, f"{switch}=0")
                continue

            async def run(market: str = market, check: str = check) -> None:
                outcome = await outcome_of(dialect, market, check)
                if outcome.said:
                    raise BadInput(outcome.said)

            await self.run_test_with_timeout(run, name, category)

    def _keep(self, name: str, category: TestCategory, status: TestStatus, seconds: float, said: str) -> TestResult:
        result = TestResult(name=name, category=category, status=status, seconds=round(seconds, 3), said=said)
        self.results.append(result)
        return result

    def generate_report(self) -> TestReport:
        """What ran so far. Of what nothing ran nothing is known: neither the category complies, nor the whole."""
        bad, ran, left_out = set[TestCategory](), set[TestCategory](), {row.category for row in self.results}
        for row in self.results:
            if row.status is not TestStatus.SKIPPED:
                (ran if row.status is TestStatus.PASSED else bad).add(row.category)
        left_out -= ran | bad
        compliant = {category.value: category in ran - bad for category in TestCategory}
        status = TestStatus.FAILED if bad else TestStatus.PASSED if ran and not left_out else TestStatus.SKIPPED
        return TestReport(
            exchange=self.exchange,
            suite=self.suite,
            overall_status=status,
            compliance_status={**compliant, "overall_compliant": status is TestStatus.PASSED},
            results=list(self.results),
        )


def category_of(check: str) -> TestCategory:
    """What a check of the suite is about."""
    if check == THRESHOLDS:
        return TestCategory.PERFORMANCE
    if any(check in table for table in FRAME_CHECKS.values()):
        return TestCategory.INTERFACE
    private = any(check in table for table in PRIVATE_CHECKS.values())
    return TestCategory.ORDERS if private else TestCategory.MARKET_DATA


def timeout_from_environment() -> float:
    """Seconds of ``TEST_TIMEOUT``; 60 without it. Raises ``BadInput`` for what is no positive number."""
    text = os.environ.get("TEST_TIMEOUT", "")
    if not text:
        return TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise BadInput(f"TEST_TIMEOUT: found {text!r}, wanted seconds")
    return seconds

"""Tests of one's own and the suite's checks as a report."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.conformance.runner import IntegrationTestRunner, TestCategory, TestStatus, timeout_from_environment
from pipeline.model.errors import BadInput


async def passes() -> None:
    pass


async def fails() -> None:
    raise BadInput("found <one>, wanted another")


async def never_ends() -> None:
    await asyncio.Event().wait()


def report_of(*tests: object) -> IntegrationTestRunner:
    runner = IntegrationTestRunner("acme", "its own")

    async def run() -> None:
        for test in tests:
            await runner.run_test_with_timeout(test, test.__name__, TestCategory.MARKET_DATA, timeout_seconds=0.05)  # type: ignore[attr-defined, arg-type]

    asyncio.run(run())
    return runner


def test_each_end_of_a_test_is_kept_and_ends_no_other() -> None:
    report = report_of(fails, never_ends, passes).generate_report()
    assert [row.status for row in report.results] == [TestStatus.FAILED, TestStatus.TIMEOUT, TestStatus.PASSED]
    assert [row.said for row in report.results] == ["found <one>, wanted another", "not done within 0.05 s", ""]
    assert report.overall_status is TestStatus.FAILED
    assert not any(report.compliance_status.values()), "of the other categories nothing ran"
    assert report.compliance_status["overall_compliant"] is False
    page = report.as_html()
    assert "found &lt;one&gt;" in page and "<script" not in page


def test_what_passes_complies_and_what_did_not_run_does_not() -> None:
    passed = report_of(passes).generate_report().compliance_status
    assert {name for name, holds in passed.items() if holds} == {"market_data", "overall_compliant"}
    nothing = IntegrationTestRunner("acme").generate_report()
    assert nothing.overall_status is TestStatus.SKIPPED and nothing.compliance_status["overall_compliant"] is False


def test_the_environment_leaves_out_what_needs_a_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_INTEGRATION_TESTS", "0")
    monkeypatch.setenv("RUN_PERFORMANCE_TESTS", "0")
    runner = IntegrationTestRunner("mexc")
    asyncio.run(runner.run_suite("mexc"))
    ran = {row.name: row.status for row in runner.results if row.status is not TestStatus.SKIPPED}
    assert ran == dict.fromkeys(
        ("spot: parts", "spot: golden frames", "spot: cut frames", "spot: sequence"), TestStatus.PASSED
    )
    left_out = {row.name: row.said for row in runner.results if row.status is TestStatus.SKIPPED}
    assert left_out["spot: order life"] == "RUN_INTEGRATION_TESTS=0"
    assert left_out["spot: thresholds"] == "RUN_PERFORMANCE_TESTS=0"
    report = runner.generate_report()
    assert report.overall_status is TestStatus.SKIPPED, "no order and no market data was looked at"
    assert {name for name, holds in report.compliance_status.items() if holds} == {"interface"}


@pytest.mark.parametrize(("text", "wanted"), [("", 60.0), ("7.5", 7.5)])
def test_the_time_limit_is_the_environments(monkeypatch: pytest.MonkeyPatch, text: str, wanted: float) -> None:
    monkeypatch.setenv("TEST_TIMEOUT", text)
    assert timeout_from_environment() == wanted


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TEST_TIMEOUT", text)
    with pytest.raises(BadInput, match="TEST_TIMEOUT: found"):
        timeout_from_environment()

"""The two scripts about exchanges: names, reports, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.conformance.figures import Figure
from pipeline.model.errors import BadInput
from tests.paths import REPO
from workers.report import compliance


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("mexc", ("mexc", "")), ("MEXC_SPOT", ("mexc", "spot")), (" binance_futures", ("binance", "futures"))],
)
def test_a_dialect_or_one_of_its_venues_is_meant(name: str, wanted: tuple[str, str]) -> None:
    assert compliance.named_market(name) == wanted


@pytest.mark.parametrize("name", ["acme", "mexc_futures", "", "mexc_spot_x"])
def test_what_is_no_exchange_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(BadInput, match=r"wanted one of binance, .*mexc_spot"):
        compliance.named_market(name)


def test_the_report_of_a_dialect_is_written_and_decides_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_INTEGRATION_TESTS", "0")
    monkeypatch.setenv("RUN_PERFORMANCE_TESTS", "0")
    page = tmp_path / "report.html"
    assert compliance.verify(["mexc_spot", "--json", "--html", str(page)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["overall_status"] == "skipped" and found["compliance_status"]["overall_compliant"] is False
    assert "golden frames" in page.read_text()
    assert compliance.verify(["mexc_spot"]) == 1
    assert "mexc is not judged: nothing ran of market_data, orders, performance" in capsys.readouterr().out
    assert compliance.verify(["acme"]) == 2
    assert "found exchange 'acme'" in capsys.readouterr().err
    assert compliance.verify(["mexc", "--html", str(tmp_path / "none" / "x.html")]) == 2


def test_figures_are_shown_beside_their_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        Figure(name="question", unit="ms", limit=50.0, best=2.0, p50=3.0, p99=70.0),
        Figure(name="frames", unit="1/s", limit=1000.0, best=900.0, p50=800.0, p99=10.0, at_most=False),
    ]

    async def measured(dialect: str, market: str) -> list[Figure]:
        return rows[:1] if market == "spot" else rows

    monkeypatch.setattr(compliance, "_figures", measured)
    page = tmp_path / "figures.html"
    assert compliance.measure_all(["--exchanges", "mexc,gateio_spot", "--json", "--html", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)["exchanges"]
    assert set(found) == {"mexc_spot", "gateio_spot"} and found["mexc_spot"][0]["holds"] is True
    assert "&lt;= 50 ms" in page.read_text()
    assert compliance.measure_all(["--exchanges", "gateio"]) == 1
    assert "misses" in capsys.readouterr().out


@pytest.mark.parametrize("script", ["verify_interface_compliance.py", "generate_performance_report.py"])
def test_the_scripts_start(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(REPO / "scripts" / script), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and script in done.stdout

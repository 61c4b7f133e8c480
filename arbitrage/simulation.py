"""The product's simulated exchanges for a Python program: real wire formats on loopback, no key of yours needed.

async with SimulatedExchanges() as simulated:
    engine = ArbitrageEngine(config, simulated.public_exchanges, simulated.private_exchanges)
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from arbitrage.config import ArbitrageConfig
from arbitrage.exchange_names import ExchangeName
from arbitrage.exchanges import PrivateExchangeInterface, PublicExchangeInterface, private_class, public_class
from pipeline.model.config_load import config_from_mapping
from workers.demo.simulator import SimulatorProcess, keys_of


class SimulatedExchanges:
    """A process with simulated exchanges; it ends with this program at the latest.

    ``public_exchanges``, ``private_exchanges``: what an engine on them is given. ``settings``: thresholds and limits of
    the scenario, as sections of a configuration.
    """

    def __init__(self, *, scenario: str = "demo", seed: int = 1) -> None:
        """``scenario``: a packaged one (``arb sim --help``) or a file."""
        self._scenario, self._seed = scenario, seed
        self._folder: Path | None = None
        self._process: SimulatorProcess | None = None
        self._access: dict[ExchangeName, dict[str, Any]] = {}
        self.public_exchanges: dict[ExchangeName, PublicExchangeInterface] = {}
        self.private_exchanges: dict[ExchangeName, PrivateExchangeInterface] = {}
        self.settings: dict[str, Any] = {}

    def start(self) -> SimulatedExchanges:
        """Start the process and wait until its ports listen; a start that fails leaves none. Raises SimulatorError."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="arb-sim-"))
        log = self._folder / "simulator.log"
        self._process = SimulatorProcess(seed=self._seed, scenario=self._scenario, log=log)
        reported = self._process.wait_ready()
        engine, keys = reported["engine_config"], keys_of(reported["venues"])
        for name, entry in engine["exchanges"].items():
            exchange, markets = ExchangeName(name), entry["markets"]
            self.public_exchanges[exchange] = public_class(exchange)(endpoints=markets)
            key = keys[name]
            self._access[exchange] = {
                "api_key": key.api_key,
                "secret_key": key.api_secret,
                "uid": key.uid,
                "endpoints": markets,
            }
            self.private_exchanges[exchange] = private_class(exchange)(**self._access[exchange])
        self.settings = {key: value for key, value in engine.items() if key not in ("engine_name", "mode", "exchanges")}

    def config(self, engine_name: str, **changes: Any) -> ArbitrageConfig:
        """A configuration with the scenario's thresholds and limits; ``changes``: fields of ``ArbitrageConfig``."""
        found = ArbitrageConfig.of_engine(config_from_mapping({**self.settings, "engine_name": engine_name}))
        fields = {name: getattr(found, name) for name in found.__struct_fields__}
        settings = {**found.settings, "exchanges": {}}
        return ArbitrageConfig(**{**fields, "settings": settings, "mode": None, **changes})

    def access(self, exchange: ExchangeName) -> dict[str, Any]:
        """What a private exchange object is made from: ``api_key``, ``secret_key``, ``uid``, ``endpoints``."""
        return dict(self._access[exchange])

    def control(self, path: str, body: bytes | None = None) -> Any:
        """The simulator's control endpoint: ``/ledger``, and ``/faults`` with a body. Raises SimulatorError."""
        assert self._process is not None, "start() first"
        return self._process.control(path, body)

    def clear_faults(self) -> None:
        """Remove every fault rule. Raises SimulatorError."""
        assert self._process is not None, "start() first"
        self._process.clear_faults()

    def stop(self) -> None:
        """End the process and remove its folder."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def __aenter__(self) -> SimulatedExchanges:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

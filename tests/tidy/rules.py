"""The rules of this tree: order of the rooms, and every exception with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.tidy import dead, faults, imports, readmes, sizes, texts
from tests.tidy.tree import Finding, Tree

PRODUCT = ("shm", "pipeline", "workers")

#: A room imports only rooms above it in this list (and itself).
ORDER = (
    "shm",
    "pipeline.economics",
    "pipeline.model",
    "pipeline.templates",
    "pipeline.book",
    "pipeline.detection",
    "pipeline.execution",
    "pipeline.risk",
    "pipeline.fast_entry",
    "pipeline.recovery",
    "pipeline.core",
    "pipeline.takeover",
    "pipeline.rehearsal",
    "pipeline.exchanges",
    "pipeline.sim",
    "pipeline.virtual",
    "pipeline",
    "workers",
    "bench",
    "tests",
)
#: Neither imports the other: what both build on lies below both.
APART = (frozenset({"bench", "tests"}),)

#: Files of more than 500 lines: path -> reason. At most four.
LONG_FILES: Mapping[str, str] = {}

#: Definitions whose users are outside the tree: "path:name" -> reason.
_COMPONENT = (
    "one of the nine components: its public methods are ways in for a Python user (tests/unit/test_components.py)"
)
_FORMAT = "part of the journal's format: read by whoever reads the journal or the recorder's files"
_CAMPAIGNS = "an invariant of the check; the fault campaigns hold a run to it (tests/campaigns/kills.py)"
_VIRTUAL = "whole cases are tested in it (tests/unit/virtual)"
PUBLIC: Mapping[str, str] = {
    "workers/engine.py:ArbitrageEngine": "the Python user's way in to a whole engine",
    "workers/engine.py:ArbitrageEngine.*": _COMPONENT,
    "pipeline/market_data.py:MarketDataAggregator.*": _COMPONENT,
    "pipeline/detection/detector.py:OpportunityDetector.*": _COMPONENT,
    "pipeline/execution/operation_states.py:StateController.*": _COMPONENT,
    "pipeline/execution/positions.py:PositionManager.*": _COMPONENT,
    "pipeline/risk/manager.py:RiskManager.*": _COMPONENT,
    "pipeline/rehearsal/detection_world.py:World.*": "what tests do to a world",
    "pipeline/detection/opportunity_record.py:OpportunityRecord.as_opportunity": "given to a Python user's callback",
    "pipeline/model/enums.py:AccountState.NEVER": "the code of a row that nobody has written yet",
    "pipeline/model/enums.py:ExchangeName": "the Python user's names of exchanges",
    "pipeline/execution/operation_states.py:state_diagram": "draws the README's diagram; a test compares them",
    "pipeline/execution/records.py:ReconcileRecord.began_venue_wall_ms": _FORMAT,
    "pipeline/execution/records.py:ReconcileRecord.orders_seen": _FORMAT,
    "pipeline/execution/records.py:ReconcileRecord.fills_new": _FORMAT,
    "shm/declare.py:drawing": "the drawing in each table's docstring, compared by a test",
    "shm/pages.py:HaltPage.block_instrument": "an operator's tool may block one instrument; both paths obey the word",
    "shm/segment.py:trust_owner_uids": "for deployments with several users (tests/host/test_shm_two_users.py)",
    "workers/detector.py:attach_detector": "the Python user's way in to a running instance's opportunities",
    "workers/demo/run_checker.py:check_halt": _CAMPAIGNS,
    "workers/demo/run_checker.py:check_fresh": _CAMPAIGNS,
    "workers/demo/run_checker.py:check_collar": _CAMPAIGNS,
    "pipeline/virtual/world.py:VirtualWorld.follow_scenario": _VIRTUAL,
}

#: Files whose subject are forbidden marks.
MARKS_EXEMPT = ("tests/tidy/texts.py", "tests/unit/tidy/test_walls.py")

#: Files that may read a clock of their own.
CLOCKS = ("shm/", "pipeline/model/clock.py", "pipeline/sim/", "workers/")
#: Files that may open sockets or run an event loop.
SOCKETS = (
    "pipeline/exchanges/",
    "pipeline/sim/",
    "workers/",
    "pipeline/market_data.py",
    "pipeline/paper.py",
    "pipeline/recovery/",
)

Check = Callable[[Tree, Path], list[Finding]]

#: Every rule: name -> the check over (tree, its root).
CHECKS: Mapping[str, Check] = {
    "import order": lambda tree, root: imports.import_order(tree, ORDER, APART),
    "import cycles": lambda tree, root: imports.import_cycles(tree),
    "string imports": lambda tree, root: imports.unreadable_string_imports(tree),
    "may import": lambda tree, root: imports.may_import(tree, ORDER),
    "paths in READMEs": lambda tree, root: texts.readme_paths(tree),
    "tables in READMEs": lambda tree, root: readmes.readme_tables(tree),
    "tests import no tests": lambda tree, root: imports.tests_import_no_tests(tree),
    "modules in their places": lambda tree, root: imports.libraries(tree, PRODUCT, CLOCKS, SOCKETS),
    "dead definitions": lambda tree, root: dead.dead_definitions(tree, PUBLIC),
    "function length": lambda tree, root: sizes.long_functions(tree),
    "file length": lambda tree, root: sizes.long_files(tree, LONG_FILES),
    "folder size": lambda tree, root: sizes.full_folders(tree),
    "module docstrings": lambda tree, root: texts.module_docstrings(tree, PRODUCT),
    "docstrings of what is imported": lambda tree, root: texts.imported_docstrings(tree, (*PRODUCT, "bench")),
    "sync pairs": lambda tree, root: texts.sync_pairs(tree, PRODUCT),
    "faults": lambda tree, root: faults.faults_tried(tree, root),
    "forbidden calls": lambda tree, root: texts.forbidden_calls(tree, PRODUCT),
    "forbidden marks": lambda tree, root: texts.forbidden_marks(root, tree.files, MARKS_EXEMPT),
    "format": lambda tree, root: texts.format_check(root),
}

"""The rules of this tree: order of the rooms, and every exception with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.tidy import capitals, dead, docstrings, exchange_names, faults, imports, mirror, readmes, sizes, texts, words
from tests.tidy.tree import Finding, Tree

PRODUCT = ("shm", "pipeline", "workers", "arbitrage")

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
    "pipeline.chaos",
    "pipeline.conformance",
    "pipeline",
    "workers",
    "arbitrage",
    "scripts",
    "examples",
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
_VIRTUAL = "whole cases are tested in it (tests/unit/virtual)"
_API = "the interface of the Python package: programs outside the tree use it"
PUBLIC: Mapping[str, str] = {
    "examples/error_handling.py:PUBLIC": "written as the documents show it",
    "examples/*": "programs to be read and copied; tests run every one",
    "arbitrage/detector.py:OpportunityDetector.*": _API,
    "arbitrage/direct/composite.py:CompositeExchange.*": _API,
    "arbitrage/direct/rest.py:RestClient.*": _API,
    "arbitrage/direct/structs.py:Order.is_done": _API,
    "arbitrage/exchanges.py:PrivateExchangeInterface.*": _API,
    "arbitrage/market_data.py:MarketDataAggregator.*": _API,
    "arbitrage/positions.py:PositionManager.*": _API,
    "arbitrage/recovery.py:RecoveryManager.*": _API,
    "arbitrage/states.py:StateController.*": _API,
    "pipeline/market_data.py:MarketDataAggregator.*": _COMPONENT,
    "pipeline/detection/detector.py:OpportunityDetector.*": _COMPONENT,
    "pipeline/rehearsal/detection_world.py:World.*": "what tests do to a world",
    "pipeline/detection/opportunity_record.py:OpportunityRecord.as_opportunity": "given to a Python user's callback",
    "arbitrage/exchange_names.py:ExchangeName._missing_": "the standard library's enum asks it for a name it lacks",
    "pipeline/execution/operation_states.py:state_diagram": "draws the README's diagram; a test compares them",
    "pipeline/execution/records.py:ReconcileRecord.began_venue_wall_ms": _FORMAT,
    "pipeline/execution/records.py:ReconcileRecord.orders_seen": _FORMAT,
    "pipeline/execution/records.py:ReconcileRecord.fills_new": _FORMAT,
    "pipeline/exchanges/market_data_client.py:MarketDataClient": "the skeleton of a new dialect's client builds on it",
    "shm/declare.py:drawing": "the drawing in each table's docstring, compared by a test",
    "shm/pages.py:HaltPage.block_instrument": "an operator's tool may block one instrument; both paths obey the word",
    "workers/detector.py:attach_detector": "the Python user's way in to a running instance's opportunities",
    "pipeline/virtual/world.py:VirtualWorld.follow_scenario": _VIRTUAL,
}

#: Files that are run and never imported: path -> by whom.
ENTRY_FILES: Mapping[str, str] = {
    "pipeline/exchanges/market_data_client.py": "`arb dialect new` builds a client on it until there are orders",
    "workers/control_plane/systemd_units.py": "started by scripts/",
    "workers/monitor/boards.py": "started by scripts/boards",
    "workers/reference/pictures.py": "started by scripts/pictures",
    "workers/reference/write.py": "started by scripts/docs",
}

_LIBC = "defined by the C library and the kernel"
#: Names in capitals that texts mention and others define -> reason.
CAPITALS_OF_OTHERS: Mapping[str, str] = {
    "CLOCK_REALTIME": _LIBC,
    "PIPE_BUF": _LIBC,
    "PR_GET_DUMPABLE": _LIBC,
    "ETH_USD": "a contract in a payload of Gate.io's manual",
}

_WORLD = "a world with venues of its own, named as a scenario names them"
#: Files that may name exchanges in code: path pattern -> reason.
NAME_EXCHANGES: Mapping[str, str] = {
    "pipeline/chaos/*": _WORLD,
    "pipeline/rehearsal/*": _WORLD,
    "pipeline/virtual/margin_storm.py": _WORLD,
    "pipeline/model/network_names.py": "names of chains, of which one is called like an exchange",
}

#: Folders of unit tests that mirror no package -> reason.
TESTS_OF_OTHERS: Mapping[str, str] = {
    "tests/unit/deploy": "tests of deploy/",
    "tests/unit/docs": "tests of docs/",
    "tests/unit/fuzz": "tests of tests/campaigns/fuzz",
    "tests/unit/tidy": "tests of tests/tidy",
    "tests/unit/virtual/external": "whole cases on virtual time; beside the others there would be more than 25 files",
}
#: Words that the tree's list forbids, where they are the field's: (path pattern, word) -> reason.
PRIVATE_WORDS: Mapping[tuple[str, str], str] = {
    ("workers/view/top.py", "press"): "keys of a keyboard are pressed",
    ("tests/unit/workers/view/test_top_app.py", "press"): "textual's method that presses a key",
    ("workers/monitor/alert_list.py", "told"): "fields of a file that is kept",
    ("tests/unit/workers/monitor/test_alert_list.py", "told"): "fields of a file that is kept",
}
#: Files whose subject are those words.
WORDS_EXEMPT = ("tests/tidy/words.py", "tests/tidy/rules.py", "tests/unit/tidy/test_words.py")

#: Files whose subject are forbidden marks.
MARKS_EXEMPT = ("tests/tidy/texts.py", "tests/unit/tidy/test_walls.py")

#: Files that may read a clock of their own.
CLOCKS = ("shm/", "pipeline/model/clock.py", "pipeline/sim/", "workers/", "arbitrage/")
#: Files that may open sockets or run an event loop.
SOCKETS = (
    "pipeline/exchanges/",
    "pipeline/sim/",
    "pipeline/conformance/",
    "workers/",
    "arbitrage/",
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
    "tests mirror the tree": lambda tree, root: mirror.mirrored(tree, PRODUCT, TESTS_OF_OTHERS),
    "tests import no tests": lambda tree, root: imports.tests_import_no_tests(tree),
    "modules in their places": lambda tree, root: imports.libraries(tree, PRODUCT, CLOCKS, SOCKETS),
    "dead definitions": lambda tree, root: dead.dead_definitions(tree, PUBLIC),
    "dead files": lambda tree, root: dead.dead_files(tree, PRODUCT, ENTRY_FILES),
    "function length": lambda tree, root: sizes.long_functions(tree),
    "file length": lambda tree, root: sizes.long_files(tree, LONG_FILES),
    "folder size": lambda tree, root: sizes.full_folders(tree),
    "module docstrings": lambda tree, root: texts.module_docstrings(tree, PRODUCT),
    "docstrings of what is imported": lambda tree, root: docstrings.imported_docstrings(tree, (*PRODUCT, "bench")),
    "names in capitals": lambda tree, root: capitals.undefined_capitals(
        tree, root, (*PRODUCT, "bench", "tests"), CAPITALS_OF_OTHERS
    ),
    "sync pairs": lambda tree, root: texts.sync_pairs(tree, PRODUCT),
    "exchange names": lambda tree, root: exchange_names.exchange_names(tree, root, PRODUCT, NAME_EXCHANGES),
    "faults": lambda tree, root: faults.faults_tried(tree, root),
    "forbidden calls": lambda tree, root: texts.forbidden_calls(tree, PRODUCT),
    "forbidden marks": lambda tree, root: texts.forbidden_marks(root, tree.files, MARKS_EXEMPT),
    "private words": lambda tree, root: words.private_words(tree, root, PRIVATE_WORDS, WORDS_EXEMPT),
    "format": lambda tree, root: texts.format_check(root),
}

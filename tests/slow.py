"""Which tests ``scripts/check`` leaves out; ``scripts/test`` runs them."""

from __future__ import annotations

#: Files and folders of which each takes seconds: property tests by the thousand, real processes, recordings.
SLOW = (
    "tests/clients/",
    "tests/stress/",
    "tests/unit/book/test_freshness.py",
    "tests/unit/book/test_recording_capture_files.py",
    "tests/unit/book/test_recording_captures.py",
    "tests/unit/book/test_recording_unseen.py",
    "tests/unit/book/test_sequencer.py",
    "tests/unit/detection/test_depth_walk.py",
    "tests/unit/execution/test_retirement.py",
    "tests/unit/exchanges/test_feed_codec_equality.py",
    "tests/unit/exchanges/test_gateway.py",
    "tests/unit/exchanges/test_market_feed.py",
    "tests/unit/exchanges/test_order_session.py",
    "tests/unit/exchanges/test_scan_bounds.py",
    "tests/unit/fast_entry/test_entry.py",
    "tests/unit/fast_entry/test_rules.py",
    "tests/unit/shm/test_interleavings.py",
    "tests/unit/shm/test_jitcache.py",
    "tests/unit/shm/test_jitlink.py",
    "tests/unit/shm/test_sources.py",
    "tests/unit/sim/test_market.py",
    "tests/unit/sim/test_market_statistics.py",
    "tests/unit/sim/test_twin.py",
    "tests/unit/test_core_world.py",
    "tests/unit/test_replay_exact.py",
    "tests/unit/virtual/test_margin_storm.py",
    "tests/unit/workers/test_dead_man.py",
    "tests/unit/workers/test_detector_process.py",
    "tests/unit/workers/monitor/test_process.py",
    "tests/unit/workers/test_fork_server.py",
    "bench/tests/",
)

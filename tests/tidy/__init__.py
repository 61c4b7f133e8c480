"""Rules of the source tree that a machine checks: imports, sizes, dead code, docstrings, READMEs, SYNC, format."""

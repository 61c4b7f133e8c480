"""The judge of a tape: rows of venues and records of a core, as plain values, each looked at at its moment."""

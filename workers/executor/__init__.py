"""The executor process: opportunities in, orders out, truth in the journal."""

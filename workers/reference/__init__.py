"""The reference pages of ``docs/reference``, made of the code: commands, configuration, refusals, alerts, metrics."""

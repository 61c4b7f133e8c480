"""Processes of tests whose clocks go on only while nothing is to be done: a minute of waiting takes a second."""

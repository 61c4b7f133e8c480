"""A key that stands twice in one mapping is an error; everything else is read as YAML."""

from __future__ import annotations

import pytest
import yaml

from pipeline.model.strict_yaml import RepeatedKeys, load_strict


def test_a_repeated_key_is_named_with_both_lines() -> None:
    with pytest.raises(RepeatedKeys) as caught:
        load_strict("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert caught.value.errors == [
        "line 2: c stands twice, first in line 2; keep one of them",
        "line 3: a stands twice, first in line 1; keep one of them",
    ]


@pytest.mark.parametrize(
    "text", ["a: {x: 1}\nb: {x: 2}\n", "base: &b {x: 1}\nc: {<<: *b, x: 2}\n", "[1, {a: 1}]\n", "", "a: !!str 1\n"]
)
def test_the_rest_is_read_as_yaml_reads_it(text: str) -> None:
    assert load_strict(text) == yaml.safe_load(text)


def test_no_object_is_built_from_a_tag() -> None:
    with pytest.raises(yaml.YAMLError):
        load_strict("a: !!python/object/apply:os.getcwd []\n")

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine_stats_exporter.layout import lay_out, quoted
from stats_planting import SAMPLES

DOCUMENTS = sorted(path.name for path in SAMPLES.glob("*.json"))
VALUES = st.recursive(
    st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_captured_document_is_laid_out_to_the_byte(name: str) -> None:
    captured = (SAMPLES / name).read_text()
    assert lay_out(json.loads(captured), minified="minified" in name) == captured


@given(value=VALUES)
def test_any_value_is_the_same_json(value: Any) -> None:
    assert json.loads(lay_out(value)) == value
    assert json.loads(lay_out(value, minified=True)) == value


def test_what_is_no_text_is_escaped() -> None:
    assert json.loads(quoted("caf\udce9")) == "caf\\udce9"
    assert json.loads(quoted('\x00\x1f\x7f"\\\n')) == '\x00\x1f\x7f"\\\n'


@pytest.mark.parametrize("value", [1.5, None, b"bytes", {1}])
def test_nothing_else_is_laid_out(value: Any) -> None:
    with pytest.raises(TypeError):
        lay_out({"key": value})

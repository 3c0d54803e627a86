from hypothesis import given
from hypothesis import strategies as st

from palatine_stats_exporter.template import MARK, Part, Template, parts

VALUES = st.lists(st.lists(st.integers(-(1 << 63), 1 << 64), min_size=3, max_size=3), min_size=3, max_size=3)


@given(turns=st.lists(VALUES, min_size=1, max_size=6))
def test_whatever_moves_the_text_is_what_formatting_all_of_it_would_give(turns: list[list[list[int]]]) -> None:
    """Three rows of two columns, and a third column in odd places around them."""
    text = b"%s \x01|" + b"a\x01b\x01%d;" * 3 + b"\x01\x01"
    columns = [
        [Part(slice(1, 7, 2), slice(None))],
        [Part(slice(2, 7, 2), slice(None))],
        parts([0, 7, 8], [2, 0, 1]),
    ]
    template = Template(text, columns)
    kept: list[list[int]] = [[], [], []]
    for turn in turns:
        kept = [known if known == column else column for known, column in zip(kept, turn, strict=True)]
        one, two, odd = kept
        rows = b"".join(b"a%db%d" % pair + b"%d;" for pair in zip(one, two, strict=True))
        assert template.filled(kept) == b"%%s %d|" % odd[2] + rows + b"%d%d" % (odd[0], odd[1])


def test_bytes_are_put_in_as_they_are() -> None:
    template = Template(b"<\x01>", [[Part(slice(0, 1), slice(None))]])
    for value in (b"%d", MARK, b"plain"):
        assert template.filled([[value]]) == b"<" + value + b">"

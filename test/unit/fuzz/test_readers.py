"""Arbitrary bytes and mutations of good files, the same ones in every run; `python -m fuzz` searches longer."""

import pytest
from fuzz import __main__ as module
from fuzz.readers import READERS, try_reader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TOKENS = [
    *(b"\0", b"\r\n", b"\n", b",", b'"', b"-1", b"NaN", b"Infinity", b"1e999", b"9" * 5000, b"LOCAL", b"128 128 2"),
    *(b"[" * 70, b"[" * 3000, b"{}", b"null", b"true", b'"\\ud800"', b"\xff\xfe", b"\xe2\x80\xa8", b"\x1b[31m", b"="),
    *(b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0", b"IDAT", b"iCCP", b"acTL", b"\xff\xd8"),
]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "overwrite", "insert", "cut", "repeat", "end"]),
        st.floats(0, 1, allow_nan=False),
        st.one_of(st.sampled_from(TOKENS), st.binary(min_size=1, max_size=8)),
    ),
    min_size=1,
    max_size=6,
)


def edit(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, token in edits:
        at = int(where**2 * len(content))  # headers stand first
        before, after = content[:at], content[at:]
        match kind:
            case "flip":
                content = before + bytes([after[0] ^ (token[0] or 1)]) + after[1:] if after else content
            case "overwrite":
                content = before + token + after[len(token) :]
            case "insert":
                content = before + token + after
            case "cut":
                content = before + after[len(token) :]
            case "repeat":
                content = before + after[:64] * 2 + after[64:]
            case "end":
                content = before
    return content


@pytest.mark.parametrize("name", READERS)
def test_a_reader_returns_a_result_or_raises_one_line(tmp_path, name):
    reader = READERS[name]
    reader.prepare(tmp_path)
    good = reader.good()
    assert all(try_reader(reader, tmp_path, content) for content in good)
    outcomes = set()

    @settings(
        max_examples=100,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.binary(max_size=300), st.builds(edit, st.sampled_from(good), EDITS)))
    def hold(content: bytes) -> None:
        outcomes.add(try_reader(reader, tmp_path, content))  # after a failure, the file is still there

    hold()
    assert False in outcomes  # otherwise the mutations change nothing


def test_a_reader_that_does_not_end_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it keeps its files there
    monkeypatch.setattr(module, "SLOWEST_S", 0)
    assert module.fuzz("inputs", 0) == (0, [], "it did not end within 0 s")

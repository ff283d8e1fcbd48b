import pandas as pd

from mitoscope.training.data.counts import format_counts


def table(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["source", "domain", "label"])


def test_counts_are_those_of_the_table() -> None:
    lung = [("a", "lung", "atypical")] + [("a", "lung", "normal")] * 3
    lines = format_counts(table(*lung, ("b", "breast", "normal"))).splitlines()
    assert [line.split() for line in lines] == [
        ["cancer", "type", "samples", "AMF", "NMF", "AMF", "%"],
        ["breast", "1", "0", "1", "0.0"],
        ["lung", "4", "1", "3", "25.0"],
        ["total", "5", "1", "4", "20.0"],
        ["from", "a", "4,", "b", "1"],
    ]


def test_a_class_without_crops_counts_nought() -> None:
    assert "lung         1      0      1    0.0" in format_counts(table(("a", "lung", "normal")))

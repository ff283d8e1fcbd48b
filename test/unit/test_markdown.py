from mitoscope.markdown import render_share, render_table


def test_a_name_cannot_break_the_table() -> None:
    assert render_table(("a", "b"), [["x | y", "1"]]).splitlines() == ["| a | b |", "| --- | --- |", "| x \\| y | 1 |"]


def test_a_share_has_its_interval_or_a_dash() -> None:
    assert render_share(0.5, (0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert (render_share(0.5), render_share(None)) == ("0.500", "–")

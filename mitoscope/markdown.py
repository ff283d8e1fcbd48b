"""Tables in Markdown: the only place that renders one."""

from collections.abc import Sequence


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, without a new line at its end; a ``|`` in a cell is escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def render_share(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A share in [0, 1] with its interval if there is one; a dash for what is not defined."""
    if value is None:
        return "–"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else f"{value:.3f}"

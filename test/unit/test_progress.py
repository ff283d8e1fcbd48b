import os
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from mitoscope.progress import progress


def run(total: int, seconds: Iterator[float], step: int = 1, done: int = 0) -> None:
    now = next(seconds)

    def clock() -> float:
        return now

    with progress(total, unit="crops", what="scoring", done=done, clock=clock) as bar:
        for _ in range((total - done) // step):
            now = next(seconds)
            bar.update(step)


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run(90, iter(n / 10 for n in range(100)))
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_plain_lines_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    run(1000, iter(float(n) for n in range(1001)), step=10)  # 100 steps of a second, 10 crops each
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "scoring: 100 of 1,000 crops, 10 a second, 1:30 left"
    assert lines[-1] == "scoring: 1,000 crops in 1:40"
    assert len(lines) == 10  # one for each tenth
    assert err == ""


def test_work_of_an_earlier_process_does_not_count_for_the_speed(capsys: pytest.CaptureFixture[str]) -> None:
    run(1000, iter(float(n) for n in range(1001)), step=10, done=500)
    assert capsys.readouterr().out.splitlines()[0] == "scoring: 600 of 1,000 crops, 10 a second, 0:40 left"


def test_slow_work_prints_a_line_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    run(1000, iter(6.0 * n for n in range(1001)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "scoring: 2 of 1,000 crops, 0.167 a second, 1:39:48 left",
        "scoring: 7 of 1,000 crops, 0.167 a second, 1:39:18 left",
    ]
    assert len(lines) == 201


def test_work_that_fails_prints_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter((0.0, 20.0, 20.0, 20.0, 20.0))
    with (
        pytest.raises(ValueError, match="broken"),
        progress(9, unit="crops", what="scoring", clock=lambda: next(seconds)) as bar,
    ):
        bar.update()
        raise ValueError("broken")
    assert capsys.readouterr().out == "scoring: 1 of 9 crops, 0.05 a second, 2:40 left\n"


def test_a_terminal_gets_a_bar_and_whole_lines() -> None:
    code = """
from mitoscope import progress as module
module.BAR_DELAY_S = 0
with module.progress(2, unit="crops", what="scoring") as bar:
    bar.update()
    bar.note("unreadable: a.png")
    bar.update()
"""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=slave, timeout=60, check=True)
    os.close(slave)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert done.stdout == b""
    assert "scoring: 100%" in shown
    assert "2/2" in shown
    assert "unreadable: a.png\r\n" in shown

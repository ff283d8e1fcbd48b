import os
import subprocess
import sys

import pytest
import torch

from mitoscope.command import run_command


def run(error: BaseException) -> int:
    def command() -> None:
        raise error

    return run_command(command)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "error: out of memory; close other programs, then"),
        (RuntimeError("CUDA out of memory. Tried to\nallocate"), "error: out of memory (CUDA out of memory. Tried to"),
        (ImportError("libtorch_cpu.so: failed to map segment"), "error: out of memory (libtorch_cpu.so: failed to map"),
    ],
)
def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception, line: str) -> None:
    assert run(error) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_memory_that_torch_does_not_get_is_told_in_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: torch.empty(1 << 50, dtype=torch.uint8).max().item()) == 1
    assert "can't allocate memory: you tried to allocate 1125899906842624 bytes" in capsys.readouterr().err


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "error: stopped by Ctrl-C: run the same command again\n"


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(RuntimeError("shapes differ"))


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_reader_that_has_read_enough_is_no_error(option: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mitoscope", option]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(
        command, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
    )
    os.close(writer)
    assert ended.stderr == ""
    assert ended.returncode == 141 or (option, unbuffered) == ("--help", "1")  # argparse ignores a failed write


def test_a_closed_pipe_is_left_to_the_program() -> None:
    with pytest.raises(BrokenPipeError):
        run(BrokenPipeError())

import errno
import os
import subprocess
import sys
from pathlib import Path

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
    ended = mitoscope(option, writer, unbuffered)
    os.close(writer)
    silent = (option, unbuffered) == ("--help", "1")  # argparse ignores that it could not write
    assert (ended.returncode, ended.stderr) == (0 if silent else 141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_one_line(unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = mitoscope("--version", full.fileno(), unbuffered)
    line = "error: [Errno 28] No space left on device; free space, then run the command again\n"
    assert (ended.returncode, ended.stderr) == (1, line)


def test_another_pipe_that_breaks_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(BrokenPipeError(errno.EPIPE, "Broken pipe")) == 1
    assert capsys.readouterr().err == "error: [Errno 32] Broken pipe; fix the cause, then run the command again\n"


def mitoscope(option: str, stdout: int, unbuffered: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "mitoscope", option]
    return subprocess.run(
        command, check=False, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
    )

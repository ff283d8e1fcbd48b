import pytest

from mitoscope.errors import InputError
from model.log import run_logged


def raising(error: Exception) -> str:
    def work() -> None:
        raise error

    return run_logged(work)


def test_an_expected_failure_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reason = raising(InputError("a", got="b", expected="c", remedy="d"))
    assert capsys.readouterr().err == f"{reason}\n" == "error: a: got b, expected c; d\n"


@pytest.mark.parametrize(
    "message",
    [
        *("DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
        *("std::bad_alloc", "libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], message: str) -> None:
    assert raising(RuntimeError(message)).startswith(f"error: out of memory ({message}): close other programs")
    assert capsys.readouterr().err.count("\n") == 1


def test_a_failure_that_may_be_memory_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    reason = raising(RuntimeError("could not create a primitive"))
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1] == reason
    assert reason.startswith("error: out of memory")

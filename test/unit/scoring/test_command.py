import pytest

from scoring.command import run_command


def run(error: Exception) -> int:
    def command() -> None:
        raise error

    return run_command(command, "requirements.txt")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "error: out of memory; close other programs, or"),
        (RuntimeError("CUDA out of memory. Tried to\nallocate"), "error: out of memory (CUDA out of memory); close"),
        (RuntimeError("[enforce fail] can't allocate memory"), "error: out of memory ([enforce fail] can't allocate"),
    ],
)
def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception, line: str) -> None:
    assert run(error) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(RuntimeError("shapes differ"))

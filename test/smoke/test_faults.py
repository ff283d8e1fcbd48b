"""inference.py on a failing machine: no space, no memory, no /tmp, a closed log, an old driver, a signal."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mitoscope.scoring.check import check
from mitoscope.sockets import OUTPUT_NAME
from model.classification import IMAGES_FOLDER

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
CASE, LITE = ROOT / "test" / "input" / "interf0", ROOT / "weights" / "lite"
OLDER = '[{"class": "normal", "confidence": 0.25}]\n'
# Import torch and its libraries, then limit the process to little more memory than it holds.
STARVE = """
import resource, runpy, sys
import torch, SimpleITK, PIL.Image, mitoscope.classify.classifier, mitoscope.images.stain
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20),) * 2)
sys.argv = ["inference.py", *sys.argv[1:]]
runpy.run_path("inference.py", run_name="__main__")
"""
# Files of at most 500 bytes: a longer write fails as on a full disk.
SHORT_FILES = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)); "
SHORT_FILES += "sys.argv = ['inference.py', *sys.argv[1:]]; runpy.run_path('inference.py', run_name='__main__')"
# SIGTERM comes in a library that swallows exceptions.
IN_NUMPY = """
import numpy, runpy, signal, sys
real = numpy.concatenate
def concatenate(*arguments, **named):
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            pass
    return real(*arguments, **named)
numpy.concatenate = concatenate
sys.argv = ["inference.py", *sys.argv[1:]]
runpy.run_path("inference.py", run_name="__main__")
"""
# SIGTERM comes before or after a function, which {} names.
AT = """
import os, pathlib, runpy, signal, sys
owner, name, moment = {}
real = getattr(owner, name)
def function(*arguments, **named):
    moment == "before" and signal.raise_signal(signal.SIGTERM)
    result = real(*arguments, **named)
    moment == "after" and signal.raise_signal(signal.SIGTERM)
    return result
setattr(owner, name, function)
sys.argv = ["inference.py", *sys.argv[1:]]
runpy.run_path("inference.py", run_name="__main__")
"""
OLD_DRIVER = "int cuInit(unsigned flags) { return 0; }\nint cuDriverGetVersion(int *v) { *v = 11040; return 0; }\n"

Ended = subprocess.CompletedProcess[str]


def options(output: Path, *more: object) -> list[str]:
    return [str(word) for word in ("--input", CASE, "--output", output, "--weights", LITE, *more)]


def run(*command: object, **environment: str | None) -> Ended:
    """Run a command in the repository's root, in one thread; None removes a variable."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    given = {name: value for name, value in variables.items() if value is not None}
    return subprocess.run(
        [str(word) for word in command], cwd=ROOT, env=given, capture_output=True, text=True, timeout=120, check=False
    )


def infer(output: Path, *more: object, **environment: str | None) -> Ended:
    return run(sys.executable, "inference.py", *options(output, *more), **environment)


def in_namespace(script: str, *arguments: object) -> Ended:
    """Run a shell script in a mount namespace of its own."""
    if shutil.which("unshare") is None or run("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt").returncode:
        pytest.skip("mounting needs root and unshare")
    return run("unshare", "-m", "sh", "-ec", script, "sh", *arguments)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder with an older result."""
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / OUTPUT_NAME).write_text(OLDER)
    return folder


def assert_refused(done: Ended, output: Path, words: str) -> None:
    """stderr is one line, and the older result is the only file."""
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert {path.name: path.read_text() for path in output.iterdir()} == {OUTPUT_NAME: OLDER}


def assert_scored(output: Path) -> None:
    assert [path.name for path in output.iterdir()] == [OUTPUT_NAME]
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == 16


# ---- the disk


def test_a_result_that_cannot_be_written_is_removed(output: Path) -> None:
    done = run(sys.executable, "-c", SHORT_FILES, *options(output))
    assert_refused(done, output, "the result cannot be written to")
    assert "File too large" in done.stderr


def test_a_full_disk_is_reported_and_the_older_result_stays(output: Path) -> None:
    script = 'mount -t tmpfs -o size=8k tmpfs "$1"; echo "$2" > "$1/$3"; head -c 4096 /dev/zero > "$1/filler" || :; '
    script += 'shift 3; status=0; "$@" || status=$?; cp "$OUT"/* "$KEPT"; ls -A "$OUT" >&3; exit $status'
    kept, listing = output.parent / "kept", output.parent / "listing"
    kept.mkdir()
    script = f"OUT='{output}' KEPT='{kept}'; exec 3> '{listing}'; {script}"
    done = in_namespace(script, output, OLDER.strip(), OUTPUT_NAME, sys.executable, "inference.py", *options(output))
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert listing.read_text().split() == ["filler", OUTPUT_NAME]
    assert (kept / OUTPUT_NAME).read_text() == OLDER


def test_a_read_only_output_is_refused_before_the_weights_are_read(output: Path) -> None:
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
    done = in_namespace(script, output, sys.executable, "inference.py", *options(output, "--weights", "none"))
    assert_refused(done, output, "Read-only file system")


def test_nothing_but_the_output_need_be_writable(output: Path) -> None:
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro /; '
    script += 'if touch /tmp/x 2>/dev/null; then exit 9; fi; shift; exec "$@"'
    done = in_namespace(script, output, sys.executable, "inference.py", *options(output))
    assert (done.returncode, done.stderr) == (0, "")
    assert_scored(output)


def test_neither_home_nor_tmp_is_needed(output: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    for home in (None, nowhere):
        done = infer(output, HOME=home, TMPDIR=nowhere, XDG_CACHE_HOME=nowhere)
        assert (done.returncode, done.stderr) == (0, "")
    assert_scored(output)


# ---- memory


def test_a_process_without_memory_reports_it_in_the_last_line(output: Path) -> None:
    done = run(sys.executable, "-c", STARVE, *options(output))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: out of memory")  # a library may print a panic before it
    assert (output / OUTPUT_NAME).read_text() == OLDER


def test_a_library_that_finds_no_memory_is_reported_as_such(output: Path) -> None:
    limited = f'ulimit -v {1 << 20}; exec "$@"'  # KiB; torch alone maps more
    done = run("sh", "-c", limited, "sh", sys.executable, "inference.py", *options(output))
    assert_refused(done, output, "failed to map segment from shared object): close other programs")


# ---- the log


def test_a_log_that_nobody_reads_costs_no_result(output: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "inference.py", *options(output, "--table")]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (
        0,
        "warning: the log is lost, the result is not: [Errno 32] Broken pipe\n",
    )
    assert_scored(output)


def test_a_full_disk_for_the_log_costs_no_result(output: Path) -> None:
    command = [sys.executable, "inference.py", *options(output)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert done.returncode == 0
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert_scored(output)


@pytest.mark.parametrize("lost", [">/dev/full 2>&1", "2>&1 | true"])
def test_both_streams_lost_cost_no_result(output: Path, lost: str) -> None:
    done = run("sh", "-c", f'"$@" {lost}', "sh", sys.executable, "inference.py", *options(output))
    assert done.returncode == 0  # behind a pipe that of `true`
    assert_scored(output)


def test_a_log_of_few_letters_costs_no_result(output: Path, make_case: Callable[..., Path], stack: np.ndarray,
                                              save_tiff: Callable[..., Path]) -> None:  # fmt: skip
    case = make_case(name="letters")
    save_tiff(case / IMAGES_FOLDER / "stück.tiff", stack)
    command = [sys.executable, "inference.py", *options(output, "--input", case)]
    done = run("env", "PYTHONIOENCODING=ascii", *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "st\\xfcck.tiff" in done.stdout
    assert_scored(output)


@pytest.mark.long
def test_a_cpu_without_bf16_computes_it_all_the_same(output: Path) -> None:
    command = [sys.executable, "inference.py", *options(output, "--precision", "bf16")]
    done = run("env", "ONEDNN_MAX_CPU_ISA=AVX2", *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert_scored(output)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_cost_no_result(output: Path, closed: str) -> None:
    done = run("sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "inference.py", *options(output))
    assert (done.returncode, done.stderr) == (0, "")
    assert_scored(output)


# ---- signals


def wait_for(lines: Iterator[str], word: str) -> None:
    assert any(line.startswith(word) for line in lines)


@pytest.fixture
def long_case(make_case: Callable[..., Path], stack: np.ndarray, save_tiff: Callable[..., Path]) -> Path:
    """A case of 1,024 pages: it is scored for seconds."""
    case = make_case(name="long")
    save_tiff(case / IMAGES_FOLDER / "long.tif", np.tile(stack, (64, 1, 1, 1)))
    return case


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_case_is_one_line(output: Path, long_case: Path, number: int) -> None:
    default = ["env", "--default-signal=INT"]  # a suite in a shell's background ignores it
    command = [*default, sys.executable, "inference.py", *options(output, "--input", long_case)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        wait_for(process.stdout, "bundle")
        process.send_signal(number)
        done = subprocess.CompletedProcess(command, process.wait(10), "", process.stderr.read())
    assert_refused(done, output, "stopped by a signal")


def test_a_signal_ends_a_library_that_swallows_exceptions(output: Path) -> None:
    assert_refused(run(sys.executable, "-c", IN_NUMPY, *options(output)), output, "stopped by a signal")


@pytest.mark.parametrize(
    "place", ["pathlib.Path, 'touch', 'after'", "os, 'fsync', 'before'", "pathlib.Path, 'replace', 'before'"]
)
def test_a_signal_while_the_result_is_written_leaves_the_older_one_alone(output: Path, place: str) -> None:
    assert_refused(run(sys.executable, "-c", AT.format(place), *options(output)), output, "stopped by a signal")


def test_a_signal_after_the_result_was_written_is_no_failure(output: Path) -> None:
    done = run(sys.executable, "-c", AT.format("pathlib.Path, 'replace', 'after'"), *options(output))
    assert (done.returncode, done.stderr) == (0, "")
    assert "stopped by a signal after the result was written" in done.stdout
    assert_scored(output)


def test_an_ignored_ctrl_c_stays_ignored(output: Path) -> None:
    script = AT.replace("SIGTERM", "SIGINT").format("pathlib.Path, 'replace', 'before'")
    done = run("env", "--ignore-signal=INT", sys.executable, "-c", script, *options(output))
    assert (done.returncode, done.stderr) == (0, "")
    assert "stopped by a signal" not in done.stdout
    assert_scored(output)


def test_the_first_process_of_a_container_ends_on_sigterm(output: Path, long_case: Path) -> None:
    if shutil.which("unshare") is None or run("unshare", "-pf", "true").returncode:
        pytest.skip("a process namespace needs root and unshare")
    command = ["unshare", "-pf", "--kill-child", sys.executable, "inference.py"]
    command += options(output, "--input", long_case)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        wait_for(process.stdout, "bundle")
        [first] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        start = time.monotonic()
        os.kill(int(first), signal.SIGTERM)
        done = subprocess.CompletedProcess(command, process.wait(30), "", process.stderr.read())
    assert time.monotonic() - start < 9  # docker stop waits for 10 s, then kills
    assert_refused(done, output, "stopped by a signal")


# ---- the GPU


@pytest.fixture
def old_driver(tmp_path: Path) -> str:
    """A folder with a CUDA driver library that is of CUDA 11.4, as the CUDA runtime asks it."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build a driver library")
    source = tmp_path / "driver.c"
    source.write_text(OLD_DRIVER)
    (tmp_path / "driver").mkdir()
    library = tmp_path / "driver" / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)
    return str(library.parent)


def test_a_driver_that_is_too_old_is_why_there_is_no_gpu(output: Path, old_driver: str) -> None:
    done = infer(output, "--device", "auto", LD_LIBRARY_PATH=old_driver)
    assert (done.returncode, done.stderr) == (0, "")
    assert_scored(output)
    lines = done.stdout.splitlines()
    assert "NO GPU IS USED: torch sees no CUDA device" in lines[1]
    assert lines[-1].startswith(
        "warning   CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)"
    )


def test_a_gpu_that_is_missing_is_refused_with_the_reason_in_the_log(output: Path, old_driver: str) -> None:
    done = infer(output, "--device", "cuda", LD_LIBRARY_PATH=old_driver)
    assert_refused(done, output, "--device cuda cannot be used: got no CUDA device that torch can see")
    assert "The NVIDIA driver on your system is too old" in done.stdout


# ---- other processors


@pytest.mark.parametrize(
    "kernels", [{"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, {"OMP_NUM_THREADS": "2"}], ids=str
)
def test_the_expected_result_in_git_holds_on_other_processors_kernels(tmp_path: Path, kernels: dict[str, str]) -> None:
    done = infer(tmp_path, "--device", "cpu", **kernels)
    assert done.returncode == 0, done.stderr
    [stack] = (CASE / IMAGES_FOLDER).iterdir()
    expected = ROOT / "test" / "expected" / "interf0" / OUTPUT_NAME
    assert check(tmp_path / OUTPUT_NAME, stack, weights=LITE, expected=expected, tolerance=1e-5) == 0

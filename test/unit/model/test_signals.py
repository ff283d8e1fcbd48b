import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
START = "import os, signal, sys; from model.signals import end_on_signal, write_line; "


def run(script: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-c", START + script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)


def test_a_signal_ends_the_process_and_nothing_is_raised() -> None:
    script = "end_on_signal(lambda: 7)\ntry: signal.raise_signal(signal.SIGTERM)\nexcept BaseException: pass"
    done = run(script)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_a_second_signal_is_ignored() -> None:
    script = "def end(): write_line(sys.stderr, 'stopped'); signal.raise_signal(signal.SIGINT); return 1\n"
    done = run(f"\n{script}end_on_signal(end)\nsignal.raise_signal(signal.SIGTERM)")
    assert (done.returncode, done.stderr) == (1, b"stopped\n")


def test_a_full_or_closed_stream_does_not_block() -> None:
    full = "reader, writer = os.pipe(); os.set_blocking(writer, False); os.write(writer, bytes(1 << 20)); "
    full += "os.set_blocking(writer, True); pipe = os.fdopen(writer, 'w'); write_line(pipe, 'x'); "
    done = run(full + "pipe.close(); write_line(pipe, 'x'); write_line(None, 'x'); write_line(sys.stdout, 'written')")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"written\n", b"")

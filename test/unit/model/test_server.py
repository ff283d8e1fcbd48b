"""serve.py as a process, called over HTTP; as on the platform, its input and output are links."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np
import pytest
import SimpleITK as sitk

from mitoscope.sockets import OUTPUT_NAME
from model.classification import IMAGES_FOLDER
from model.entry import main, parse
from model.server import make_app

ROOT = Path(__file__).resolve().parents[3]
LOG = ["versions", "device", "bundle", "pages", "unlike", "seconds"]
LONG = 1024  # pages: the longest stack that is read, scored for seconds


@dataclass
class Server:
    """A running server, the folder of its links and logs, and its port."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int = 0

    def ask(self, method: str, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def swap(self, case: Path, output: Path) -> None:
        for name, target in (("input", case), ("output", output)):
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / name).symlink_to(target, target_is_directory=True)

    def score(self, case: Path, output: Path) -> tuple[int, list[str], list[str]]:
        """The status, and what the case added to stdout and stderr."""
        self.swap(case, output)
        before = [len(self.lines(name)) for name in ("stdout", "stderr")]
        status, _ = self.ask("POST", "/invoke")
        return status, self.lines("stdout")[before[0] :], self.lines("stderr")[before[1] :]

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()

    def wait_for(self, word: str) -> None:
        while not any(line.startswith(word) for line in self.lines("stdout")):
            assert self.process.poll() is None, self.lines("stderr")
            time.sleep(0.02)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A function (*options, **environment) that starts a server and does not wait for it."""
    servers = []

    def run(*options: str | Path, **environment: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        command = [sys.executable, ROOT / "serve.py", "--host", "127.0.0.1", "--device", "cpu"]
        paths = ["--input", folder / "input", "--output", folder / "output"]
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            process = subprocess.Popen(
                [*command, *paths, *options], cwd=ROOT, env={**os.environ, **environment}, stdout=out, stderr=err
            )
        servers.append(Server(process, folder))
        return servers[-1]

    yield run
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def serve(launch: Callable[..., Server], tiny_bundle: Path) -> Callable[..., Server]:
    """A function (weights, **environment) that starts a server on a free port and waits until it serves."""

    def run(weights: Path = tiny_bundle, **environment: str) -> Server:
        server = launch("--port", "0", "--weights", weights, **environment)
        server.wait_for("serving")
        server.port = int(server.lines("stdout")[0].split()[1].rpartition(":")[2])
        return server

    return run


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server]) -> Server:
    """One server for all tests that leave it as it was."""
    return serve()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "result").mkdir()
    return tmp_path / "result"


@pytest.fixture
def make_stack(make_case, save_tiff) -> Callable[..., Path]:
    """A function (name, pages) that makes a case."""

    def make(name: str, pages: np.ndarray) -> Path:
        case = make_case(name=name)
        save_tiff(case / IMAGES_FOLDER / f"{name}.tif", pages)
        return case

    return make


@pytest.fixture
def long_case(make_stack, stack) -> Path:
    return make_stack("long", np.tile(stack, (LONG // len(stack), 1, 1, 1)))


def confidences(folder: Path) -> np.ndarray:
    assert [path.name for path in folder.iterdir()] == [OUTPUT_NAME]
    return np.array([record["confidence"] for record in json.loads((folder / OUTPUT_NAME).read_text())])


def in_background(server: Server) -> tuple[Thread, list[object]]:
    """An /invoke in a thread of its own, and the list to which its status or its error comes."""
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(server.ask("POST", "/invoke")[0])
        except OSError as error:
            answers.append(error)

    thread = Thread(target=ask)
    thread.start()
    return thread, answers


def words(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def test_each_case_is_read_and_written_by_its_own_path_as_inference_does(
    server, make_stack, make_case, stack, tiny_bundle, tmp_path
):
    mha = make_case(name="mha")
    sitk.WriteImage(sitk.GetImageFromArray(stack[3:5], isVector=True), str(mha / IMAGES_FOLDER / "s.mha"))
    cases = [make_stack("first", stack), make_stack("second", stack[::-1]), mha]
    for case in cases:
        served, executed = tmp_path / f"{case.name}-served", tmp_path / f"{case.name}-executed"
        served.mkdir()
        status, out, err = server.score(case, served)
        assert (status, words(out), err) == (201, LOG, [])
        arguments = ["--input", case, "--output", executed, "--weights", tiny_bundle, "--device", "cpu"]
        assert main(parse(list(map(str, arguments)))) == 0
        np.testing.assert_allclose(confidences(served), confidences(executed), rtol=0, atol=1e-6)
    assert confidences(tmp_path / "first-served")[0] != confidences(tmp_path / "second-served")[0]


def test_a_case_pays_for_no_import_and_no_weights(serve, make_stack, stack, tiny_bundle, tmp_path, output):
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    server = serve(tmp_path / "bundle")
    assert server.lines("stdout")[0].split()[2::2] == ["imports", "weights", "total"]
    shutil.rmtree(tmp_path / "bundle")
    status, out, _ = server.score(make_stack("case", stack), output)
    assert (status, out[-1].split()[1::2]) == (201, ["read", "forward", "compare", "write", "total"])


def test_nothing_of_a_case_is_kept_open(server, make_stack, stack, output):
    case = make_stack("case", stack)
    assert server.score(case, output)[0] == 201
    opened = []
    for path in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            opened.append(path.readlink())
    assert server.folder / "stdout" in opened
    assert not [path for path in opened if path.is_relative_to(case) or path.is_relative_to(output)]


def test_a_bad_case_between_two_good_ones(server, make_stack, stack, tmp_path, output):
    good, bad = make_stack("good", stack), make_stack("bad", stack)
    (bad / "inputs.json").unlink()
    assert server.score(good, output)[0] == 201
    (tmp_path / "bad-result").mkdir()
    status, out, err = server.score(bad, tmp_path / "bad-result")
    assert (status, out, len(err)) == (500, [], 1)
    assert err[0].startswith("error: no inputs.json in ")
    assert not list((tmp_path / "bad-result").iterdir())
    status, out, err = server.score(good, output)
    assert (status, words(out), err) == (201, LOG, [])


def test_a_warning_is_shown_for_each_case(server, make_stack, stack, output):
    grey = make_stack("grey", stack[..., :1].repeat(3, axis=3))
    for _ in range(2):
        status, out, err = server.score(grey, output)
        assert (status, err) == (201, [])
        assert out[-1] == "warning   16 of 16 pages are greyscale: the networks were trained on H&E in colour"


def test_a_log_of_few_letters_costs_no_result(serve, make_stack, stack, output):
    server = serve(PYTHONIOENCODING="ascii")
    status, out, err = server.score(make_stack("stück", stack), output)
    assert (status, words(out), err) == (201, LOG, [])
    assert "st\\xfcck.tif" in out[3]
    assert len(confidences(output)) == 16


def test_two_calls_at_once_are_scored_one_after_the_other(server, make_stack, stack, output):
    server.swap(make_stack("case", stack), output)
    n_before = len(server.lines("stdout"))
    calls = [in_background(server) for _ in range(2)]
    for thread, _ in calls:
        thread.join()
    assert [answers for _, answers in calls] == [[201], [201]]
    assert words(server.lines("stdout")[n_before:]) == [*LOG, *LOG]
    assert len(confidences(output)) == 16


def test_a_caller_who_goes_away_harms_nobody(server, make_stack, stack, output):
    server.swap(make_stack("case", stack), output)
    n_before = len(server.lines("stdout"))
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(b"POST /invoke HTTP/1.1\r\nHost: server\r\n\r\n")
        while len(server.lines("stdout")) == n_before:  # the case has begun
            time.sleep(0.01)
    assert server.ask("POST", "/invoke")[0] == 201
    assert words(server.lines("stdout")[n_before:]) == [*LOG, *LOG]


def test_only_the_two_endpoints_answer(server):
    assert server.ask("GET", "/health") == (200, "ready\n")
    assert server.ask("GET", "/invoke")[0] == 405
    assert [server.ask("GET", path)[0] for path in ("/", "/docs", "/openapi.json")] == [404] * 3


def test_health_is_refused_until_the_weights_are_there(launch, tiny_bundle, make_stack, stack, output):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = launch("--port", str(port), "--weights", tiny_bundle)
    server.port = port
    n_refused = 0
    while True:
        try:
            status, _ = server.ask("GET", "/health")
            break
        except ConnectionRefusedError:
            assert server.process.poll() is None, server.lines("stderr")
            n_refused += 1
            time.sleep(0.05)
    assert status == 200
    assert n_refused > 0
    assert server.score(make_stack("case", stack), output)[0] == 201


@pytest.mark.parametrize(
    ("weights", "reason"), [("none", "error: no bundle in 'none'"), (None, "error: the server cannot listen on")]
)
def test_what_cannot_serve_ends_with_one_line(launch, tiny_bundle, weights, reason):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = launch("--port", str(taken.getsockname()[1]), "--weights", weights or tiny_bundle)
        assert server.process.wait(timeout=60) == 1
    [line] = server.lines("stderr")
    assert line.startswith(reason)
    assert not server.lines("stdout")


def test_health_answers_and_sigterm_ends_in_the_middle_of_a_case(serve, long_case, output):
    (output / OUTPUT_NAME).write_text("an older result")
    server = serve()
    server.swap(long_case, output)
    thread, answers = in_background(server)
    server.wait_for("bundle")  # read; the networks are at work
    assert server.ask("GET", "/health") == (200, "ready\n")
    assert not answers
    (output / f".{OUTPUT_NAME}.partial").touch()  # as if the result were being written
    server.process.terminate()
    assert server.process.wait(timeout=5) == 0  # the platform's patience
    thread.join()
    assert isinstance(answers[0], OSError)
    assert server.lines("stderr") == ["error: the server was stopped in the middle of a case; run the case again"]
    assert "pages" not in words(server.lines("stdout"))
    assert [path.name for path in output.iterdir()] == [OUTPUT_NAME]
    assert (output / OUTPUT_NAME).read_text() == "an older result"


def test_a_call_is_unanswered_until_its_answer_is_sent():
    calls, unanswered, seen = SimpleQueue(), set(), []

    def score():
        call = calls.get(timeout=60)
        seen.append(unanswered == {call})
        call.set_result("")

    async def send(message):
        seen.append(not unanswered)

    async def receive():
        return {"type": "http.request"}

    Thread(target=score).start()
    scope = {"type": "http", "method": "POST", "path": "/invoke", "headers": [], "query_string": b""}
    asyncio.run(make_app(calls, unanswered)(scope, receive, send))
    assert seen == [True, True, True]  # in the queue; head and body of the answer


def test_a_signal_after_the_reason_does_not_make_a_success_of_it(tmp_path):
    script = "import atexit, runpy, signal; atexit.register(lambda: signal.raise_signal(signal.SIGTERM)); "
    script += "runpy.run_path('serve.py', run_name='__main__')"
    command = [sys.executable, "-c", script, "--weights", "none", "--input", tmp_path, "--output", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no bundle in 'none'")


def test_sigterm_ends_an_idle_server_in_silence(serve, make_stack, stack, output):
    server = serve()
    assert server.score(make_stack("case", stack), output)[0] == 201
    server.process.terminate()
    assert server.process.wait(timeout=5) == 0
    assert server.lines("stderr") == []

"""The container's entry (invoke): a server that scores a case a call; imports and weights are paid once, at the start.

Grand Challenge asks ``GET /health`` until it says 200, then sends ``POST /invoke`` for each case and takes 201, and
nothing else, as success. Between calls it swaps /input and /output: each call opens them by path, and leaves nothing
open. The log of a case, its last line on stderr where it fails included, is that of inference.py.

The cases are scored in the main thread, where Python hears signals, one after another, and HTTP is spoken in another
one: SIGTERM ends a case at once, and /health answers during a case.
"""

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import NoReturn

import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from mitoscope.errors import MitoscopeError
from mitoscope.stopwatch import Stopwatch
from model.case import Model, load_model, remove_partials
from model.entry import make_parser, run
from model.log import attempt, log
from model.signals import end_on_signal, say

HOST, PORT = "0.0.0.0", 4743  # the platform's; its templates' own test asks from another container

Call = Future[str]  # of the reason why the case failed, empty where it did not


def make_app(calls: SimpleQueue[Call], unanswered: set[Call]) -> FastAPI:
    """The two endpoints. An /invoke puts itself into the queue, and is unanswered until its case is done."""
    app = FastAPI(openapi_url=None)

    @app.get("/health")
    async def health() -> PlainTextResponse:
        return PlainTextResponse("ready\n")  # there is no server before the weights are there

    @app.post("/invoke")
    async def invoke() -> PlainTextResponse:
        call: Call = Future()
        unanswered.add(call)
        calls.put(call)
        reason = await asyncio.wrap_future(call)
        unanswered.discard(call)
        return PlainTextResponse(f"{reason or 'scored'}\n", status_code=500 if reason else 201)

    return app


def listen(host: str, port: int) -> socket.socket:
    """Bind the port; clients that were refused before retry."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise MitoscopeError(
            f"the server cannot listen on {host}:{port}",
            got=error,
            expected="an address of this machine and a free port",
            remedy="end what uses it, or name others with --host and --port",
        ) from error


def start_http(listener: socket.socket, app: FastAPI) -> None:
    """Answer HTTP in a thread that ends with the process. uvicorn says nothing but its own faults, on stderr."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    Thread(target=uvicorn.Server(config).run, args=([listener],), name="http", daemon=True).start()


def answer_calls(calls: SimpleQueue[Call], score: Callable[[], str]) -> NoReturn:
    """Score one case a call, in the order of arrival."""
    while True:
        call = calls.get()
        if call.set_running_or_notify_cancel():  # else the call was cancelled
            call.set_result(score())


def serve(arguments: argparse.Namespace) -> int:
    """Load the members, then score a case a call until a signal ends the process with 0; 1 where it could not start."""
    calls: SimpleQueue[Call] = SimpleQueue()
    unanswered: set[Call] = set()
    loaded: list[Model] = []

    def stop() -> int:
        if unanswered:
            remove_partials(arguments.output)
            say(sys.stderr, "error: the server was stopped in the middle of a case; run the case again")
        return 0

    def start() -> None:
        watch = Stopwatch()
        loaded.append(load_model(arguments.weights, arguments.device, arguments.precision, watch))
        listener = listen(arguments.host, arguments.port)
        start_http(listener, make_app(calls, unanswered))
        log(f"serving   http://{arguments.host}:{listener.getsockname()[1]}  {watch}")

    end_on_signal(stop)
    if attempt(start):
        return 1
    answer_calls(calls, lambda: attempt(lambda: run(arguments, loaded[0])))


def main(argv: Sequence[str] | None = None) -> int:
    """Serve as the command line says."""
    parser = make_parser("serve.py", "Score a case for each POST /invoke: normal or atypical mitoses.")
    parser.add_argument("--host", default=HOST, help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="0: a free one, which the log names (%(default)s)")
    return serve(parser.parse_args(argv))

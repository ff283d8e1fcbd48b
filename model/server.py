"""The invoke entry: a server that scores one case per call; it imports and loads the weights once, at the start.

Grand Challenge polls ``GET /health`` until it answers 200, then sends ``POST /invoke`` for each case; only 201 is
success. Between calls it replaces /input and /output: each call opens them by path and closes all files. A case is
logged as inference.py logs it, its error on stderr included.

The main thread scores the cases one after another, because Python handles signals there; another thread serves HTTP.
So SIGTERM ends a case at once, and /health answers during a case.
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
from model.case import Model, remove_partials
from model.entry import load_chosen, make_parser, run
from model.log import log, run_logged
from model.signals import end_on_signal, write_line

HOST, PORT = "0.0.0.0", 4743  # the platform's; its templates test from another container

Call = Future[str]  # of the reason of a failure; empty on success


def make_app(calls: SimpleQueue[Call], unanswered: set[Call]) -> FastAPI:
    """Build the two endpoints. /invoke puts its call into the queue; it is unanswered until its case is scored."""
    app = FastAPI(openapi_url=None)

    @app.get("/health")
    async def health() -> PlainTextResponse:
        return PlainTextResponse("ready\n")  # the server starts after the weights are loaded

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
            remedy="stop the program that uses it, or choose others with --host and --port",
        ) from error


def start_http(listener: socket.socket, app: FastAPI) -> None:
    """Serve HTTP in a thread that ends with the process. uvicorn logs only its own faults, on stderr."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    Thread(target=uvicorn.Server(config).run, args=([listener],), name="http", daemon=True).start()


def answer_calls(calls: SimpleQueue[Call], score: Callable[[], str]) -> NoReturn:
    """Score one case per call, in the order of arrival."""
    while True:
        call = calls.get()
        if call.set_running_or_notify_cancel():  # else the call was cancelled
            call.set_result(score())


def serve(arguments: argparse.Namespace) -> int:
    """Load the members, then score one case per call until a signal ends the process; return 1 if the start fails."""
    calls: SimpleQueue[Call] = SimpleQueue()
    unanswered: set[Call] = set()
    loaded: list[Model] = []

    def stop() -> int:
        if unanswered:
            remove_partials(arguments.output)
            write_line(sys.stderr, "error: the server was stopped in the middle of a case; run the case again")
        return 0

    def start() -> None:
        watch = Stopwatch()
        loaded.append(load_chosen(arguments, watch))
        listener = listen(arguments.host, arguments.port)
        start_http(listener, make_app(calls, unanswered))
        log(f"serving   http://{arguments.host}:{listener.getsockname()[1]}  {watch}")

    end_on_signal(stop)
    if run_logged(start):
        return 1
    answer_calls(calls, lambda: run_logged(lambda: run(arguments, loaded[0])))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve."""
    parser = make_parser("serve.py", "Score one case of MIDOG 2025 for each POST /invoke.")
    parser.add_argument("--host", default=HOST, help="the address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=PORT, help="0: any free one; the log shows it (default %(default)s)"
    )
    return serve(parser.parse_args(argv))

"""The container's entry (exec): one case in, one JSON out. See `model.entry`."""

import os

from mitoscope.command import escape_unencodable
from model.entry import main, make_stopper, parse
from model.signals import end_on_signal

if __name__ == "__main__":
    escape_unencodable()
    arguments = parse()
    end_on_signal(make_stopper(arguments.output))
    # All output is flushed: skip the clean-up of Python and torch, which takes a quarter of a second.
    os._exit(main(arguments))

"""The container's entry (invoke): a server that scores one case per call. See `model.server`."""

import os

from mitoscope.command import escape_unencodable
from model.server import main

if __name__ == "__main__":
    escape_unencodable()
    os._exit(main())  # as in inference.py; a later signal has no case to end

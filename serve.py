"""The container's entry (invoke): a server that scores a case a call. See `model.server`."""

import os

from model.log import escape_unencodable
from model.server import main

if __name__ == "__main__":
    escape_unencodable()
    os._exit(main())  # as inference.py does; a signal that comes later has nothing to end

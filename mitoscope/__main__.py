"""`python -m mitoscope`, the same as the command `mitoscope`."""

import sys

from mitoscope.cli import main

if __name__ == "__main__":
    sys.exit(main())

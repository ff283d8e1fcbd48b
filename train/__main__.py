"""python -m train prepare | split | fit | run | evaluate | publish."""

from train.cli import main

raise SystemExit(main())

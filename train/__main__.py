"""python -m train prepare | split | fit | run | evaluate | publish."""

from model.log import take_all_letters
from train.cli import main

take_all_letters()
raise SystemExit(main())

"""python -m scoring."""

from model.log import take_all_letters
from scoring.cli import main

take_all_letters()
raise SystemExit(main())

"""`python -m tensorprog.cli`: the same as `tpcalc`."""

import sys

from tensorprog.cli import main

if __name__ == "__main__":
    sys.exit(main())

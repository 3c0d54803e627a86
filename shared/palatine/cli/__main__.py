"""`python -m palatine.cli`: the umbrella command where no script is installed."""

import sys

from palatine.cli import main

if __name__ == "__main__":
    sys.exit(main(["palatine", *sys.argv[1:]]))

"""`python -m dr`: the command line."""

import sys

try:
    from dr.cli.main import main
except KeyboardInterrupt:  # Ctrl-C while libraries are loaded: nothing was begun
    sys.exit(130)

if __name__ == "__main__":
    main()

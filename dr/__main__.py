"""`python -m dr`: the command line."""

from dr.cli.main import main

if __name__ == "__main__":
    main()

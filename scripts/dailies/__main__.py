"""`python -m dailies` is the same command as `dailies`."""

from dailies.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

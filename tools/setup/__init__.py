"""Makes a machine ready for this checkout: `python3 -m tools.setup`. Standard library only."""

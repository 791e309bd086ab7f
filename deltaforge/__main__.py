"""`python -m deltaforge`."""

from __future__ import annotations

from deltaforge.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""``python -m adasid_exp``: the same as ``adasid run``."""

from __future__ import annotations

from adasid_exp.commands.run import main

if __name__ == "__main__":
    main()

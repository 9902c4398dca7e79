"""Rebuilds what the program ships with: assets/data and assets/starter/model.

    python packaging/starter/build.py [--only data|tokenizer|model]

Needs the project's own environment and nothing from the network.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sets import write_sets

ASSETS = Path(__file__).parents[2] / "assets"
DATA = ASSETS / "data"
MODEL = ASSETS / "starter" / "model"
PARTS = ("data", "tokenizer", "model")


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--only", choices=PARTS, help="build this part alone")
    only = asked.parse_args().only
    for part in [only] if only else PARTS:
        began, used = time.perf_counter(), time.process_time()
        _build(part)
        print(
            f"{part}: {time.perf_counter() - began:.0f} s, "
            f"{time.process_time() - used:.0f} s of processor time"
        )


def _build(part: str) -> None:
    if part == "data":
        write_sets(DATA)
    elif part == "tokenizer":
        from vocabulary import write_tokenizer

        write_tokenizer(MODEL)
    else:
        from pretrain import write_model

        write_model(MODEL)


if __name__ == "__main__":
    main()

"""The answers of one step, from the file that the run keeps of them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from workers.protocol.rollouts import Rollouts

ANSWERS_BYTES = 4_000_000
"""A step's file larger than this is not read; the window would stand still."""


def read_answers(path: Path, step: int) -> Rollouts | str:
    """The answers of a step, or in a sentence why they cannot be shown."""
    try:
        size = path.stat().st_size
        if size > ANSWERS_BYTES:
            return (
                f"The answers of step {step} fill {size / 1e6:.0f} MB, more than is shown here. "
                f"They lie in {path}."
            )
        return msgspec.json.decode(path.read_bytes(), type=Rollouts)
    except FileNotFoundError:
        return f"The answers of step {step} are gone: there is no file {path}."
    except OSError as fault:
        return f"The answers of step {step} cannot be read from {path}: {fault.strerror}."
    except (msgspec.DecodeError, RecursionError) as fault:
        return f"The answers of step {step} are damaged: {path} does not read as answers ({fault})."

#!/usr/bin/env python3
"""Sets Finetune Studio up on a fresh machine, then runs or tests it. Standard library only.

    python3 packaging/bootstrap.py [--cpu] run [ARGS]    set up, then start the studio with ARGS
    python3 packaging/bootstrap.py [--cpu] test [ARGS]   set up, then run the tests (pytest's ARGS;
                                                         --all: those that take minutes too)
    python3 packaging/bootstrap.py unsloth               set up, then Unsloth's environment
    python3 packaging/bootstrap.py vllm                  set up, then vLLM's (Linux, NVIDIA)

Everything goes into .venv beside this checkout. Each step leaves a stamp when it is done, so an
interrupted set-up goes on where it was and a finished one costs next to nothing. All that this
program says goes to stderr: stdout belongs to the studio.

--cpu takes torch and llama.cpp for the processor even where an NVIDIA driver is found; give it
each time. Without a display and without ARGS, run shows the demo in the terminal.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also where Python is told not to

from setup_steps.console import say
from setup_steps.environment import (
    environment_version,
    has_project,
    install_project,
    make_environment,
    pinned,
    project_inputs,
    require_python,
)
from setup_steps.faults import AGAIN, DISK, Ended, SetupError
from setup_steps.llama_build import (
    CONVERTER_FOLDERS,
    LLAMA_PACKAGE,
    fetch_converter,
    has_converter,
    has_llama,
    install_llama,
    wants_gpu_llama,
)
from setup_steps.overlays import KNOWN, overlay_step, tell_use
from setup_steps.places import CONSTRAINTS, GB, PYTHON, ROOT, WINDOWS
from setup_steps.steps import Step, set_up
from setup_steps.system import QT_ALWAYS, QT_WINDOW, choose_kind, provide_libraries
from setup_steps.torch_build import has_torch, install_torch

# What is asked


@dataclass(frozen=True)
class Asked:
    verb: str
    cpu: bool
    rest: list[str]


def read_arguments(arguments: list[str]) -> Asked:
    """--cpu counts before the verb or right after it; all that follows belongs to the program."""
    rest = list(arguments)
    cpu = False
    verb = ""
    while rest:
        if rest[0] == "--cpu":
            cpu = True
        elif not verb and rest[0] in ("run", "test", *KNOWN):
            verb = rest[0]
        else:
            break
        rest.pop(0)
    if not verb:
        raise SetupError(
            f"There is no verb '{rest[0]}'." if rest else "No verb was given.",
            "The verb comes first, then what belongs to the studio.",
            "python3 packaging/bootstrap.py run, or: ... test, or: ... --help",
        )
    return Asked(verb, cpu, rest)


def has_display(system: str, environment: dict[str, str]) -> bool:
    """Whether a window can open. Windows and macOS always have a screen."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return system != "Linux" or any(environment.get(name) for name in named)


def studio_arguments(rest: list[str], system: str, environment: dict[str, str]) -> list[str]:
    """What the studio is started with: without a display and without arguments, the demo."""
    if rest or has_display(system, environment):
        return rest
    say("There is no display, so the demo runs here in the terminal instead of the window.")
    return ["demo"]


# Putting it together


def plan(verb: str, kind: str, version: str) -> list[Step]:
    """The steps in order; what each depends on is in its inputs.

    `version` is that of .venv's Python, empty where there is none yet. torch comes before what
    asks for it, so that its build is chosen here; llama.cpp before the project, for a clock of its
    own.
    """
    running = ".".join(map(str, sys.version_info[:2]))
    python = [version or running, platform.machine()]
    torch, llama = pinned("torch"), pinned(LLAMA_PACKAGE)
    gpu = wants_gpu_llama(kind)
    extra = "[dev]" if verb == "test" else ""
    pins = CONSTRAINTS.read_text("utf-8")
    overlay = [overlay_step(verb, [*python, kind, torch])] if verb in KNOWN else []
    use = "test" if verb == "test" else "run"
    libraries = QT_ALWAYS if verb == "test" else QT_ALWAYS | QT_WINDOW
    return [
        Step("environment", "Making .venv", python, make_environment, lambda: bool(version)),
        Step("torch", f"Installing torch {torch} ({kind.upper()} build)", [python, kind, torch],
             lambda: install_torch(kind), has_torch, (10 if kind == "cuda" else 2) * GB),
        Step("llama", f"Compiling {LLAMA_PACKAGE} (about 10 minutes, once)", [python, gpu, llama],
             lambda: install_llama(gpu), has_llama, 1 * GB),
        Step(f"project{extra}", "Installing the libraries for training and for the window",
             [python, pins, project_inputs(), str(ROOT)],
             lambda: install_project(extra), has_project, 3 * GB),
        Step("converter", "Fetching llama.cpp's GGUF converter", [llama, CONVERTER_FOLDERS],
             fetch_converter, has_converter),
        Step(f"libraries-{use}", "Looking at the system libraries of Qt", libraries,
             lambda: provide_libraries(libraries)),
        *overlay,
    ]  # fmt: skip


def hand_over(command: list[str], environment: dict[str, str]) -> int:
    """Becomes the program, so that signals and the exit code are its own."""
    if not WINDOWS:
        os.execve(command[0], command, environment)
    started = subprocess.Popen(command, env=environment)
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the console tells the program too
            return started.wait()


def start(asked: Asked) -> int:
    """Starts the studio where the caller stands, or the tests in the checkout.

    -P: a folder of the caller's that holds a `studio` or a `random.py` must not come first.
    """
    environment = dict(os.environ)
    if asked.verb == "run":
        rest = studio_arguments(asked.rest, platform.system(), environment)
        return hand_over([str(PYTHON), "-P", "-m", "studio", *rest], environment)
    os.chdir(ROOT)
    environment["QT_QPA_PLATFORM"] = "offscreen"
    environment.setdefault("OMP_NUM_THREADS", "1")  # the tests run beside each other instead
    return hand_over([str(PYTHON), "-m", "pytest", *spread(asked.rest), *asked.rest], environment)


def spread(rest: list[str]) -> list[str]:
    """What lets pytest run all tests side by side; nothing where the caller names some of them."""
    named = any((ROOT / word.partition("::")[0]).exists() for word in rest if word)
    asked = any(word.startswith(("-n", "--numprocesses", "--pdb")) for word in rest)
    return [] if named or asked else ["-n", "2", "--dist", "loadgroup"]


@contextlib.contextmanager
def hearing_signals() -> Iterator[None]:
    """Lets a plain kill or a closed terminal end what was started, as Ctrl-C does."""

    def end(number: int, _frame: object) -> None:
        raise Ended(number)

    named = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    heard = [n for n in named if n is not None and signal.getsignal(n) is signal.SIG_DFL]
    for number in heard:  # one that is ignored, as under nohup, stays so
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def prepare_and_start(arguments: list[str]) -> int:
    asked = read_arguments(arguments)
    require_python()
    version = environment_version()
    set_up(plan(asked.verb, choose_kind(asked.cpu), version))
    if asked.verb in KNOWN:
        tell_use(asked.verb)
        return 0
    return start(asked)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        say((__doc__ or "").rstrip())
        return 0 if arguments else 2
    try:
        with hearing_signals():
            return prepare_and_start(arguments)
    except SetupError as fault:
        say(f"\n{fault}")
    except OSError as fault:
        why = DISK.why if fault.errno == 28 else "The checkout may not be written to by you."
        say(f"\n{SetupError(f'{fault}', why, f'Mend that, then {AGAIN}')}")
    except KeyboardInterrupt as end:
        say("\nInterrupted. Run the same command again: it goes on from here.")
        return 128 + (end.number if isinstance(end, Ended) else signal.SIGINT)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

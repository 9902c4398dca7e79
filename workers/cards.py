"""NVIDIA's cards as their driver tells of them, through its library NVML, without PyTorch.

`nvidia-ml-py` is NVIDIA's own binding. A call can take long while a card wakes up, so the studio
leaves asking to workers.
https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workers.protocol.cards import Card

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What CUDA lets a process see, by number or UUID: read when CUDA is first used."""
IN_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Has CUDA number the cards as nvidia-smi and NVML do, instead of the fastest first."""


DEVICES = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"
"""PCI's number of the maker, and the beginning of that of graphics cards."""
IN_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))


class NoCards(Exception):
    """NVIDIA's driver cannot be asked; says why."""


@contextlib.contextmanager
def open_nvml() -> Iterator[Any]:
    """NVML's functions, to be called within; raises `NoCards` where there is no driver."""
    try:
        import pynvml
    except ModuleNotFoundError as fault:
        raise NoCards("The package nvidia-ml-py is not installed here.") from fault
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as fault:
        raise NoCards(f"NVIDIA's driver is not here or does not answer: {fault}.") from fault
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def find_cards() -> tuple[list[Card], str]:
    """Every card of this machine, in the order of nvidia-smi; or why there are none."""
    try:
        with open_nvml() as nvml:
            return read_cards(nvml), ""
    except NoCards as none:
        return [], str(none)


def is_on_bus(devices: Path = DEVICES) -> bool:
    """Whether Linux sees an NVIDIA card, be there a driver for it or not; within a container, which
    sees the cards of its host, and on other systems it is not known."""
    if any(mark.exists() for mark in IN_CONTAINER):
        return False
    return any(
        _text(device / "vendor") == NVIDIA and _text(device / "class").startswith(DISPLAY)
        for device in devices.glob("*")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def read_cards(nvml: Any) -> list[Card]:
    """Every card as it stands now."""
    driver = _asked(nvml, nvml.nvmlSystemGetDriverVersion) or ""
    number = _asked(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)  # 13000 is 13.0
    cuda = f"{number // 1000}.{number % 1000 // 10}" if number else ""
    found: list[Card] = []
    for index in range(_asked(nvml, nvml.nvmlDeviceGetCount) or 0):
        handle = _asked(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is not None:
            static = Card(key=nvml.nvmlDeviceGetUUID(handle), index=index, driver=driver, cuda=cuda)
            found.append(_with_readings(nvml, handle, static))
    return found


def _with_readings(nvml: Any, handle: Any, card: Card) -> Card:
    memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    busy = _asked(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    capability = _asked(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return msgspec.structs.replace(
        card,
        name=_asked(nvml, nvml.nvmlDeviceGetName, handle) or "",
        capability=".".join(map(str, capability)) if capability else "",
        memory_bytes=memory.total if memory else None,
        used_bytes=memory.used if memory else None,
        celsius=celsius(nvml, handle),
        watts=_watts(_asked(nvml, nvml.nvmlDeviceGetPowerUsage, handle)),
        most_watts=_watts(_asked(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        busy_percent=busy.gpu if busy else None,
    )


def celsius(nvml: Any, handle: Any) -> int | None:
    """How hot a card is; None where it does not tell."""
    return _asked(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _asked(nvml: Any, ask: Any, *what: Any) -> Any:
    """The answer; None where the card or its driver has none, as laptops' have of power."""
    try:
        return ask(*what)
    except nvml.NVMLError:
        return None


def visible_cards(cards: list[Card], asked: str | None) -> list[Card]:
    """The cards that CUDA_VISIBLE_DEVICES leaves a process: all where it is not set.

    Numbers are taken in the order of nvidia-smi; a UUID may be cut short. As in CUDA, the first
    entry that names no card ends the list.
    """
    if asked is None:
        return cards
    seen: list[Card] = []
    for entry in asked.split(","):
        found = _named(cards, entry.strip())
        if found is None:
            break
        seen.append(found)
    return seen


def _named(cards: list[Card], entry: str) -> Card | None:
    if entry.isdigit():
        return next((card for card in cards if card.index == int(entry)), None)
    found = [card for card in cards if entry and card.key.startswith(entry)]
    return found[0] if len(found) == 1 else None


def are_hidden() -> bool:
    """Whether this process is to see no card at all."""
    return os.environ.get(VISIBLE, "0").strip() in ("", "-1")


def usable_cards() -> list[Card]:
    """The cards that this process may compute on."""
    return visible_cards(find_cards()[0], os.environ.get(VISIBLE))

"""Plays NVML's functions back for two cards: one that tells all, one that tells little.

Names and answers are those of `pynvml` (nvidia-ml-py 13); a test changes what is to change.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

GB = 1024**3


class NVMLError(Exception):
    """What pynvml raises."""


class Nvml:
    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.lost: set[int] = set()
        self.heat = {0: 64, 1: 41}
        self.used = {0: GB, 1: GB}

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetHandleByUUID(self, key: str) -> int:
        return KEYS.index(key)

    def nvmlDeviceGetUUID(self, card: int) -> str:
        return KEYS[card]

    def nvmlDeviceGetName(self, card: int) -> str:
        return ("NVIDIA GeForce RTX 4070", "Quadro P620")[card]

    def nvmlDeviceGetMemoryInfo(self, card: int) -> Any:
        total = (12_878_610_432, 2_147_483_648)[card]
        return SimpleNamespace(total=total, used=self.used[card], free=total - self.used[card])

    def nvmlDeviceGetCudaComputeCapability(self, card: int) -> Iterable[int]:
        return ((8, 9), (6, 1))[card]

    def nvmlDeviceGetTemperature(self, card: int, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self.heat[card]

    def nvmlDeviceGetPowerUsage(self, card: int) -> int:
        return 148_200 if card == 0 else self._not_told()

    def nvmlDeviceGetEnforcedPowerLimit(self, card: int) -> int:
        return 200_000 if card == 0 else self._not_told()

    def nvmlDeviceGetUtilizationRates(self, card: int) -> Any:
        return SimpleNamespace(gpu=97, memory=60) if card == 0 else self._not_told()

    def _not_told(self) -> int:
        raise NVMLError("Not Supported")


KEYS = (
    "GPU-11111111-2222-3333-4444-555555555555",
    "GPU-99999999-8888-7777-6666-555555555555",
)

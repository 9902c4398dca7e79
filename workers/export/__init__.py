"""From a finished run to files that other programs open: merged weights and GGUF, checked.

One load serves every target. Each file is written under a temporary name and renamed when whole.
"""

from __future__ import annotations

import gc
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from workers.fetch import Located, locate_run
from workers.folders import size_of
from workers.host import Host
from workers.protocol import wire
from workers.protocol.events import Artifact, Checked, Finished, Phase, Sampled, Stopped
from workers.protocol.jobs import Export
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from workers.export.parity import Reference

GGUF_TYPES = ("f16", "Q8_0", "Q4_K_M")
TARGETS = ("merged", *(f"gguf:{name}" for name in GGUF_TYPES))
BYTES_PER_WEIGHT = {"merged": 2.0, "gguf:f16": 2.0, "gguf:Q8_0": 1.1, "gguf:Q4_K_M": 0.7}
"""Upper estimates, embeddings included, to see before the work whether the disk has room."""


class _Asked(Exception):
    """The user asked to stop."""


def run(host: Host) -> None:
    """Runs an export job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Export)
    check_targets(task.targets)
    run_folder = Path(task.run_folder)
    located = locate_run(run_folder, Path(host.job.home), lambda text: _phase(host, text))
    exports = run_folder / "exports"
    work = exports / f".{host.job.id}"
    work.mkdir(parents=True, exist_ok=True)
    try:
        _export(host, task, located, exports, work)
        host.emit(Finished(summary={"targets": task.targets}))
    except _Asked:
        host.emit(Stopped(detail="Stopped when asked; files already complete are kept."))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_targets(targets: list[str]) -> None:
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise Refusal(
            f"There is no export target '{', '.join(unknown)}'.",
            f"Known are: {', '.join(TARGETS)}.",
            "Choose one or more of those.",
        )


def _export(host: Host, task: Export, located: Located, exports: Path, work: Path) -> None:
    from workers.export import merge, parity

    _phase(host, "Merging the adapter into the model")
    merged = merge.merge(located)
    _require_space(exports, merged.model.num_parameters(), task.targets)
    reference = None
    if task.check:
        _phase(host, "Asking the trained model, for comparison")
        reference = parity.ask(merged, _prompts(Path(task.run_folder)))
    if "merged" in task.targets:
        _phase(host, "Writing merged 16-bit weights")
        folder = merge.save(merged, work / "merged-16bit", torch.bfloat16)
        host.emit(_merged_check(folder))
        _keep(host, folder, exports, "merged")
    types = [target.removeprefix("gguf:") for target in task.targets if target != "merged"]
    if types:
        _phase(host, "Converting to GGUF")
        # f16 weights become an f16 file unchanged; bf16 would lose three bits on the way.
        weights = merge.save(merged, work / "weights", torch.float16)
        del merged
        gc.collect()
        _export_gguf(host, types, weights, reference, exports, work / run_name(task.run_folder))


def _export_gguf(
    host: Host,
    types: list[str],
    weights: Path,
    reference: Reference | None,
    exports: Path,
    stem: Path,
) -> None:
    """One conversion serves every type; f16 is kept last, since the others are made from it."""
    from workers.export import gguf, parity

    full = gguf.convert(weights, stem.with_name(f"{stem.name}-f16.gguf"))
    shutil.rmtree(weights)
    for kind in sorted(set(types), key="f16".__eq__):
        made = full
        if kind != "f16":
            _phase(host, f"Writing {kind}")
            made = gguf.quantize(full, stem.with_name(f"{stem.name}-{kind}.gguf"), kind)
        if reference is not None:
            _phase(host, f"Comparing {kind} with the trained model")
            for check in parity.compare(made, kind, reference):
                host.emit(check)
        _keep(host, made, exports, f"gguf:{kind}")


def _phase(host: Host, name: str) -> None:
    host.requests.take()
    if host.requests.stop_asked:
        raise _Asked
    host.emit(Phase(name=name))


def _require_space(exports: Path, weights: int, targets: list[str]) -> None:
    """The merged folder and the f16 file are always made on the way."""
    kinds = {"merged", *targets} | ({"gguf:f16"} if any(t != "merged" for t in targets) else set())
    needed = round(weights * sum(BYTES_PER_WEIGHT[kind] for kind in kinds))
    free = shutil.disk_usage(exports).free
    if free < needed:
        raise Refusal(
            f"The export needs about {needed / 1e9:.1f} GB and {exports} has {free / 1e9:.1f} GB.",
            "The merged model and a 16-bit file are made on the way to every GGUF.",
            "Free some space, or choose fewer targets.",
        )


def _keep(host: Host, made: Path, exports: Path, kind: str) -> None:
    """Moves a complete file or folder to its final place."""
    target = exports / made.name
    if target.is_dir():
        shutil.rmtree(target)
    made.replace(target)
    size = size_of(target) if target.is_dir() else target.stat().st_size
    host.emit(Artifact(path=str(target), kind=kind, bytes=size))


def run_name(run_folder: str) -> str:
    """A run's name as the start of a file's name: its folder's, without the date."""
    name = Path(run_folder).name
    return re.sub(r"^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-", "", name)


def _prompts(run_folder: Path) -> list[str]:
    """The held-out prompts that the run itself was sampled on."""
    said = [line.event for line in wire.read_events(run_folder)]
    return list(dict.fromkeys(event.prompt for event in said if isinstance(event, Sampled)))


def _merged_check(folder: Path) -> Checked:
    from workers.export.merge import stored_dtype

    config = msgspec.json.decode((folder / "config.json").read_bytes())
    kind, stored = ", ".join(config.get("architectures", [])), stored_dtype(folder)
    return Checked(
        check="merged: 16 bits", passed=stored in ("BF16", "F16"), detail=f"{kind} in {stored}"
    )

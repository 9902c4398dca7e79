"""From a finished run to files that other programs open: merged weights and GGUF, checked.

Weights are merged one at a time where that can be. Each file is written under a temporary name and
renamed when whole.
"""

from __future__ import annotations

import gc
import re
import shutil
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from workers.fetch import Located, locate_model, locate_run
from workers.folders import size_of
from workers.host import Host
from workers.protocol import wire
from workers.protocol.events import Artifact, Checked, Finished, Note, Phase, Sampled, Stopped
from workers.protocol.exports import EXPORTS, FULL, ExportSpec, record_parity
from workers.protocol.jobs import Export, Train
from workers.protocol.refusal import Refusal

if TYPE_CHECKING:
    from workers.export.parity import Reference

MERGED = EXPORTS["merged"]


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
        same = _export(host, task, located, exports, work)
        parity = "not compared" if not task.check else "passed" if same else "failed"
        host.emit(Finished(summary={"targets": task.targets, "parity": parity}))
    except _Asked:
        host.emit(Stopped(detail="Stopped when asked; files already complete are kept."))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_targets(targets: list[str]) -> None:
    unknown = [target for target in targets if target not in EXPORTS]
    if unknown or not targets:
        raise Refusal(
            f"There is no export target '{', '.join(unknown)}'.",
            f"Known are: {', '.join(EXPORTS)}.",
            "Choose one or more of those.",
        )


def _export(host: Host, task: Export, located: Located, exports: Path, work: Path) -> bool:
    """Writes every target; returns whether each speaks like the trained model."""
    from workers.engines import merge
    from workers.export import gguf, parity

    _require_space(exports, merge.bytes_in_16_bits(located.folder) // 2, task.targets)
    merged = merge.open_merged(located, lambda text: host.emit(Note(text=text)))
    reference = None
    if task.check:
        _phase(host, "Asking the trained model, for comparison")
        asked = merge.load_reference(located) if merged.stream else merged
        reference = parity.ask(asked, _prompts(Path(task.run_folder)))
        del asked
        gc.collect()
    base, same = _base_folder(host, located.folder), True
    if MERGED.id in task.targets:
        _phase(host, "Writing merged 16-bit weights")
        folder = merge.save(merged, work / MERGED.ending, torch.bfloat16, base)
        folder = _keep(host, folder, exports, MERGED.id)
        check = _merged_check(folder)
        host.emit(check)
        record_parity(exports, folder.name, [check])
        same &= check.passed
    files = [EXPORTS[target] for target in dict.fromkeys(task.targets)]
    files = [spec for spec in files if spec.quantization]
    if files:
        _phase(host, "Converting to GGUF")
        # f16 weights become an f16 file unchanged; bf16 would lose three bits on the way.
        weights = merge.save_finest(merged, work / "weights", base)
        gguf.tell_space_prefix(weights, merged.tokenizer)
        gguf.name_layers(weights)
        del merged
        gc.collect()
        stem = work / run_name(task.run_folder)
        same &= _export_gguf(host, files, weights, reference, exports, stem)
    return same


def _base_folder(host: Host, folder: Path) -> Path | None:
    """The model that was first trained on, where `folder` is that of a run in full; None where it
    is gone since."""
    run = folder.parent
    if not (run / wire.JOB).is_file():
        return folder
    task = wire.read_job(run).task
    assert isinstance(task, Train)
    try:
        under = locate_model(
            task.recipe.model.base, Path(host.job.home), lambda text: _phase(host, text)
        )
    except Refusal:
        return None
    return _base_folder(host, under.folder)


def _export_gguf(
    host: Host,
    files: list[ExportSpec],
    weights: Path,
    reference: Reference | None,
    exports: Path,
    stem: Path,
) -> bool:
    """One conversion serves every type; f16 is kept last, since the others are made from it."""
    from workers.export import gguf

    same = True
    full = gguf.convert(weights, stem.with_name(stem.name + EXPORTS[f"gguf:{FULL}"].ending))
    shutil.rmtree(weights)
    for spec in sorted(files, key=lambda spec: spec.quantization == FULL):
        kind, made = spec.quantization, full
        if kind != FULL:
            _phase(host, f"Writing {kind}")
            made = gguf.quantize(full, stem.with_name(stem.name + spec.ending), kind)
        made = _keep(host, made, exports, spec.id, compared=reference is not None)
        if reference is not None:
            _phase(host, f"Comparing {kind} with the trained model")
            same &= _compare(host, made, kind, reference)
    return same


def _compare(host: Host, made: Path, kind: str, reference: Reference) -> bool:
    """Tells and records whether a file speaks like the trained model.

    The file is kept already: a comparison that breaks is a failed check and costs no file.
    """
    from workers.export import parity

    checks: list[Checked] = []
    try:
        for check in parity.compare(made, kind, reference):
            checks.append(check)
            host.emit(check)
    except Exception as fault:
        print(traceback.format_exc())  # to worker.log
        checks.append(
            Checked(
                check=f"{kind}: compared",
                passed=False,
                detail=f"The comparison broke off: {str(fault) or type(fault).__name__}",
                remedy="Ask the file yourself before you trust it; the log holds the whole story.",
            )
        )
        host.emit(checks[-1])
    record_parity(made.parent, made.name, checks)
    return all(check.passed for check in checks)


def _phase(host: Host, name: str) -> None:
    host.requests.take()
    if host.requests.stop_asked:
        raise _Asked
    host.emit(Phase(name=name))


def _require_space(exports: Path, weights: int, targets: list[str]) -> None:
    """The merged folder and the f16 file are always made on the way."""
    files = any(EXPORTS[target].quantization for target in targets)
    kinds = {MERGED.id, *targets} | ({f"gguf:{FULL}"} if files else set())
    needed = round(weights * sum(EXPORTS[kind].bytes_per_weight for kind in kinds))
    free = shutil.disk_usage(exports).free
    if free < needed:
        raise Refusal(
            f"The export needs about {needed / 1e9:.1f} GB and {exports} has {free / 1e9:.1f} GB.",
            "The merged model and a 16-bit file are made on the way to every GGUF.",
            "Free some space, or choose fewer targets.",
        )


def _keep(host: Host, made: Path, exports: Path, kind: str, *, compared: bool = False) -> Path:
    """Moves a complete file or folder to its final place; what was found about an older one of
    its name holds no more."""
    target = exports / made.name
    record_parity(exports, made.name, [] if compared else None)
    if target.is_dir():
        shutil.rmtree(target)
    made.replace(target)
    size = size_of(target) if target.is_dir() else target.stat().st_size
    host.emit(Artifact(path=str(target), kind=kind, bytes=size))
    return target


def run_name(run_folder: str) -> str:
    """A run's name as the start of a file's name: its folder's, without the date."""
    name = Path(run_folder).name
    return re.sub(r"^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-", "", name)


def _prompts(run_folder: Path) -> list[str]:
    """The held-out prompts that the run itself was sampled on."""
    said = [line.event for line in wire.read_events(run_folder)]
    return list(dict.fromkeys(event.prompt for event in said if isinstance(event, Sampled)))


def _merged_check(folder: Path) -> Checked:
    from workers.engines.merge import stored_dtype

    config = msgspec.json.decode((folder / "config.json").read_bytes())
    kind, stored = ", ".join(config.get("architectures", [])), stored_dtype(folder)
    return Checked(
        check="merged: 16 bits", passed=stored in ("BF16", "F16"), detail=f"{kind} in {stored}"
    )

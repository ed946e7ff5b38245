"""Bars in an SVG, written by hand: one panel under the other, each with its own scale.

A bar is a median, its whisker the least and the greatest of the rounds. White ground and dark ink
are part of the picture, so that it reads the same on a dark page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, MARGIN = 760, 210, 130, 20
BAR, GAP, TITLE = 20, 8, 34
OURS, OTHERS, INK, FAINT = "#1f6feb", "#b6bec9", "#1f2328", "#59636e"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    low: float
    high: float
    ours: bool
    note: str = ""  # behind the value


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        return TITLE + len(self.bars) * (BAR + GAP) + MARGIN


def svg(panels: Sequence[Panel], caption: str) -> str:
    height = sum(panel.height for panel in panels) + 2 * MARGIN
    size = f"width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' {FONT} font-size='13'>",
        f"<title>{escape(caption)}</title>",
        f"<rect width='{WIDTH}' height='{height}' fill='white'/>",
    ]
    top = MARGIN
    for panel in panels:
        parts += drawn(panel, top)
        top += panel.height
    parts.append(text(MARGIN, height - MARGIN / 2, caption, fill=FAINT, size=11))
    return "\n".join([*parts, "</svg>", ""])


def drawn(panel: Panel, top: float) -> Iterator[str]:
    yield text(MARGIN, top + 14, panel.title, weight="600")
    most = max(bar.high for bar in panel.bars)
    scale = (WIDTH - LEFT - RIGHT) / most
    for number, bar in enumerate(panel.bars):
        y = top + TITLE + number * (BAR + GAP)
        middle = y + BAR / 2
        end = LEFT + bar.value * scale
        yield text(LEFT - 10, middle + 4.5, bar.label, anchor="end")
        yield (
            f"<rect x='{LEFT}' y='{y:.1f}' width='{bar.value * scale:.1f}' height='{BAR}' "
            f"fill='{OURS if bar.ours else OTHERS}'/>"
        )
        low, high = LEFT + bar.low * scale, LEFT + bar.high * scale
        yield (
            f"<path d='M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 4:.1f}v8"
            f"M{high:.1f} {middle - 4:.1f}v8' stroke='{INK}' fill='none'/>"
        )
        label = f"{bar.value:,.0f}{f'  {bar.note}' if bar.note else ''}"
        yield text(max(end, high) + 8, middle + 4.5, label)


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    fill: str = INK,
    size: int = 13,
    weight: str = "400",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{fill}' font-size='{size}' "
        f"font-weight='{weight}' xml:space='preserve'>{escape(words)}</text>"
    )

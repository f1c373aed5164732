"""Pictures as SVG text, made by hand: the same bytes from the same numbers, on every machine and on every day.

A picture carries no colours and no fonts of its own. Its marks have classes (`grid`, `tick`, `zero` … and
`ink-<name>` for a series) that the style of the page paints, so that one picture fits a light and a dark page.
`lines`, `histogram` and `grid` are drawn in a box of WIDTH × HEIGHT and scale as a whole; `intervals`, `balance` and
`axis` are strips that stretch to whatever width they get, so that thin marks and dots keep their size.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 290, 172  # of a box, in its own units
LEFT, RIGHT, TOP, BOTTOM = 38, 40, 8, 22  # margins of a box, for ticks and for the values at the ends of lines
CHARACTER = 6.2  # width of a digit of a tick's label
NARROW = 4  # below this ratio of largest to smallest a logarithmic scale would say no more than a linear one
DODGE = 11  # pixels from one interval of a strip to the next


@dataclass(frozen=True)
class Line:
    """One series; points are (x, y), x ascending. A sparse one has a dot at each point, a faint one stays behind."""

    label: str
    ink: str
    points: Sequence[tuple[float, float]]
    sparse: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Interval:
    """One score with its interval, all within 0…1."""

    label: str
    ink: str
    value: float
    low: float
    high: float


def lines(title: str, series: Sequence[Line], logarithmic: bool = False) -> str:
    """Curves over a common x from 0 up, with the last value of each written at its end.

    Raises ValueError without points, or for a logarithmic scale with values that are not above 0.
    """
    series = [line for line in series if line.points]
    if not series:
        raise ValueError(f"{title}: a picture needs at least one point")
    low = min(y for line in series for _, y in line.points)
    high = max(y for line in series for _, y in line.points)
    furthest = max(x for line in series for x, _ in line.points) or 1.0
    y_ticks = logarithmic_ticks(low, high) if logarithmic else ticks(low, high, 5)
    y_labels = labels(y_ticks)
    left = max(LEFT, 12 + CHARACTER * max(map(len, y_labels)))
    scale = math.log if logarithmic else float
    bottom, top = scale(min(low, y_ticks[0])), scale(max(high, y_ticks[-1]))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = x / furthest, (scale(y) - bottom) / ((top - bottom) or 1.0)
        return left + across * (WIDTH - left - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for value, label in zip(y_ticks, y_labels, strict=True):
        _, y = place(0, value)
        parts.append(_tag("line", x1=left, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(_text(label, left - 6, y + 4, "tick end"))
    x_ticks = [tick for tick in ticks(0, furthest, 5) if tick <= furthest]
    for value, label in zip(x_ticks, labels(x_ticks), strict=True):
        x, _ = place(value, y_ticks[0])
        parts.append(_text(label, x, HEIGHT - 5, "tick middle"))
    ends = _apart([place(*line.points[-1])[1] for line in series], 12, TOP, HEIGHT - BOTTOM)
    for line, end in zip(series, ends, strict=True):
        places = [place(*point) for point in line.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        marks = [_tag("path", d=path, class_="curve")]
        if line.sparse or len(places) == 1:
            marks += [_tag("circle", cx=x, cy=y, r=2.2, class_="dot") for x, y in places]
        last = number(line.points[-1][1])
        marks.append(_text(last, places[-1][0] + 5, end + 4, "value"))
        parts.append(_group(f"ink-{line.ink}{' faint' * line.faint}", f"{line.label}: {last} at the end", marks))
    return _svg(title, parts, viewBox=f"0 0 {WIDTH} {HEIGHT}")


def spans_magnitudes(series: Iterable[Line]) -> bool:
    """Whether a logarithmic scale suits these: all above zero and of very different size."""
    values = [y for line in series for _, y in line.points]
    return bool(values) and min(values) > 0 and max(values) / min(values) >= NARROW


def histogram(title: str, bars: Sequence[tuple[str, int]], ink: str) -> str:
    """One bar for each (label, count), all of one width. Raises ValueError without bars."""
    if not bars:
        raise ValueError(f"{title}: a picture needs at least one bar")
    right = 8
    highest = max(max(count for _, count in bars), 1)
    y_ticks = ticks(0, highest, 4)
    width = (WIDTH - LEFT - right) / len(bars)
    every = math.ceil(len(bars) / 9)  # labels that fit side by side
    parts = []
    for value, name in zip(y_ticks, labels(y_ticks), strict=True):
        y = HEIGHT - BOTTOM - value / y_ticks[-1] * (HEIGHT - TOP - BOTTOM)
        parts.append(_tag("line", x1=LEFT, x2=WIDTH - right, y1=y, y2=y, class_="grid"))
        parts.append(_text(name, LEFT - 6, y + 4, "tick end"))
    for i, (label, count) in enumerate(bars):
        height = count / y_ticks[-1] * (HEIGHT - TOP - BOTTOM)
        x, y = LEFT + i * width, HEIGHT - BOTTOM - height
        bar = _tag("rect", x=x + 1, y=y, width=width - 2, height=height)
        parts.append(_group(f"ink-{ink} bar", f"{label}: {count:,}", [bar]))
        if i % every == 0:
            parts.append(_text(label, x + width / 2, HEIGHT - 5, "tick middle"))
    return _svg(title, parts, viewBox=f"0 0 {WIDTH} {HEIGHT}")


def grid(title: str, rows: Sequence[Sequence[float]], ink: str) -> str:
    """Shares of visits, a row of cells for each layer: the fuller a cell, the more; 1 fills half, an empty one is 0.

    Raises ValueError without cells.
    """
    if not rows or not all(rows):
        raise ValueError(f"{title}: a picture needs at least one cell")
    left, right = 22, 8
    height = (HEIGHT - TOP - BOTTOM) / len(rows)
    every = math.ceil(len(rows) / 9)  # labels that fit below each other
    parts = []
    for layer, row in enumerate(rows):
        width = (WIDTH - left - right) / len(row)
        y = TOP + layer * height
        if layer % every == 0:
            parts.append(_text(str(layer), left - 6, y + height / 2 + 4, "tick end"))
        for expert, value in enumerate(row):
            x, filled = left + expert * width, min(value / 2, 1) * (height - 2)
            frame = _tag("rect", x=x + 1, y=y + 1, width=width - 2, height=height - 2, class_="cell")
            bar = _tag("rect", x=x + 1, y=y + height - 1 - filled, width=width - 2, height=filled)
            parts.append(_group(f"ink-{ink} bar", f"layer {layer}, expert {expert}: {value:.2f}", [frame, bar]))
    every = math.ceil(len(rows[0]) / 16)
    for expert in range(0, len(rows[0]), every):
        width = (WIDTH - left - right) / len(rows[0])
        parts.append(_text(str(expert), left + (expert + 0.5) * width, HEIGHT - 5, "tick middle"))
    return _svg(title, parts, viewBox=f"0 0 {WIDTH} {HEIGHT}")


def intervals(title: str, rows: Sequence[Interval]) -> str:
    """A strip from 0 to 1 with one dot and its whisker per row, one below the other."""
    height = DODGE * (len(rows) + 1)
    parts = [_rule(share, height, "grid") for share in (0, 0.25, 0.5, 0.75, 1)]
    for i, row in enumerate(rows, start=1):
        y = DODGE * i
        label = f"{row.label}: {percent(row.value)} [{percent(row.low)}, {percent(row.high)}]"
        whisker = _tag("line", x1=_share(row.low), x2=_share(row.high), y1=y, y2=y, class_="whisker")
        dot = _tag("circle", cx=_share(row.value), cy=y, r=3.6, class_="dot")
        parts.append(_group(f"ink-{row.ink}", label, [whisker, dot]))
    return _svg(title, parts, width="100%", height=height)


def balance(title: str, worse: float, better: float, limit: float, faint: bool = False) -> str:
    """A strip from −limit to limit: the share `worse` to the left of its middle, the share `better` to the right."""
    assert max(worse, better) <= limit
    height = 16
    parts = []
    for kind, start, share in (("worse", 0.5 - worse / limit / 2, worse), ("better", 0.5, better)):
        class_ = f"{kind} faint" if faint else kind
        width = _share(share / limit / 2)
        parts.append(_tag("rect", x=_share(start), y=3, width=width, height=height - 6, class_=class_))
    return _svg(title, [*parts, _rule(0.5, height, "zero")], width="100%", height=height)


def funnel(title: str, before: float, after: float, ink: str) -> str:
    """A strip from 0 to 1 that is full up to `after`; from there up to `before` is what was lost."""
    height = 14
    full = _tag("rect", x="0%", y=2, width=_share(after), height=height - 4)
    lost = _tag("rect", x=_share(after), y=2, width=_share(before - after), height=height - 4, class_="worse")
    label = f"{percent(after)} stay, {percent(before - after)} lost"
    return _svg(title, [_group(f"ink-{ink} bar", label, [full, lost])], width="100%", height=height)


def axis(labels: Sequence[str]) -> str:
    """The tick labels of a strip, evenly spread from its left end to its right end."""
    parts = []
    for i, label in enumerate(labels):
        share = i / (len(labels) - 1)
        anchor = "start" if i == 0 else "end" if i == len(labels) - 1 else "middle"
        parts.append(_text(label, _share(share), 11, f"tick {anchor}"))
    return _svg("axis", parts, width="100%", height=16)


def ticks(low: float, high: float, target: int) -> list[float]:
    """Round numbers, about `target` of them, from the last one at or below `low` to the first at or above `high`."""
    if high <= low:
        reach = abs(low) / 2 or 1.0
        low, high = low - reach, high + reach
    raw = (high - low) / max(1, target - 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Of 1, 2 and 5 times the powers of ten those between two numbers, over a wide span the powers alone.

    Raises ValueError unless 0 < low ≤ high.
    """
    if not 0 < low <= high:
        raise ValueError(f"no logarithmic scale has room for {low} to {high}")
    factors = (1.0,) if high / low > 200 else (1.0, 2.0, 5.0)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
    return [value for value in values if low <= value <= high] or [low]


def labels(values: Sequence[float]) -> list[str]:
    """Every value as text, with as many digits as it takes to tell them apart, three or more."""
    for digits in range(3, 13):
        texts = [number(value, digits) for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def number(value: float, digits: int = 3) -> str:
    """Three digits are enough for a picture, unless that makes two numbers one: 0.0312, 1.53, 2.4k, 9.83M, 1e-5."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit * (1 - 0.5 * 10**-digits):
            return f"{value / unit:.{digits}g}{name}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.{digits}g}"


def percent(share: float) -> str:
    """A share of 1 as a percentage with one decimal and no sign: 0.925 is "92.5"."""
    return f"{100 * share:.1f}"


def _apart(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The positions, moved as little as keeps labels from overlapping, within low…high if there is room."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    moved = list(positions)
    for previous, current in zip(order, order[1:], strict=False):
        moved[current] = max(moved[current], moved[previous] + gap)
    limit = high
    for current in reversed(order):
        moved[current] = max(low, min(moved[current], limit))
        limit = moved[current] - gap
    return moved


def _svg(title: str, parts: Sequence[str], **attributes: str | float) -> str:
    opening = _attributes({"role": "img", "aria-label": title, **attributes})
    return f"<svg{opening}>{''.join(parts)}</svg>"


def _group(class_: str, label: str, parts: Sequence[str]) -> str:
    return f'<g class="{escape(class_)}">{_title(label)}{"".join(parts)}</g>'


def _title(text: str) -> str:
    """What a browser shows when the pointer rests on the element that contains this."""
    return f"<title>{escape(text)}</title>"


def _rule(share: float, height: float, class_: str) -> str:
    return _tag("line", x1=_share(share), x2=_share(share), y1=0, y2=height, class_=class_)


def _text(text: str, x: str | float, y: float, class_: str) -> str:
    return f"<text{_attributes({'x': x, 'y': y, 'class': class_})}>{escape(text)}</text>"


def _tag(name: str, class_: str = "", **attributes: str | float) -> str:
    return f"<{name}{_attributes(attributes | ({'class': class_} if class_ else {}))}/>"


def _attributes(values: dict[str, str | float]) -> str:
    def written(value: str | float) -> str:
        return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")

    return "".join(f' {name}="{escape(written(value))}"' for name, value in values.items())


def _share(share: float) -> str:
    return f"{100 * share:.2f}%"

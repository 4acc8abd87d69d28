"""Numbers as one HTML page with pictures in it: nothing is loaded from anywhere, so it can be kept and sent. Pure."""

import html
import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _MARGIN = 640, 260, 64, 28, 12
_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em;color:#222;background:#fff}"
    "svg{background:#fafafa;border:1px solid #ddd;margin:.4em 0 1.6em}"
    "text{font:11px system-ui,sans-serif;fill:#555}h2{font-size:1.05em;margin:.2em 0}"
    "table{border-collapse:collapse;margin-bottom:2em}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}"
)

Points = Sequence[tuple[float, float]]


_START = "<!doctype html><html><head><meta charset=utf-8><meta name=generator content=dvlite>"


def is_page(start: bytes) -> bool:
    """Tell whether a file that begins so is a page of ours."""
    return start.startswith(_START.encode())


def page(
    title: str,
    charts: Sequence[tuple[str, Mapping[str, Points], Sequence[str]]],
    rows: Sequence[Sequence[str]],
) -> str:
    """Return a page of charts, each a title, its lines by name, and what stands below it instead of numbers; then a table.

    The table's first row is its head.
    """
    parts = [f"{_START}<title>{html.escape(title)}</title>"]
    parts += [f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"]
    for name, lines, labels in charts:
        parts.append(f"<h2>{html.escape(name)}</h2>{chart(lines, labels)}")
    if rows:
        head, *body = rows
        parts.append("<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>")
        parts += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>", ""])


def chart(lines: Mapping[str, Points], labels: Sequence[str] = ()) -> str:
    """Return lines as a picture in SVG; values that are no numbers are left out."""
    shown = {name: [one for one in points if all(map(math.isfinite, one))] for name, points in lines.items()}
    every = [one for points in shown.values() for one in points]
    if not every:
        return "<p>no numbers</p>"
    lows, highs = [min(one[at] for one in every) for at in (0, 1)], [max(one[at] for one in every) for at in (0, 1)]
    spans = [(high - low) or abs(high) or 1.0 for low, high in zip(lows, highs, strict=True)]

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - lows[0]) / spans[0] * (_WIDTH - _LEFT - _MARGIN) + _LEFT
        up = (point[1] - lows[1]) / spans[1] * (_HEIGHT - _BOTTOM - _MARGIN)
        return round(across, 1), round(_HEIGHT - _BOTTOM - up, 1)

    height = _HEIGHT + (16 * math.ceil(len(shown) / 4) if len(shown) > 1 else 0)
    parts = [f'<svg width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">']
    for step in range(5):
        value = lows[1] + spans[1] * step / 4
        _, y = place((lows[0], value))
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _MARGIN}" y1="{y}" y2="{y}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.4g}</text>')
    for value, text in _ticks(lows[0], highs[0], labels):
        x, _ = place((value, lows[1]))
        parts.append(f'<text x="{x}" y="{_HEIGHT - 10}" text-anchor="middle">{html.escape(text)}</text>')
    for number, (name, points) in enumerate(shown.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [place(one) for one in sorted(points)]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        if len(places) <= 200:
            parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in places]
        if len(shown) > 1:
            x, y = _LEFT + 145 * (number % 4), _HEIGHT + 4 + 16 * (number // 4)
            parts.append(f'<rect x="{x}" y="{y}" width="9" height="9" fill="{colour}"/>')
            parts.append(f'<text x="{x + 13}" y="{y + 9}">{html.escape(name[:20])}</text>')
    return "".join([*parts, "</svg>"])


def _ticks(low: float, high: float, labels: Sequence[str]) -> list[tuple[float, str]]:
    if labels:
        step = max(1, math.ceil(len(labels) / 8))
        return [(float(at), labels[at]) for at in range(0, len(labels), step)]
    if low == high:
        return [(low, f"{low:.4g}")]
    return [(low + (high - low) * step / 4, f"{low + (high - low) * step / 4:.4g}") for step in range(5)]

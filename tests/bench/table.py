"""What was measured, as Markdown: medians, spread and the ratio to dvlite."""

import statistics


def seconds(taken):
    """Return a cell: median and, with more than one round, smallest and largest."""
    values = [one.seconds for one in taken]
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f}–{max(values):.2f})"


def rows(work, tools, found, heads):
    """Yield a line for each operation. `found`: tool -> operation -> list of Taken; the last tool may be plain tools."""
    operations = dict.fromkeys(operation for tool in tools for operation in found.get(tool, {}))
    for operation in operations:
        ours = found["dvlite"].get(operation)
        cells = []
        for tool in heads:
            taken = found.get(tool, {}).get(operation)
            cell = seconds(taken) if taken else ""
            if taken and ours and tool != "dvlite":
                cell += f" · {median(taken) / max(median(ours), 0.001):.1f}×"
            cells.append(cell)
        yield f"| {work} | {operation} | {' | '.join(cells)} |"


def median(taken):
    return statistics.median(one.seconds for one in taken)


def needs(work, tools, found):
    """Yield lines of CPU seconds, peak of memory and bytes written, for each operation that took a tool longer than a second."""
    for operation in dict.fromkeys(operation for tool in tools for operation in found.get(tool, {})):
        cells = []
        for tool in tools:
            taken = sorted(found.get(tool, {}).get(operation, []))
            if not taken:
                cells.append("")
                continue
            middle = taken[len(taken) // 2]
            cells.append(f"{middle.cpu:.1f} s, {middle.peak / 1e6:.0f} MB, {middle.written / 1e6:.0f} MB")
        if any(median(found[tool][operation]) > 1 for tool in tools if operation in found.get(tool, {})):
            yield f"| {work} | {operation} | {' | '.join(cells)} |"

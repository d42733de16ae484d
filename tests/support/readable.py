"""Checks of what a report shows: figures whose laws have one colour and whose texts can be read, and tables that are full."""

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.text import Text

from analysis.figures import style
from analysis.frames import EMPTY

LEAST = 9.0  # points
TERMINAL = 100  # characters


def check_figure(figure):
    """Check the colours of all laws, the sizes of all texts and the titles of a figure, and close it."""
    figure.canvas.draw()
    for ax in figure.axes:
        assert ax.get_label()
        assert wrong_colours(ax) == strange_colours(ax) == {}
    assert small_texts(figure) == {}
    plt.close(figure)


def wrong_colours(ax):
    """Return the lines of a panel, "law" or "law, of a pair or data set", that do not have the colour of their law."""
    lines = {str(line.get_label()): to_hex(line.get_color()) for line in ax.get_lines()}
    laws = {name: [law for law in style.FAMILIES if name == law or name.startswith(f"{law}, ")] for name in lines}
    meant = {name: style.FAMILIES[max(found, key=len)][0].lower() for name, found in laws.items() if found}
    return {name: lines[name] for name, colour in meant.items() if lines[name] != colour}


def strange_colours(ax):
    """Return the lines of a panel whose colour is none of those that all figures share."""
    shared = {each.lower() for each in (*vars(style).values(), *style.SHADES) if isinstance(each, str) and each.startswith("#")}
    lines = {str(line.get_label()): to_hex(line.get_color()) for line in ax.get_lines()}
    return {name: colour for name, colour in lines.items() if colour not in shared}


def small_texts(figure):
    """Return the texts of a figure that are smaller than 9 points where a page shows it."""
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return {text.get_text(): text.get_fontsize() for text in shown if text.get_fontsize() < LEAST}


def check_table(columns, rows):
    """Check that a table has rows, a cell per column, and no column that says nothing."""
    assert rows
    assert {len(row) for row in rows} == {len(columns)}
    assert all(any(row[i] not in EMPTY for row in rows) for i in range(len(columns)))


def check_width(grid, frame):
    """Check that a table is marked as wide if no terminal of 100 characters can hold it."""
    columns, rows = grid.filled(frame)
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    assert grid.wide or sum(width + 3 for width in widths) < TERMINAL  # a line and two spaces per column

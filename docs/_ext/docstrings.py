"""Read docstrings as they are written: plain text with Greek letters and bars, indented formulas, and fields of NamedTuples."""

import re
from typing import Any

from sphinx.application import Sphinx

FIELD = re.compile(r"[a-z]\w*(, [a-z]\w*)*: ")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to autodoc, before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", translate, priority=400)
    app.connect("autodoc-skip-member", skip_field)
    return {"parallel_read_safe": True}


def translate(_app: Sphinx, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Translate a docstring, in place, to reStructuredText with Google's sections."""
    fields = getattr(obj, "_fields", ()) if what == "class" else ()
    lines[:] = escaped(with_attributes(lines, fields))


def with_attributes(lines: list[str], fields: tuple[str, ...]) -> list[str]:
    """Return the lines with the heading of Google's style above the paragraph that describes a NamedTuple's fields."""
    starts = [i for i, line in enumerate(lines) if FIELD.match(line) and line.split(":")[0].split(", ")[0] in fields]
    if not starts:
        return lines
    first = starts[0]
    end = next((i for i in range(first, len(lines)) if not lines[i]), len(lines))
    described = (FIELD.sub(lambda names: names[0].replace(", ", "/"), line) for line in lines[first:end])
    return [*lines[:first], "Attributes:", *(f"    {line}" for line in described), *lines[end:]]


def escaped(lines: list[str]) -> list[str]:
    """Return the lines with `::` above every indented block below text at the margin, and the marks of other text escaped."""
    out: list[str] = []
    literal = False
    for i, line in enumerate(lines):
        opens = line.startswith("    ") and i > 1 and not lines[i - 1] and lines[i - 2] and not lines[i - 2].startswith(" ")
        literal = opens or (literal and (not line or line.startswith(" ")))
        out += ["::", ""] if opens else []
        out.append(line if literal else line.replace("|", r"\|").replace("**", r"\*\*"))
    return out


def skip_field(_app: Sphinx, _what: str, _name: str, obj: Any, _skip: bool, _options: Any) -> bool | None:
    """Skip the fields of a NamedTuple, which the docstring of the class describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None

r"""Write numbers and symbols for readers: no zero has a sign, and x_t, p^β and 2e-14 become subscripts, powers and 2 × 10⁻¹⁴.

Texts of users are not passed here: their underscores and hyphens stay as they are.
"""

import re
from html import escape

SPACE = "\N{NO-BREAK SPACE}"
ZERO, MINUS = r"(?<![\w.])[-−](0(?:\.0+)?)(?![\d.])", r"(?<![\w.])-(?=\d)"
SUBSCRIPT = r"(?<![A-Za-zΑ-ω_])([A-Za-zΑ-ω]′?)_((?:&lt;)?[A-Za-zΑ-ω0-9]+)"
SUPERSCRIPT = r"\^(?:\(([^()]*)\)|\{([^{}]*)\}|([\w½−]+))"


def signed(value: float, form: str = ".3f") -> str:
    """Return a number with its sign; one that rounds to zero has none."""
    text = f"{value:+z{form}}"
    return text if float(text) else text[1:]


def power(value: float) -> str:
    """Return a number of an axis: 0.01, but 10⁻⁵ and 2 · 10⁻⁵."""
    if value >= 1e-3:
        return f"{value:g}"
    head, exponent = f"{value:.0e}".split("e")
    raised = f"10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return raised if head == "1" else f"{head} · {raised}"


def html(text: str) -> str:
    """Return the HTML of a text: escaped, with minus signs, powers of ten, subscripts and superscripts."""
    text = re.sub(MINUS, "−", re.sub(ZERO, r"\1", escape(kept(text))))
    text = re.sub(r"(\d)e([+-])0*(\d+)", lambda it: f"{it[1]} × 10<sup>{'−' * (it[2] == '-')}{it[3]}</sup>", text)
    text = re.sub(SUBSCRIPT, r"\1<sub>\2</sub>", text)
    return re.sub(SUPERSCRIPT, lambda it: f"<sup>{it[1] or it[2] or it[3]}</sup>", text)


def kept(text: str) -> str:
    """Return a text whose numbers do not part from their signs, units and symbols at the end of a line."""
    text = re.sub(r"(?<=\d) ?%", f"{SPACE}%", text)
    text = re.sub(r"(?<=[α-ωA-Z]) ([=≤<>]) (?=[\d½−-])", rf"{SPACE}\1{SPACE}", text)
    return re.sub(r" ± ", f"{SPACE}±{SPACE}", text)


def picture(text: str) -> str:
    """Return a text for a picture, with subscripts and superscripts as formulas of matplotlib."""
    text = re.sub(MINUS, "−", re.sub(r"(?<=\d)%", " %", text).replace("$", r"\$"))
    text = re.sub(SUBSCRIPT, r"\1$_{\\mathrm{\2}}$", text)
    return re.sub(SUPERSCRIPT, lambda it: f"$^{{\\mathrm{{{it[1] or it[2] or it[3]}}}}}$", text)

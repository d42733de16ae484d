"""What readers see of numbers and symbols: no signed zeros, minus signs, powers, subscripts; and nothing unescaped."""

import pytest

from analysis import typeset

HARD = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0004, "0.000"), (0.0004, "0.000"), (0.0, "0.000"), (-0.0006, "-0.001"), (0.25, "+0.250"), (-1.5, "-1.500")],
)
def test_a_number_that_rounds_to_zero_has_no_sign(value, text):
    assert typeset.signed(value) == text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("-0.00 … -0.01", "0.00 … −0.01"),
        ("−0.000 ± 0.001", f"0.000{HARD}±{HARD}0.001"),
        ("a-0 x-1 log-1", "a-0 x-1 log-1"),
        ("holds to 2e-14 and 3e+05", "holds to 2 × 10<sup>−14</sup> and 3 × 10<sup>5</sup>"),
        ("Π Z_t / Z, s′_γ, σ_max, x_<t", "Π Z<sub>t</sub> / Z, s′<sub>γ</sub>, σ<sub>max</sub>, x<sub>&lt;t</sub>"),
        ("p(x)^β, β^(−1/2), p^{1/τ}", "p(x)<sup>β</sup>, β<sup>−1/2</sup>, p<sup>1/τ</sup>"),
        ("log_z of <b> & “c”", "log_z of &lt;b&gt; &amp; “c”"),
        ("at γ = 3, 95 % of T = 5", f"at γ{HARD}={HARD}3, 95{HARD}% of T{HARD}={HARD}5"),
    ],
)
def test_symbols_are_typeset_and_the_rest_escaped(text, html):
    assert typeset.html(text) == html


def test_a_picture_has_formulas_and_no_accidental_ones():
    assert typeset.picture("x_t costs $5 at -2") == r"x$_{\mathrm{t}}$ costs \$5 at −2"


@pytest.mark.parametrize(("value", "text"), [(0.01, "0.01"), (20.0, "20"), (1e-5, "10⁻⁵"), (2e-7, "2 · 10⁻⁷")])
def test_numbers_of_an_axis_are_plain(value, text):
    assert typeset.power(value) == text

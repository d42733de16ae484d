import importlib
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "diffusion", "analysis", "seaborn", "pandas", "matplotlib")


def imported_by(code):
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_importing_arguide_imports_nothing_heavy():
    assert imported_by("import arguide; arguide.__version__; dir(arguide)") == []


def test_the_import_check_sees_an_import():
    assert "pandas" in imported_by("import pandas")


def test_using_every_name_but_those_of_text_imports_torch_alone():
    text = "text guided GuidedLM Guidance Condition Continuation continuation score Scores"
    names = f"set(arguide.__all__) - set({text!r}.split())"
    assert imported_by(f"import arguide; [getattr(arguide, name) for name in {names}]") == ["torch"]


def test_guiding_text_imports_transformers_and_nothing_of_the_analysis():
    assert imported_by("import arguide; arguide.guided, arguide.score") == ["torch", "transformers"]


@pytest.mark.parametrize(
    "module", ["arguide.continuous", "arguide.coherent", "arguide.smc", "diffusion.discrete", "diffusion.networks"]
)
def test_what_a_package_imports_to_offer_it_is_public(module):
    package = importlib.import_module(module)
    offered = {name for name, value in vars(package).items() if getattr(value, "__module__", "").startswith(module)}
    assert offered - set(getattr(package, "__all__", offered)) == set()


def test_every_public_name_resolves():
    import arguide

    assert all(getattr(arguide, name) is not None for name in arguide.__all__)
    with pytest.raises(AttributeError):
        _ = arguide.no_such_name

"""Write the pages of the API reference: one per package, its modules in the order of the theory, and their public names.

A name stands in the section of its module, under the shortest name that users import: `arguide.guide` for
`arguide.guidance.guide`.
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

# Package ↦ its public modules. A module of a package that is missing here has no page.
PAGES = {
    "arguide": "guidance schedules models sampling transforms stopping particles repeats metropolis training",
    "arguide.text": "settings generation continuation scoring evaluation prompts training",
    "arguide.coherent": "mixture posterior acceptance",
    "arguide.ladder": "texts replicas estimates diagnosis sampling",
    "arguide.smc": "samples resampling draws driver populations repeats acceptance diagnostics",
    "arguide.continuous": "mixtures sampling",
    "diffusion": "guidance models predictions noise sampling langevin particles repeats nonlinear_guidance temperature "
    "diffusers_bridge training",
    "diffusion.coherent": "kernels mixture sampling acceptance",
    "diffusion.discrete": "base masked uniform",
    "diffusion.networks": "backbones denoisers",
    "analysis": "frames engines",
    "analysis.toys": "law table chain mixture gaussian from_files autoregressive example_tables pairs",
    "analysis.toys.ngrams": "models texts contexts",
    "analysis.metrics": "scale_factors distances confidence comparison gap_estimates sample_quality text_statistics "
    "incoherence text_laws mixture_texts",
    "analysis.metrics.temperature": "effective_beta laws draws claims",
    "analysis.experiments": "base reproduce",
}


class Entry(NamedTuple):
    """One object of a page: its directive, and the name that users import."""

    directive: str
    name: str


def write(folder: Path) -> None:
    """Write one page per package into a folder, and the page that lists them; unchanged pages are not read again."""
    folder.mkdir(exist_ok=True)
    pages = {f"{package}.rst": page(package) for package in PAGES} | {"index.rst": index()}
    for old in set(folder.iterdir()) - {folder / name for name in pages}:
        old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def index() -> str:
    """Return the page that lists all packages."""
    rows = "".join(f"* :doc:`{name}` – {summary(importlib.import_module(name))}\n" for name in PAGES)
    listed = "".join(f"   {name}\n" for name in PAGES)
    return f"{title('API reference')}{rows}\n.. toctree::\n   :hidden:\n\n{listed}"


def page(package: str) -> str:
    """Return the page of a package: its docstring, and a section for every module."""
    sections = "".join(section(f"{package}.{name}") for name in PAGES[package].split())
    return f"{title(package)}.. automodule:: {package}\n\n{sections}"


def section(module: str) -> str:
    """Return the section of a module: its docstring, and every public name."""
    members = {"autoclass": "   :members:\n", "autofunction": "", "autodata": ""}
    found = entries(importlib.import_module(module))
    objects = "".join(f".. {entry.directive}:: {entry.name}\n{members[entry.directive]}\n" for entry in found)
    return f"{title(module, '-')}.. automodule:: {module}\n\n{objects}"


def entries(module: ModuleType) -> Iterator[Entry]:
    """Yield the public functions and classes that a module defines, and the constants that its package makes public."""
    package = importlib.import_module(module.__name__.rpartition(".")[0])
    for name, value in vars(module).items():
        if name.isupper() and name in getattr(package, "__all__", ()):
            yield Entry("autodata", f"{module.__name__}.{name}")
        elif not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            if inspect.isclass(value):
                yield Entry("autoclass", public_name(value))
            elif inspect.isfunction(value):
                yield Entry("autofunction", public_name(value))


def public_name(value: object) -> str:
    """Return the shortest name under which packages give an object."""
    module = value.__module__
    parts = module.split(".")
    parents = [".".join(parts[:count]) for count in range(1, len(parts))]
    name = value.__name__
    homes = (parent for parent in parents if getattr(importlib.import_module(parent), name, None) is value)
    return f"{next(homes, module)}.{name}"


def summary(module: ModuleType) -> str:
    """Return the first line of a module's docstring."""
    return (module.__doc__ or "").strip().split("\n")[0]


def title(text: str, line: str = "=") -> str:
    """Return a title in reStructuredText."""
    return f"{text}\n{line * len(text)}\n\n"

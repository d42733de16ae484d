"""Mutants: the source of a module with one operator, constant, argument, condition or statement changed."""

import ast
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
PAIRS = {"min": "max", "amin": "amax", "argmin": "argmax", "any": "all", "floor": "ceil", "sum": "mean", "sin": "cos"}
NAMES = PAIRS | {b: a for a, b in PAIRS.items()} | {"log1p": "log", "expm1": "exp", "append": "extend"}
NOT_CODE = {"annotation", "returns", "decorator_list", "bases", "type_params"}
# Arguments that change nothing without an accelerator or where lengths are equal, and those that only an eye can judge.
UNSEEN = {"device", "strict", "help", "metavar", "desc", "unit"}
UNSEEN |= {"alpha", "bbox_to_anchor", "dpi", "fontsize", "fontweight", "frameon", "loc", "ls", "lw", "marker", "markersize"}
UNSEEN |= {"figsize", "font_scale", "ha", "va", "labelpad", "layout", "linewidth", "ncols", "pad_inches", "rotation", "zorder"}
NOT_RUN = ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Raise | ast.Global | ast.Nonlocal


@dataclass(frozen=True)
class Mutant:
    """A changed module.

    Attributes:
        function: the outermost function around the change, "" at module level.
        before, after: the line that changes, as `ast.unparse` writes it.
        source: the whole changed module.
    """

    module: str
    function: str
    line: int
    before: str
    after: str
    source: str


@dataclass(frozen=True)
class Place:
    """Where a node stands in a tree: parent.field, or parent.field[index]."""

    parent: ast.AST
    field: str
    index: int | None
    function: str

    @property
    def node(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: Any) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def draw(module: str, source: str, count: int, seed: int) -> list[Mutant]:
    """Draw mutants of a module, from different lines; fewer where it has fewer lines that can change."""
    tree, rng = ast.parse(source), random.Random(f"{seed} {module}")
    lines: dict[int, list[tuple[Place, Any]]] = {}
    for place in _places(tree, ""):
        for new in _variants(place):
            lines.setdefault(place.node.lineno, []).append((place, new))
    chosen = rng.sample(sorted(lines), min(count, len(lines)))
    return [_mutant(module, tree, line, *rng.choice(lines[line])) for line in sorted(chosen)]


def _mutant(module: str, tree: ast.Module, line: int, place: Place, new: Any) -> Mutant:
    whole, node = ast.unparse(tree), place.node
    place.put(new)
    changed = ast.unparse(tree)
    place.put(node)
    pairs = zip([*whole.splitlines(), ""], [*changed.splitlines(), ""], strict=False)
    before, after = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))
    return Mutant(module, place.function, line, before, after, changed)


def _places(node: ast.AST, function: str) -> Iterator[Place]:
    """Yield every place that runs, but no docstring, annotation, import or error message."""
    for field, value in ast.iter_fields(node):
        if field in NOT_CODE:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and hasattr(child, "lineno") and not _is_unseen(child):
                yield Place(node, field, index, function)
                if not isinstance(child, NOT_RUN):
                    yield from _places(child, _named(node, child, function))


def _is_unseen(node: ast.AST) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg in UNSEEN
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _named(parent: ast.AST, child: ast.AST, function: str) -> str:
    if function or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
        return function
    return f"{parent.name}.{child.name}" if isinstance(parent, ast.ClassDef) else child.name


def _variants(place: Place) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a node."""
    node = place.node
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from (_with(node, ops=[new()]) for new in SWAPS[type(node.ops[0])])
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        yield from (_with(node, op=new()) for new in SWAPS.get(type(node.op), ()))
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _constants(node.value))
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
        yield _with(node, value=_with(node.value, elts=node.value.elts[::-1]))
    elif isinstance(node, ast.Slice) and node.lower is not None:
        yield _with(node, lower=None)
    if isinstance(node, ast.Raise | ast.Expr | ast.AugAssign) or (isinstance(node, ast.If) and not node.orelse):
        yield ast.Pass()


def _constants(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, float):
        yield value * 2 if value else 1.0
        yield value / 2 if value else -1.0


def _calls(node: ast.Call) -> Iterator[ast.Call]:
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None and not _is_unseen(keyword):
            yield _with(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
    if isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
        yield _with(node, func=_with(node.func, attr=NAMES[node.func.attr]))
    elif isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield _with(node, func=_with(node.func, id=NAMES[node.func.id]))


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed

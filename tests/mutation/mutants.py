"""Single changes of a module's source that a test should notice."""

from __future__ import annotations

import ast
import copy
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sum": "len"}


@dataclass(frozen=True)
class Mutant:
    """A changed source; `before` and `after` are the changed line of code, in one form of writing."""

    line: int
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        """What changed, without the line's number, which moves."""
        return f"{self.before} -> {self.after}"


def mutants(source: str, count: int, seed: int) -> list[Mutant]:
    """Return `count` of a module's mutants, or all where it has fewer, the same ones for the same seed."""
    tree = ast.parse(source)
    places = [
        (index, number)
        for index, node in enumerate(_mutable(tree))
        for number, _ in enumerate(_changes(node))
    ]
    drawn = random.Random(seed).sample(places, min(count, len(places)))
    return [_mutant(tree, index, number) for index, number in sorted(drawn)]


def _mutant(tree: ast.Module, index: int, number: int) -> Mutant:
    """Make the change of this `number` at the node of this `index`."""
    mutated = copy.deepcopy(tree)
    node = next(itertools.islice(_mutable(mutated), index, None))
    changed = next(itertools.islice(_changes(node), number, None))
    _replace(mutated, node, changed)
    source = ast.unparse(ast.fix_missing_locations(mutated))
    # The whole line, as "1 -> 2" would not tell one change from another.
    lines = zip(ast.unparse(tree).splitlines(), source.splitlines())
    before, after = next((old.strip(), new.strip()) for old, new in lines if old != new)
    return Mutant(node.lineno, before, after, source)


def _mutable(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """Yield the nodes of function bodies that may change: not annotations, defaults, messages or imports."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for statement in function.body:
                yield from _walk(statement)


def _walk(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    # Functions within functions are found on their own; the words of errors and logs are not behaviour here.
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Raise, ast.JoinedStr)):
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
        return
    if isinstance(node, (ast.expr, ast.stmt)):
        yield node
    for name, value in ast.iter_fields(node):
        if name != "annotation":
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _walk(child)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            yield _with(node, ops=[COMPARISONS[type(operator)]()])
        case ast.BinOp(op=operator) if type(operator) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(operator)]())
        case ast.AugAssign(op=operator) if type(operator) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(operator)]())
        case ast.BoolOp(op=ast.And()):
            yield _with(node, op=ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield _with(node, op=ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield _with(node, func=ast.Name(NAMES[name], ast.Load()))
        case ast.Call(keywords=[_, *_] as keywords):
            yield _with(node, keywords=keywords[:-1])
        case ast.If(test=test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Assign(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield _with(node, value=ast.Constant(None))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """Return a shallow copy with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _replace(tree: ast.AST, target: ast.AST, replacement: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, name, replacement)
            elif isinstance(value, list):
                value[:] = [replacement if each is target else each for each in value]

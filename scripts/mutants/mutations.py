"""Mutants of a module: copies of its text with one small fault each.

The faults are those that a decision may have: another comparison, the opposite condition, another number or word, a
missing statement. Messages, logs, annotations and docstrings stay as they are.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_COMPARISONS: Final[dict[type[ast.cmpop], ast.cmpop]] = {
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
_ARITHMETIC: Final[dict[type[ast.operator], ast.operator]] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Add(),
    ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Mult(),
    ast.Mod: ast.FloorDiv(),
    ast.LShift: ast.RShift(),
    ast.RShift: ast.LShift(),
    ast.BitAnd: ast.BitOr(),
}
_WITHOUT_EFFECT: Final = ("log", "assert_never")
_MESSAGES: Final = ("log", "errors", "AwsFault", "TypeVar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A module's text with one fault."""

    module: Path
    function: str
    """The qualified name of the function or class around the fault; empty at the module's level."""
    first: int
    last: int
    """The lines of the statement around the fault."""
    before: str
    after: str
    """The changed lines, on one line."""
    text: str

    @property
    def name(self) -> str:
        """What stays the same while other parts of the module change."""
        return f"{self.module} {self.function}: {self.before} => {self.after}"


def mutants(module: Path, source: str) -> Iterator[Mutant]:
    """All mutants of a module, without those that differ from an earlier one by the place alone."""
    names = set()
    for fault in _faults(ast.parse(source), "", ast.Pass()):
        mutant = _mutant(module, source, fault)
        if mutant.name not in names:
            names.add(mutant.name)
            yield mutant


class Fault(NamedTuple):
    """A node of a module, and the text that stands in its place."""

    function: str
    statement: ast.stmt
    """The statement around the node."""
    node: ast.expr | ast.stmt
    replacement: str


def _faults(node: ast.AST, function: str, statement: ast.stmt) -> Iterator[Fault]:
    """The faults in a node and below it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    if isinstance(node, ast.stmt):
        statement = node
    if isinstance(node, ast.stmt | ast.expr):
        if _is_spared(node):
            return
        yield from (Fault(function, statement, node, text) for text in _replacements(node, is_top=not function))
    for test in _conditions(node):
        yield Fault(function, statement, test, f"(not ({ast.unparse(test)}))")
    for child in _children(node):
        yield from _faults(child, function, statement)


def _is_spared(node: ast.stmt | ast.expr) -> bool:
    """Whether the node is a message, a log or a docstring, in which a fault changes no decision."""
    match node:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call() as call):
            return ast.unparse(call.func).split(".")[0] in _WITHOUT_EFFECT
    return False


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node in which a fault would be a wrong decision."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from (*node.args.defaults, *(default for default in node.args.kw_defaults if default), *node.body)
        case ast.ClassDef():
            yield from node.body
        case ast.AnnAssign():
            yield from [node.value] if node.value else []
        case ast.Call() if ast.unparse(node.func).split(".")[0] in _MESSAGES or "error" in ast.unparse(node.func):
            return
        case _:
            yield from ast.iter_child_nodes(node)


def _conditions(node: ast.AST) -> Iterator[ast.expr]:
    """The conditions that a node tests, as far as no other fault inverts them."""
    tests: list[ast.expr | None] = []
    match node:
        case ast.If() | ast.While() | ast.IfExp():
            tests = [node.test]
        case ast.comprehension():
            tests = [*node.ifs]
        case ast.match_case():
            tests = [node.guard]
    simple = (ast.Name, ast.Attribute, ast.Call, ast.Await, ast.NamedExpr, ast.BoolOp)
    yield from (test for test in tests if isinstance(test, simple))


def _replacements(node: ast.stmt | ast.expr, *, is_top: bool) -> Iterator[str]:  # noqa: C901, PLR0912 - a table
    """The texts that may stand in a node's place."""
    match node:
        case ast.Compare(ops=[op]):
            yield f"({ast.unparse(ast.Compare(node.left, [_COMPARISONS[type(op)]], node.comparators))})"
        case ast.Compare():  # a <= b <= c
            for index, op in enumerate(node.ops):
                ops = [*node.ops[:index], _COMPARISONS[type(op)], *node.ops[index + 1 :]]
                yield f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"
        case ast.BoolOp():
            other: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield f"({ast.unparse(ast.BoolOp(other, node.values))})"
        case ast.UnaryOp(op=ast.Not()):
            yield f"({ast.unparse(node.operand)})"
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            yield f"({ast.unparse(ast.BinOp(node.left, _ARITHMETIC[type(op)], node.right))})"
        case ast.BinOp(op=ast.BitOr()) if not is_top:  # at the module's level it joins types
            yield f"({ast.unparse(ast.BinOp(node.left, ast.BitAnd(), node.right))})"
        case ast.Constant(value=bool() as value):
            yield str(not value)
        case ast.Constant(value=int() | float() as value):
            yield f"{value + 1}"
        case ast.Constant(value=str() as value) if value and not set(value) & set(" \n"):
            yield repr("X" + value)
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield "return None"
        case ast.Raise() | ast.Expr() | ast.Delete():
            yield "pass"
        case ast.AugAssign(op=op) if type(op) in _ARITHMETIC:
            yield ast.unparse(ast.AugAssign(node.target, _ARITHMETIC[type(op)], node.value))
        case ast.Continue():
            yield "break"
        case ast.Break():
            yield "continue"


def _mutant(module: Path, source: str, fault: Fault) -> Mutant:
    function, statement, node, replacement = fault
    lines = source.encode().splitlines(keepends=True)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
    changed = head + replacement.encode() + tail
    body: list[ast.stmt] = getattr(statement, "body", [])
    return Mutant(
        module=module,
        function=function,
        first=statement.lineno,
        last=max(statement.lineno, body[0].lineno - 1) if body else (statement.end_lineno or statement.lineno),
        before=_on_one_line(b"".join(lines[first : last + 1])),
        after=_on_one_line(changed),
        text=b"".join([*lines[:first], changed, *lines[last + 1 :]]).decode(),
    )


def _on_one_line(text: bytes) -> str:
    return " ".join(text.decode().split())

"""Which answers may be handed to a scorer that evaluates them as Python: plain values and arithmetic, nothing else."""

from __future__ import annotations

import ast
import re
import warnings

MAX_LENGTH = 2000
"""The most characters of an answer."""

MAX_EXPONENT = 100
"""The largest exponent, so that no power takes forever."""

FUNCTIONS = frozenset(
    {"Abs", "acos", "asin", "atan", "cos", "cosh", "exp", "log", "sin", "sinh", "sqrt", "tan", "tanh"}
)
"""The functions that may be called, each on something without a call."""

_PLAIN = (ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.BinOp, ast.UnaryOp, ast.Name, ast.Call)
_SIGNS = (ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.UAdd, ast.USub)


def is_harmless(text: str) -> bool:
    """Tells whether evaluating a text can do nothing but compute a value, in little time.

    The text is parsed, never run.

    Args:
        text: An answer; untrusted.

    Returns:
        ``True`` if it is a Python expression of numbers, strings, names, lists, tuples and dictionaries, ``+ - * /``,
        small powers that are not nested, and calls of `FUNCTIONS` that are not nested.
    """
    # Two underscores lead to the interpreter's own names; sympy rewrites other signs (!, @, λ) into calls.
    if len(text) > MAX_LENGTH or "__" in text or re.search(r"[^\x20-\x7e\n]", text):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's remarks on the style of hostile text are of no use
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_plain(node) for node in ast.walk(tree))


def _plain(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        # A string or list times a number could fill the memory, also one that the scorer's own code has a name for.
        if any(not isinstance(side, _PLAIN) or _may_be_a_collection(side) for side in (node.left, node.right)):
            return False
        if isinstance(node.op, ast.Pow):
            return _small_number(node.right) and not _contains(node.left, ast.Pow)
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        return named and not node.keywords and not any(_contains(arg, ast.Call) for arg in node.args)
    return isinstance(node, (*_PLAIN, *_SIGNS))


def _may_be_a_collection(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return len(node.id) > 1 and node.id != "pi"
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, int | float)
    return isinstance(node, ast.List | ast.Tuple | ast.Dict)


def _small_number(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and abs(node.value) <= MAX_EXPONENT


def _contains(node: ast.AST, kind: type[ast.AST]) -> bool:
    return any(isinstance(part, kind) for part in ast.walk(node))

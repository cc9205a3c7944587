"""How many results an operator has, from what its `type_inference` returns."""

import ast
import inspect
import textwrap

SEVERAL = "several"


def outputs(operator):
    """A count, ("up to", count) where some results are optional, or SEVERAL."""
    counts = arities(operator, operator)
    if SEVERAL in counts:
        return SEVERAL
    return counts.pop() if len(counts) == 1 else ("up to", max(counts))


def arities(operator, start):
    """The numbers of results that `type_inference` of `operator` may return, as found from the
    class `start` of its ancestry on."""
    ancestry = operator.__mro__[operator.__mro__.index(start) :]
    owner = next(cls for cls in ancestry if "type_inference" in vars(cls))
    source = textwrap.dedent(inspect.getsource(vars(owner)["type_inference"]))
    function = ast.parse(source).body[0]
    counts = set()
    for value in returned(function.body):
        if ast.unparse(value) == "super().type_inference()":
            following = operator.__mro__[operator.__mro__.index(owner) + 1]
            counts |= arities(operator, following)
        else:
            counts.add(arity(function, value))
    return counts


def returned(body):
    """Expressions that these statements return; nested functions return for themselves."""
    for statement in body:
        if isinstance(statement, ast.Return):
            yield statement.value
        elif not isinstance(statement, ast.FunctionDef):
            for blocks in ("body", "orelse", "handlers", "finalbody"):
                yield from returned(getattr(statement, blocks, []))


def arity(function, value):
    if isinstance(value, ast.Tuple):
        return len(value.elts)
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "tuple":
        return SEVERAL
    if isinstance(value, ast.Name) and any(
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and any(ast.unparse(target) == value.id for target in node.targets)
        for node in ast.walk(function)
    ):
        raise SystemExit(f"cannot tell how many results `{value.id}` is in:\n{ast.unparse(function)}")
    return 1

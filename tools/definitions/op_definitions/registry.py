"""Rows from coremltools' registry, and the few that it lacks."""

from collections import Counter
from dataclasses import dataclass

from coremltools.converters.mil.mil import input_type as kinds
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.ops import defs  # noqa: F401 (registers the operators)
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

from .defaults import REQUIRED, defaults
from .outputs import outputs

# The oldest opset of ML Programs; older definitions are neural networks' and hold there as well.
OLDEST = 15
# In-memory forms that coremltools never writes to a file.
NEVER_WRITTEN = {"_const_symbolic"}
# Arguments that are tuples of tensors whose elements coremltools only takes as constants.
CONSTANT_TUPLES = {
    ("make_list", "elem_shape"),
    ("reshape_like", "begins"),
    ("reshape_like", "ends"),
    ("reshape_like", "end_masks"),
}
KINDS = {
    kinds.TensorInputType: "Tensor",
    kinds.TupleInputType: "Tensors",
    kinds.ListInputType: "List",
    kinds.StateInputType: "State",
    kinds.ListOrTensorOrDictInputType: "Any",
    kinds.InternalInputType: "Any",
}


@dataclass
class Argument:
    name: str
    kind: str
    constant: bool
    default: object
    types: frozenset  # names in MIL text
    parameter: str | None


@dataclass
class Definition:
    name: str
    since: int
    arguments: list
    outputs: object  # a count, ("up to", count) or "several"


def definitions():
    """Every version of every operator, by name and opset."""
    rows = []
    for name, versions in SSAOpRegistry.core_ops.items():
        if name in NEVER_WRITTEN:
            continue
        former = None
        for opset in SSAOpRegistry.SUPPORTED_OPSET_VERSIONS:
            operator = versions.get(opset)
            number = int(opset.name.removeprefix("iOS"))
            if operator is None or operator is former or number < OLDEST:
                continue
            rows.append(definition(name, number, operator))
            former = operator
    rows += states()
    return sorted(rows, key=lambda row: (row.name, row.since))


def definition(name, since, operator):
    values = defaults(name, operator)
    arguments = [
        argument(name, operator, parameter, kind, values[parameter])
        for parameter, kind in operator.input_spec.input_types.items()
        if not parameter.startswith("_")  # Python functions that build nested blocks
    ]
    drop_lone_parameters(arguments)
    return Definition(name, since, arguments, outputs(operator))


def argument(operator_name, operator, name, kind, default):
    constant = kind.const or (operator_name, name) in CONSTANT_TUPLES
    parameter, allowed = None, ()
    if isinstance(kind, kinds.TensorInputType):
        parameter = kind.type_domain_id
        allowed = operator.type_domains[parameter] if parameter else kind.type_domain
        allowed = allowed if isinstance(allowed, tuple) else (allowed,)
    names = frozenset(types.builtin_to_string(element) for element in allowed)
    return Argument(name, KINDS[type(kind)], constant, default, names, parameter)


def drop_lone_parameters(arguments):
    """A type parameter says something only where arguments share it."""
    counts = Counter(argument.parameter for argument in arguments)
    for row in arguments:
        if counts[row.parameter] == 1:
            row.parameter = None


def states():
    """The backend writes `coreml_update_state`, an operator of a dialect, as `write_state` and
    `read_state` (`translate_coreml_update_state_op` in backend/mil/load.py)."""
    dialect = SSAOpRegistry.dialect_ops["coreml_update_state"]
    update = definition("coreml_update_state", 18, dialect)
    state, value = update.arguments
    write = [
        Argument("input", state.kind, False, REQUIRED, state.types, None),
        Argument("data", value.kind, False, REQUIRED, value.types, None),
    ]
    return [update, Definition("write_state", 18, write, 0)]

"""The pass over the entries that each step of gradient descent makes, with short vectors of float64: LLVM's own, four lanes each.

Written as loops over the columns, a kernel becomes vector instructions or not by LLVM's luck. Here `width` is a tuple ``(0,) * parts`` whose
length the compiler knows: ``load(array, place, width)`` reads ``4 * parts`` numbers from a place of the array, counted through all its
elements, ``store(array, place, vector)`` writes them, ``repeated(number, width)`` repeats a number, and ``+ - *`` work lane by lane.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from lowdim._compiled import kernel

LANES = 4
_in_llvm: Any = intrinsic
FLAGS = ("reassoc", "contract", "nsz", "arcp")  # as of the other kernels
PART, INDEX = ir.VectorType(ir.DoubleType(), LANES), ir.IntType(32)


class Vector(types.Type):
    """The type of a vector of ``4 * parts`` numbers."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        super().__init__(f"Vector({parts})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.ArrayType(PART, vector.parts))


def _parts(builder: Any, vector: Any) -> list[Any]:
    return [builder.extract_value(vector, part) for part in range(vector.type.count)]


def _joined(builder: Any, parts: Sequence[Any]) -> Any:
    vector = ir.Constant(ir.ArrayType(PART, len(parts)), ir.Undefined)
    for place, part in enumerate(parts):
        vector = builder.insert_value(vector, part, place)
    return vector


def _addresses(context: Any, builder: Any, signature: Any, arguments: Any, count: int) -> list[Any]:
    array, place = arguments[0], arguments[1]
    data = context.make_array(signature.args[0])(context, builder, array).data
    places = [builder.add(place, ir.Constant(place.type, LANES * part)) for part in range(count)]
    return [builder.bitcast(builder.gep(data, [one]), PART.as_pointer()) for one in places]


def _shuffled(builder: Any, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    mask = ir.Constant(ir.VectorType(INDEX, len(lanes)), [INDEX(lane) for lane in lanes])
    return builder.shuffle_vector(one, other, mask)


@_in_llvm
def load(typing: Any, array: Any, place: Any, width: Any) -> Any:
    """The numbers from a place of a contiguous array on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _addresses(context, builder, signature, arguments, len(width))
        return _joined(builder, [builder.load(one, align=8) for one in places])

    return Vector(len(width))(array, place, width), generate


@_in_llvm
def store(typing: Any, array: Any, place: Any, vector: Any) -> Any:
    """Write a vector from a place of a contiguous array on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = _parts(builder, arguments[2])
        for one, part in zip(_addresses(context, builder, signature, arguments, len(parts)), parts, strict=True):
            builder.store(part, one, align=8)
        return context.get_dummy_value()

    return types.void(array, place, vector), generate


@_in_llvm
def repeated(typing: Any, number: Any, width: Any) -> Any:
    """A number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = builder.insert_element(ir.Constant(PART, ir.Undefined), arguments[0], INDEX(0))
        return _joined(builder, [_shuffled(builder, first, first, [0] * LANES)] * len(width))

    return Vector(len(width))(types.float64, width), generate


@_in_llvm
def lane(typing: Any, vector: Any, place: Any) -> Any:
    """One of the first four numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(builder.extract_value(arguments[0], 0), arguments[1])

    return types.float64(vector, types.intp), generate


@_in_llvm
def sums(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sum of each of four vectors, as one vector of four: together they cost little more than one sum alone."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def added(pair: Sequence[Any], lanes: Sequence[int], others: Sequence[int]) -> Any:
            one, other = pair
            chosen = [_shuffled(builder, one, other, places) for places in (lanes, others)]
            return builder.fadd(*chosen, flags=FLAGS)

        folded = [_folded(builder, _parts(builder, vector)) for vector in arguments]
        halves = [added(folded[half : half + 2], [0, 4, 2, 6], [1, 5, 3, 7]) for half in (0, 2)]
        return _joined(builder, [added(halves, [0, 1, 4, 5], [2, 3, 6, 7])])

    return Vector(1)(a, b, c, d), generate


def _folded(builder: Any, parts: list[Any]) -> Any:
    """The sum of the parts, pairwise."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return builder.fadd(_folded(builder, parts[:half]), _folded(builder, parts[half:]), flags=FLAGS)


def _lane_by_lane(symbol: Callable[..., Any], instruction: str) -> None:
    @_in_llvm
    def combine(typing: Any, one: Any, other: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pairs = zip(*(_parts(builder, vector) for vector in arguments), strict=True)
            return _joined(builder, [getattr(builder, instruction)(*pair, flags=FLAGS) for pair in pairs])

        return one(one, other), generate

    @overload(symbol, strict=False)  # Numba would compare the annotations, too
    def typed(one: Any, other: Any) -> Any:
        if isinstance(one, Vector) and one == other:
            return lambda one, other: combine(one, other)
        return None


_lane_by_lane(operator.add, "fadd")
_lane_by_lane(operator.sub, "fsub")
_lane_by_lane(operator.mul, "fmul")


@kernel
def residual_products(
    start: Any, cols: Any, values: Any, left: Any, right: Any, by_row: Any, by_col: Any, width: Any
) -> Any:
    """Of the sparse S, ``left @ right.T`` less the values: its squared norm; writes ``S @ right`` and ``S.T @ left``. One pass.

    The four matrices have ``4 * len(width)`` columns. Four entries of a row are taken at once, which have four different columns.
    """
    k, four = LANES * len(width), (0,)
    squares = last_squares = repeated(0.0, four)
    by_col[:] = 0.0
    for i in range(start.size - 1):
        own, total = load(left, i * k, width), repeated(0.0, width)
        t, end = np.uintp(start[i]), np.uintp(start[i + 1])  # signed, a place could count from the end
        while t + np.uintp(LANES) <= end:
            a, b, c, d = (
                np.intp(cols[t]) * k,
                np.intp(cols[t + np.uintp(1)]) * k,
                np.intp(cols[t + np.uintp(2)]) * k,
                np.intp(cols[t + np.uintp(3)]) * k,
            )
            at_a, at_b, at_c, at_d = (
                load(right, a, width),
                load(right, b, width),
                load(right, c, width),
                load(right, d, width),
            )
            residual = sums(own * at_a, own * at_b, own * at_c, own * at_d) - load(values, t, four)
            squares = squares + residual * residual
            in_a, in_b = repeated(lane(residual, 0), width), repeated(lane(residual, 1), width)
            in_c, in_d = repeated(lane(residual, 2), width), repeated(lane(residual, 3), width)
            total = total + in_a * at_a + in_b * at_b + in_c * at_c + in_d * at_d
            store(by_col, a, load(by_col, a, width) + in_a * own)
            store(by_col, b, load(by_col, b, width) + in_b * own)
            store(by_col, c, load(by_col, c, width) + in_c * own)
            store(by_col, d, load(by_col, d, width) + in_d * own)
            t += np.uintp(LANES)
        while t < end:
            a = np.intp(cols[t]) * k
            at_a = load(right, a, width)
            product = own * at_a
            residual = sums(product, product, product, product) - repeated(values[t], four)
            last_squares = last_squares + residual * residual
            in_a = repeated(lane(residual, 0), width)
            total = total + in_a * at_a
            store(by_col, a, load(by_col, a, width) + in_a * own)
            t += np.uintp(1)
        store(by_row, i * k, total)
    squared = lane(last_squares, 0)
    for place in range(LANES):
        squared += lane(squares, place)
    return squared


@kernel
def step_down(places: Any, slopes: Any, rates: Any, step: Any, out: Any) -> None:
    """A step of descent with a rate for every number."""
    for t in range(places.size):
        out[t] = places[t] - step * rates[t] * slopes[t]

"""Vectors for Numba, with explicit lanes.

Numba leaves vectorisation to LLVM, which chooses the number of lanes by processor, and with it the
order of a sum. Here LANES are part of the program: a sum has one order on every processor, and
`fma` rounds once on every processor. Where lanes are never summed their number changes no bit:
there WIDE_LANES follow the processor. Addresses and steps are in bytes (int64).
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import models, register_model

intrinsic: Any = extending.intrinsic  # its own types know nothing of the typing context

LANES = 8
WIDE_LANES = 16 if "+avx512f" in cpu_target.target_context.codegen()._tm_features else LANES


class Vector(types.Type):
    """Numba's type of `lanes` numbers of one type."""

    def __init__(self, element: Any, lanes: int):
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector):
        element = manager[kind.element].get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


def _typed_pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _loading(lanes: int) -> Callable[..., Any]:
    @intrinsic
    def loading(typing_context, address, like):
        def codegen(context, builder, signature, arguments):
            kind = ir.VectorType(context.get_value_type(like), lanes)
            pointer = _typed_pointer(builder, arguments[0], kind)
            return builder.load(pointer, align=like.bitwidth // 8)

        return Vector(like, lanes)(types.int64, like), codegen

    return loading


@intrinsic
def load_pair(typing_context, first, second, like):
    """Twice LANES numbers: those at `first` and those at `second`."""

    def codegen(context, builder, signature, arguments):
        kind = ir.VectorType(context.get_value_type(like), LANES)
        halves = [
            builder.load(_typed_pointer(builder, address, kind), align=like.bitwidth // 8)
            for address in arguments[:2]
        ]
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), list(range(2 * LANES)))
        return builder.shuffle_vector(*halves, lanes)

    return Vector(like, 2 * LANES)(types.int64, types.int64, like), codegen


# load(address, like): the vector at `address`, of numbers of the type of `like`
load, load_wide = _loading(LANES), _loading(WIDE_LANES)


@intrinsic
def store(typing_context, address, vector):
    """Writes a vector to `address`."""

    def codegen(context, builder, signature, arguments):
        pointer = _typed_pointer(builder, arguments[0], arguments[1].type)
        builder.store(arguments[1], pointer, align=vector.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, vector), codegen


@intrinsic
def load_one(typing_context, address, like):
    """The number at `address`, of the type of `like`."""

    def codegen(context, builder, signature, arguments):
        pointer = _typed_pointer(builder, arguments[0], arguments[1].type)
        return builder.load(pointer, align=like.bitwidth // 8)

    return like(types.int64, like), codegen


@intrinsic
def store_one(typing_context, address, value):
    """Writes a number to `address`."""

    def codegen(context, builder, signature, arguments):
        pointer = _typed_pointer(builder, arguments[0], arguments[1].type)
        builder.store(arguments[1], pointer, align=value.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


@intrinsic
def size_of(typing_context, like):
    """Bytes of a number of the type of `like`."""

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), like.bitwidth // 8)

    return types.int64(like), codegen


@intrinsic
def number(typing_context, value, like):
    """The number `value` in the type of `like`."""

    def codegen(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], value, like)

    return like(value, like), codegen


def _splatting(lanes: int) -> Callable[..., Any]:
    @intrinsic
    def splatting(typing_context, value):
        def codegen(context, builder, signature, arguments):
            vector, lane = ir.VectorType(arguments[0].type, lanes), ir.IntType(32)
            undefined = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(undefined, arguments[0], lane(0))
            everywhere = ir.Constant(ir.VectorType(lane, lanes), [0] * lanes)
            return builder.shuffle_vector(first, undefined, everywhere)

        return Vector(value, lanes)(value), codegen

    return splatting


# splat(value): the vector whose numbers are all `value`
splat, splat_wide = _splatting(LANES), _splatting(WIDE_LANES)
splat_pair = _splatting(2 * LANES)


@intrinsic
def fma(typing_context, a, b, c):
    """a · b + c, rounded once."""

    def codegen(context, builder, signature, arguments):
        kind = arguments[0].type
        name = f"llvm.fma.v{a.lanes}f{a.element.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * 3), name
        )
        return builder.call(function, arguments)

    return a(a, b, c), codegen


def _elementwise(operation: str) -> Callable[..., Any]:
    @intrinsic
    def elementwise(typing_context, a, b):
        def codegen(context, builder, signature, arguments):
            return getattr(builder, operation)(*arguments)

        return a(a, b), codegen

    return elementwise


add, subtract, multiply = map(_elementwise, ("fadd", "fsub", "fmul"))


@intrinsic
def where_positive(typing_context, tested, if_positive, otherwise):
    """Lane by lane: `if_positive` where `tested` is above 0, else `otherwise`."""

    def codegen(context, builder, signature, arguments):
        zero = ir.Constant(arguments[0].type, [0.0] * tested.lanes)
        positive = builder.fcmp_ordered(">", arguments[0], zero)
        return builder.select(positive, arguments[1], arguments[2])

    return tested(tested, if_positive, otherwise), codegen


def _summing(first: int) -> Callable[..., Any]:
    @intrinsic
    def summing(typing_context, vector):
        def codegen(context, builder, signature, arguments):
            lanes = [
                builder.extract_element(arguments[0], ir.IntType(32)(lane))
                for lane in range(first, first + LANES)
            ]
            while len(lanes) > 1:
                half = len(lanes) // 2
                lanes = [builder.fadd(lanes[one], lanes[one + half]) for one in range(half)]
            return lanes[0]

        return vector.element(vector), codegen

    return summing


# total(vector): the sum of LANES lanes, ((0+4)+(2+6)) + ((1+5)+(3+7)); of a pair the first or
# second ones
total, total_of_second = _summing(0), _summing(LANES)

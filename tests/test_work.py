"""FLOPs and bytes of a call, from what a profiler writes down."""

import pytest
import torch

from gptbench.calibration import Shape
from gptbench.worker import work


def call(name, *arguments, values=()):
    """Tensors as (shape, type), None for what is no tensor."""
    shapes = [a[0] if a else [] for a in arguments]
    types = [a[1] if a else "Scalar" for a in arguments]
    return work.as_call(name, shapes, types, values or [None] * len(arguments))


def floats(*shape):
    return shape, "float"


def test_a_linear_layer_is_a_product_behind_its_bias():
    """[128, 384] x [384, 1152]: 2·128·384·1152 FLOPs."""
    found = work.cost(call("aten::addmm", floats(1152), floats(128, 384), floats(384, 1152)))
    assert found.product == Shape(128, 384, 1152)
    assert found.flops == 113_246_208
    assert found.moved_bytes == 4 * (128 * 384 + 384 * 1152 + 128 * 1152)


def test_a_batch_of_products_is_one_shape():
    found = work.cost(call("aten::bmm", floats(24, 64, 32), floats(24, 32, 16)))
    assert found.product == Shape(64, 32, 16, "NN", 24)


def test_a_gradient_of_a_weight_sums_over_the_rows_of_the_forward_product():
    rows = frozenset({128})
    assert work.layout(Shape(128, 384, 1152), "forward", rows) == "NT"
    assert work.layout(Shape(128, 1152, 384), "backward", rows) == "NN"
    assert work.layout(Shape(1152, 128, 384), "backward", rows) == "TN"


HEADS = floats(2, 6, 64, 32)


def attention(kernel, place, backward=False, causal=True):
    tensors = [HEADS] * (6 if backward else 3)
    arguments = [*tensors, *[None] * 12]
    values = [None] * len(arguments)
    values[place] = causal
    suffix = "_backward" if backward else ""
    return work.cost(call(f"aten::_scaled_dot_product_{kernel}{suffix}", *arguments, values=values))


@pytest.mark.parametrize(
    ("kernel", "forward", "backward"),
    [("flash_attention_for_cpu", 4, 7), ("flash_attention", 4, 11),
     ("efficient_attention", 6, 11), ("cudnn_attention", 6, 14)],
)  # fmt: skip
def test_attention_is_two_products_forward_and_five_backward_of_which_one_is_again(
    kernel, forward, backward
):
    """2 · 6 heads, 64 queries and keys, 32 numbers each: 2·12·64·64·32 a product."""
    product = 3_145_728
    there = attention(kernel, forward)
    back = attention(kernel, backward, backward=True)
    assert (there.flops, there.again) == (2 * product, 0)
    assert (back.flops, back.again) == (4 * product, product)


def test_a_causal_mask_leaves_out_the_pairs_above_the_diagonal():
    """Of 64² pairs 64·63/2 are masked: 63/128."""
    there = attention("flash_attention", 4)
    assert there.masked * 128 == there.flops * 63
    assert attention("flash_attention", 4, causal=False).masked == 0


def test_the_places_of_is_causal_are_those_of_pytorchs_schemas():
    """The numbers are positions in an operator's arguments, which torch itself lists."""
    for kernel, places in work._CAUSAL.items():
        for suffix, place in zip(("", "_backward"), places, strict=True):
            name = f"_scaled_dot_product_{kernel}{suffix}"
            schema = getattr(torch.ops.aten, name).default._schema
            assert schema.arguments[place].name == "is_causal", name


@pytest.mark.parametrize(
    ("operator", "moved"),
    [
        (call("aten::add", floats(8, 16), floats(16)), 4 * (128 + 16 + 128)),
        (call("aten::copy_", ((8, 16), "c10::BFloat16"), floats(8, 16)), 128 * 2 + 128 * 4),
        (call("aten::sum", floats(8, 16)), 4 * 128),
        (call("aten::embedding", floats(1000, 16), ((8,), "long int")), 2 * 4 * 128 + 64),
        (call("aten::embedding_dense_backward", floats(8, 16), ((8,), "long int"), None,
              values=(None, None, 1000)), 4 * 16_000 + 2 * 4 * 128 + 64),
        (call("aten::cat", ((), "TensorList")), None),
        (call("aten::riddle", ((8,), "quaternion")), None),
    ],
    ids=["a sum", "a cast", "a reduction", "rows", "a table's gradient", "a list", "unknown"],
)  # fmt: skip
def test_bytes_are_each_operand_once(operator, moved):
    assert work.cost(operator).moved_bytes == moved

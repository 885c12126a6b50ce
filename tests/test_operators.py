"""What single operators cost, held to PyTorch's own registry and to a pencil."""

import pytest
import torch
from torch.utils import flop_counter

from gptbench.worker import operators

aten = torch.ops.aten


def empty(*shape):
    return torch.empty(shape, device="meta")


def cost(operator, *args, **kwargs):
    return operators.cost(operator, args, kwargs, operator(*args, **kwargs))


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (aten.mm.default, (empty(3, 4), empty(4, 5))),
        (aten.addmm.default, (empty(5), empty(3, 4), empty(4, 5))),
        (aten.bmm.default, (empty(2, 3, 4), empty(2, 4, 5))),
        (aten.baddbmm.default, (empty(2, 3, 5), empty(2, 3, 4), empty(2, 4, 5))),
        (
            aten.convolution.default,
            (empty(2, 4, 9, 9), empty(8, 2, 3, 3), None, [2], [1], [1], False, [0], 2),
        ),
        (
            aten.convolution.default,
            (empty(2, 4, 9), empty(4, 8, 3), None, [2], [0], [1], True, [0], 1),
        ),
        (aten._scaled_dot_product_flash_attention.default, (empty(2, 4, 16, 8),) * 3),
    ],
    ids=lambda value: str(value) if not isinstance(value, tuple) else "",
)
def test_an_operator_costs_what_the_registry_of_pytorch_says(operator, args):
    registered = flop_counter.flop_registry[operator.overloadpacket]
    assert cost(operator, *args).flops == registered(*args, out_val=operator(*args))


def test_both_gradients_of_a_convolution_cost_what_the_registry_of_pytorch_says():
    tail = ([0], [2], [1], [1], False, [0], 1, [True, True, False])
    args = (empty(2, 8, 5), empty(2, 4, 9), empty(8, 4, 3), *tail)
    result = aten.convolution_backward(*args)
    registered = flop_counter.flop_registry[aten.convolution_backward]
    found = operators.cost(aten.convolution_backward.default, args, {}, result)
    assert found.flops == registered(*args, out_val=result)


def test_groups_divide_both_gradients_of_a_convolution():
    """8 filters of [2, 3] at 9 positions of 2 sequences, for the input and for the weight."""
    args = (empty(2, 8, 9), empty(2, 4, 9), empty(8, 2, 3), [0], [1], [1], [1], False, [0], 2)
    args += ([True, True, False],)
    found = operators.cost(aten.convolution_backward.default, args, {}, None)
    assert found.flops == 2 * (2 * 2 * 9 * 8 * 2 * 3)


@pytest.mark.parametrize(
    ("operator", "args", "flops"),
    [
        (aten.mv.default, (empty(3, 4), empty(4)), 2 * 3 * 4),
        (aten.addmv.default, (empty(3), empty(3, 4), empty(4)), 2 * 3 * 4),
        (aten.dot.default, (empty(4), empty(4)), 2 * 4),
        (aten.vdot.default, (empty(4), empty(4)), 2 * 4),
        (aten.linear.default, (empty(2, 3, 4), empty(5, 4)), 2 * 6 * 4 * 5),
        (aten.addbmm.default, (empty(3, 5), empty(2, 3, 4), empty(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
        (aten.addmm_.default, (empty(3, 5), empty(3, 4), empty(4, 5)), 2 * 3 * 4 * 5),
    ],
    ids=str,
)
def test_products_that_the_registry_of_pytorch_lacks_are_counted(operator, args, flops):
    assert operators.cost(operator, args, {}, None).flops == flops


@pytest.mark.skipif(not hasattr(aten, "_grouped_mm"), reason="this PyTorch has no grouped product")
@pytest.mark.parametrize(
    ("left", "right", "shape", "flops"),
    [
        ((6, 4), (2, 4, 5), (6, 5), 2 * 6 * 4 * 5),  # six rows, each by one of two matrices
        ((3, 6), (6, 5), (2, 3, 5), 2 * 3 * 6 * 5),  # two products of parts of the inner six
        ((2, 3, 4), (4, 6), (3, 6), 2 * 3 * 4 * 6),  # six columns, each by one of two matrices
        ((2, 3, 4), (2, 4, 5), (2, 3, 5), 2 * 2 * 3 * 4 * 5),
    ],
)
def test_a_grouped_product_multiplies_everything_once(left, right, shape, flops):
    """In float32, which PyTorch's own meta kernel refuses."""
    offsets = torch.empty(2, dtype=torch.int32, device="meta")
    args = (empty(*left), empty(*right), offsets)
    result = operators.run(aten._grouped_mm.default, args, {})
    found = operators.cost(aten._grouped_mm.default, args, {}, result)
    assert (tuple(result.shape), found.flops) == (shape, flops)


@pytest.mark.skipif(not hasattr(aten, "_grouped_mm"), reason="this PyTorch has no grouped product")
def test_a_grouped_product_of_shapes_that_do_not_fit_fails():
    with pytest.raises(RuntimeError, match="differ in their inner dimension"):
        operators.run(aten._grouped_mm.default, (empty(6, 4), empty(2, 3, 5)), {})


def test_attention_with_shared_keys_counts_every_query_head():
    """8 query heads on 2 key-value heads: 8 products of [16, 4] x [4, 32], 8 of [16, 32] x [32, 4]."""
    q, kv = empty(1, 8, 16, 4), empty(1, 2, 32, 4)
    operator = aten._scaled_dot_product_flash_attention_for_cpu.default
    assert operators.cost(operator, (q, kv, kv), {}, None).flops == 2 * (8 * 2 * 16 * 4 * 32)


def test_the_backward_of_fused_attention_and_its_recomputation_are_what_the_registry_adds_up():
    grad = q = empty(2, 4, 16, 8)
    args = (grad, q, q, q, q, empty(2, 4, 16), 0.0, False)
    found = operators.cost(
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default, args, {}, None
    )
    assert found.flops + found.again == flop_counter.sdpa_backward_flop_count(*(q.shape,) * 4)
    assert found.flops == 2 * flop_counter.sdpa_flop_count(*(q.shape,) * 3)


@pytest.mark.skipif(
    not any("flex_attention" in str(known) for known in flop_counter.flop_registry),
    reason="the registry of this PyTorch has no flex attention",
)
def test_flex_attention_costs_what_the_registry_of_pytorch_says():
    hop = torch.ops.higher_order
    q = empty(2, 4, 16, 8)
    forward = operators.cost(hop.flex_attention, (q, q, q), {}, None)
    backward = operators.cost(hop.flex_attention_backward, (q,) * 6, {}, None)
    registry = flop_counter.flop_registry
    assert forward.flops == registry[hop.flex_attention](q, q, q)
    assert backward.flops + backward.again == registry[hop.flex_attention_backward](*(q,) * 6)


@pytest.mark.parametrize("lengths", [None, torch.empty(3, dtype=torch.int32, device="meta")])
def test_packed_sequences_have_no_count_because_their_lengths_are_numbers(lengths):
    q = empty(1, 16, 4, 8) if lengths is None else empty(16, 4, 8)
    args = (q, q, q, lengths, lengths, 16, 16, 0.0, False, False)
    found = operators.cost(aten._flash_attention_forward.default, args, {}, None)
    assert (found is None) == (lengths is not None)


def test_a_formula_that_somebody_registered_is_used(monkeypatch):
    packet = aten._cdist_forward
    formula = flop_counter.shape_wrapper(lambda a, b, *_rest, **_more: a[0] * b[0])
    monkeypatch.setitem(flop_counter.flop_registry, packet, formula)
    args = (empty(3, 4), empty(5, 4), 2.0, None)
    assert operators.cost(packet.default, args, {}, None).flops == 15


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (aten.add.Tensor, (empty(3), empty(3))),
        (aten.gelu_.default, (empty(3),)),
        (aten.sum.dim_IntList, (empty(3), [0])),
        (aten.view.default, (empty(4), [2, 2])),
        (aten.arange.default, (4,)),
        (aten._softmax_backward_data.default, (empty(3), empty(3), 0, torch.float32)),
        (aten.native_layer_norm.default, (empty(3), [3], None, None, 1e-5)),
        (aten.embedding_dense_backward.default, (empty(3, 2), empty(3), 5, -1, False)),
        (aten.t_.default, (empty(3, 2),)),
    ],
    ids=str,
)
def test_what_is_no_product_is_free(operator, args):
    assert operators.is_free(operator, args, {})


@pytest.mark.parametrize(
    "operator",
    [
        aten._fft_r2c.default,
        aten._cdist_forward.default,
        aten._trilinear.default,
        aten.linalg_qr.default,
        aten._transformer_encoder_layer_fwd.default,
        aten._weight_int4pack_mm.default,
        aten.triangular_solve.default,
    ],
    ids=str,
)
def test_what_may_hold_a_product_is_not_free(operator):
    assert not operators.is_free(operator, (empty(3, 3),), {})


def test_no_operator_is_both_a_product_and_free():
    names = {formula.removeprefix("aten.").strip("_") for formula in operators.FORMULAS}
    assert names & operators.FREE == set()

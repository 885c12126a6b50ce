"""What one operator of PyTorch costs: FLOPs, nothing by convention, or nobody knows.

Matrix products, convolutions and fused attention have formulas here, from the shapes of their
arguments; any other operator is looked up in PyTorch's registry, where people register their own
kernels (torch.utils.flop_counter.register_flop_formula). A multiply-add is 2 FLOPs, attention is
counted in full. What has no formula and is not known to be free is for the caller to list: an
unknown kernel is never taken for an element-wise one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import flop_counter


@dataclass(frozen=True, slots=True)
class Cost:
    """`flops` that the mathematics needs, and those that a kernel computes a second time."""

    flops: int
    again: int = 0


Arguments = dict[str, Any]
Formula = Callable[[Arguments], Cost]


def cost(operator: Any, args: tuple[Any, ...], kwargs: Arguments, result: Any) -> Cost | None:
    """The FLOPs of one call, or None where no formula covers it.

    `operator` is what a TorchDispatchMode is handed: an overload, or a higher-order operator.
    """
    named = {**arguments(operator, args, kwargs), "result": result}
    formula = FORMULAS.get(family(operator))
    if formula is not None:
        return None if _holds_lengths(named) else formula(named)
    registered = flop_counter.flop_registry.get(_packet(operator))
    return registered and Cost(int(registered(*args, **kwargs, out_val=result)))


def has_formula(operator: Any) -> bool:
    """Whether `cost` may know it; an operator made of others is better taken apart."""
    return family(operator) in FORMULAS or _packet(operator) in flop_counter.flop_registry


def run(operator: Any, args: tuple[Any, ...], kwargs: Arguments) -> Any:
    """The operator's result.

    PyTorch's grouped product takes float32 on every device but the meta device, where its shape
    check knows bfloat16 only: there the result is made here.
    """
    if name(operator) == "aten._grouped_mm" and args[0].is_meta:
        return _grouped_result(*args[:3], **{k: v for k, v in kwargs.items() if k == "offs"})
    return operator(*args, **kwargs)


def _grouped_result(left: Tensor, right: Tensor, groups: Tensor | None = None) -> Tensor:
    """An empty result of `_grouped_mm`, as the shape check of PyTorch 2.13 makes it.

    Raises RuntimeError where the inner dimensions differ.
    """
    if left.shape[-1] != right.shape[-2]:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise RuntimeError(f"grouped_mm: {shapes} differ in their inner dimension")
    shape = [left.shape[-2], right.shape[-1]]
    if left.dim() == right.dim() == 2:  # groups of the inner dimension: a matrix for each
        assert groups is not None
        shape.insert(0, groups.shape[0])
    elif left.dim() == right.dim() == 3:
        shape.insert(0, left.shape[0])
    return left.new_empty(shape)


def is_free(operator: Any, args: tuple[Any, ...], kwargs: Arguments) -> bool:
    """Whether a call costs nothing by convention.

    Free are operators that PyTorch tags as pointwise or as reductions, views (their result shares
    memory with an argument), what reads no tensor at all, and the reviewed list below: norms,
    softmax, losses, look-ups, pooling and resampling, random numbers, sorting, moving things about.
    """
    if not isinstance(operator, torch._ops.OpOverload):
        return False
    if not any(isinstance(v, Tensor) for v in torch.utils._pytree.tree_leaves((args, kwargs))):
        return True
    if _is_tagged(operator.overloadpacket):
        return True
    if any(a.alias_info and not a.alias_info.is_write for a in operator._schema.arguments):
        return True
    return operator.namespace in {"aten", "prim"} and _base(operator) in FREE


def _packet(operator: Any) -> Any:
    """An operator without its overload, as registries know it."""
    return getattr(operator, "overloadpacket", operator)


def name(operator: Any) -> str:
    """'aten.mm', whichever overload; a higher-order operator has only a name."""
    packet = getattr(operator, "overloadpacket", None)
    return str(packet) if packet is not None else operator.name()


def family(operator: Any) -> str:
    """The name without the mark of an operator in place: 'aten.addmm_' and 'aten.addmm' alike."""
    return name(operator).rstrip("_")


def arguments(operator: Any, args: tuple[Any, ...], kwargs: Arguments) -> Arguments:
    """The call's arguments by the names of the schema, without those left at their defaults."""
    schema = getattr(operator, "_schema", None)
    names = [a.name for a in schema.arguments] if schema else ["query", "key", "value"]
    return {**dict(zip(names, args, strict=False)), **kwargs}


# -- formulas ---------------------------------------------------------------------------------


def _product(left: str, right: str) -> Formula:
    """[..., m, k] x [..., k, n], or a matrix by a vector, or two vectors."""

    def formula(a: Arguments) -> Cost:
        columns = a[right].shape[-1] if a[right].dim() > 1 else 1
        return Cost(2 * a[left].numel() * columns)

    return formula


def _linear(a: Arguments) -> Cost:
    """[..., k] by a weight [n, k], which is stored transposed."""
    return Cost(2 * a["input"].numel() * prod(a["weight"].shape[:-1]))


def _grouped(a: Arguments) -> Cost:
    """Groups of rows, of columns or of the inner dimension, each by a matrix of its own.

    A row (or a column) meets one matrix, so that how they are grouped does not matter.
    """
    left, right = (a[key] for key in ("self", "mat2"))
    pairs = left.numel() if right.dim() == 3 or left.dim() == 2 else left[0].numel()
    return Cost(2 * pairs * right.shape[-1])


def _convolution(a: Arguments) -> Cost:
    """Every weight meets every position of the output, or of the input where it is transposed.

    Positions in the padding count like the others; images are [B, C, *size].
    """
    output = a["grad_output"] if "grad_output" in a else a["result"]
    data: Tensor = a["input"] if a["transposed"] else output
    batch, _, *size = data.shape
    return Cost(2 * batch * prod(size) * a["weight"].numel())


def _convolution_backward(a: Arguments) -> Cost:
    """A product for each gradient that is asked for: of the input, of the weight."""
    of_input, of_weight, _ = a["output_mask"]
    return Cost((of_input + of_weight) * _convolution(a).flops)


def _attention(heads: int, sequence: int) -> Formula:
    """q kᵀ and the product with v; all query heads, whether or not they share keys.

    q [B, N, T, H] where heads, sequence = 1, 2, and [B, T, N, H] where they are 2, 1.
    """

    def formula(a: Arguments) -> Cost:
        scores = _scores(a, heads, sequence)
        return Cost(2 * scores * (a["query"].shape[-1] + a["value"].shape[-1]))

    return formula


def _attention_backward(heads: int, sequence: int) -> Formula:
    """Twice the forward; q kᵀ, which no kernel keeps, once again (Dao et al. 2022, App. B.2)."""

    def formula(a: Arguments) -> Cost:
        scores, q_width = _scores(a, heads, sequence), a["query"].shape[-1]
        forward = 2 * scores * (q_width + a["value"].shape[-1])
        return Cost(2 * forward, again=2 * scores * q_width)

    return formula


def _scores(a: Arguments, heads: int, sequence: int) -> int:
    """Numbers in the [B, N, T, S] scores."""
    query, key = a["query"].shape, a["key"].shape
    return int(query[0] * query[heads] * query[sequence] * key[sequence])


def _holds_lengths(a: Arguments) -> bool:
    """Whether sequences of several lengths are packed into one.

    Their lengths are numbers, and a tensor on the meta device has none.
    """
    lengths = (a.get("cum_seq_q"), a.get("cu_seqlens_q"))
    return any(isinstance(length, Tensor) and length.numel() > 0 for length in lengths)


_ATTENTION = ("_flash_attention", "_flash_attention_for_cpu", "_efficient_attention",
              "_cudnn_attention", "_fused_attention_overrideable")  # fmt: skip

# By name: an older PyTorch that lacks an operator never asks for it.
FORMULAS: dict[str, Formula] = {
    "aten.mm": _product("self", "mat2"),
    "aten.addmm": _product("mat1", "mat2"),
    "aten._addmm_activation": _product("mat1", "mat2"),
    "aten.bmm": _product("self", "mat2"),
    "aten.baddbmm": _product("batch1", "batch2"),
    "aten.addbmm": _product("batch1", "batch2"),
    "aten.mv": _product("self", "vec"),
    "aten.addmv": _product("mat", "vec"),
    "aten.dot": _product("self", "tensor"),
    "aten.vdot": _product("self", "other"),
    "aten.linear": _linear,
    "aten._int_mm": _product("self", "mat2"),
    "aten._scaled_mm": _product("self", "mat2"),
    "aten._scaled_mm_v2": _product("self", "mat2"),
    "aten._grouped_mm": _grouped,
    "aten._scaled_grouped_mm": _grouped,
    "aten._scaled_grouped_mm_v2": _grouped,
    "aten.convolution": _convolution,
    "aten.convolution_backward": _convolution_backward,
    **{f"aten._scaled_dot_product{kind}": _attention(1, 2) for kind in _ATTENTION},
    **{f"aten._scaled_dot_product{kind}_backward": _attention_backward(1, 2) for kind in _ATTENTION},
    "aten._scaled_dot_product_attention_math_for_mps": _attention(1, 2),
    "aten._flash_attention_forward": _attention(2, 1),
    "aten._flash_attention_backward": _attention_backward(2, 1),
    "aten._efficient_attention_forward": _attention(2, 1),
    "aten._efficient_attention_backward": _attention_backward(2, 1),
    "flex_attention": _attention(1, 2),
    "flex_attention_backward": _attention_backward(1, 2),
}  # fmt: skip

# -- what is free -----------------------------------------------------------------------------

# Tags of an older PyTorch may lack some; the names below then speak for them.
_FREE_TAGS = tuple(
    getattr(torch.Tag, tag)
    for tag in ("pointwise", "reduction", "view_copy")
    if hasattr(torch.Tag, tag)
)


@cache
def _is_tagged(packet: Any) -> bool:
    """Whether PyTorch calls any overload pointwise or a reduction, in place or not.

    It does not tag them all: 'aten.gelu' is pointwise, and 'aten.gelu_' is not said to be.
    """
    family = [packet]
    if str(packet).startswith("aten."):
        family.append(getattr(torch.ops.aten, packet.__name__.rstrip("_"), packet))
    return any(
        tag in getattr(each, overload).tags
        for each in family
        for overload in each.overloads()
        for tag in _FREE_TAGS
    )


def _base(operator: Any) -> str:
    """The name that a family shares: '_softmax_backward_data' and 'softmax' -> 'softmax'."""
    word = str(operator.overloadpacket.__name__).strip("_")
    head, backward, _ = word.partition("_backward")
    return head.removesuffix("_dense") if backward else word.removesuffix("_forward")


# Reviewed by hand: operators without one of the tags that hold no matrix product.
_REVIEWED = """
    batch_norm native_batch_norm native_batch_norm_legit native_batch_norm_legit_functional
    native_batch_norm_legit_no_training batch_norm_with_update batch_norm_no_update
    batch_norm_with_update_functional cudnn_batch_norm miopen_batch_norm native_layer_norm
    native_group_norm fused_rms_norm norm renorm weight_norm_interface linalg_vector_norm

    softmax safe_softmax log_softmax masked_softmax logsumexp logcumsumexp log_sigmoid
    log_sigmoid_forward glu prelu_kernel elu leaky_relu hardtanh softplus softshrink threshold
    rrelu_with_noise rrelu_with_noise_functional floor_divide hardshrink hardsigmoid hardswish
    add_relu glu_jvp isin linalg_cross thnn_fused_lstm_cell thnn_fused_gru_cell

    mse_loss nll_loss nll_loss2d smooth_l1_loss huber_loss soft_margin_loss multi_margin_loss
    multilabel_margin_loss binary_cross_entropy binary_cross_entropy_with_logits ctc_loss

    embedding embedding_bag embedding_bag_forward_only embedding_renorm index index_add index_copy
    index_fill index_put index_put_impl unsafe_index unsafe_index_put unsafe_masked_index
    unsafe_masked_index_put_accumulate index_select index_reduce take put gather scatter
    scatter_add scatter_reduce masked_fill masked_scatter masked_scale bucketize searchsorted

    sum nansum mean var std var_mean std_mean max min amax amin aminmax argmax argmin all any prod
    median nanmedian mode kthvalue count_nonzero cumsum cumprod cummax cummin cummax_helper
    cummin_helper histc bincount trace sort topk unique2 unique_consecutive unique_dim nonzero
    unique unique_dim_consecutive histogram segment_reduce masked_select nonzero_static is_all_true is_any_true allclose equal

    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices max_pool3d_with_indices
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_bicubic2d upsample_trilinear3d upsample_nearest_exact1d upsample_nearest_exact2d
    upsample_nearest_exact3d upsample_bilinear2d_aa upsample_bicubic2d_aa max_pool2d max_unpool2d
    max_unpool3d fractional_max_pool2d fractional_max_pool3d grid_sampler_2d grid_sampler_3d

    native_dropout fused_dropout bernoulli uniform normal normal_functional random randint_like
    rand_like randn_like exponential geometric log_normal cauchy multinomial randperm
    poisson binomial standard_gamma

    cat stack chunk_cat clone copy copy_from to_copy fill zero flip roll rot90 repeat
    repeat_interleave tril triu constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle
    channel_shuffle im2col col2im diag_embed diagonal select slice diagonal_scatter select_scatter
    slice_scatter as_strided_scatter as_strided unfold unsafe_view unsafe_split
    unsafe_split_with_sizes split_with_sizes_copy lift lift_fresh lift_fresh_copy lazy_clone
    resize resize_as set complex polar view_as_real view_as_complex
    reshape_copy block_diag pin_memory pack_padded_sequence t transpose squeeze unsqueeze detach

    empty_like zeros_like ones_like full_like new_empty new_empty_strided new_full new_ones
    new_zeros empty_strided zeros full arange scalar_tensor efficientzerotensor
    linspace logspace range new_zeros_with_same_feature_meta

    local_scalar_dense assert_async assert_tensor_metadata functional_assert_async
    has_same_storage_numel fused_sdp_choice is_same_size is_pinned record_stream device bitwise_not logical_not
"""
FREE = frozenset(_REVIEWED.split())

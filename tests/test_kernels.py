"""Which attention kernel and which workspace a GPU gets, case by case as PyTorch's source has them."""

import pytest

from gptbench import kernels

T4, V100, A100, A10, H100, B200, RTX_5090 = "7.5", "7.0", "8.0", "8.6", "9.0", "10.0", "12.0"
MI100, MI250, MI300 = "gfx908", "gfx90a", "gfx942"


def fuses(capability, dtype="float16", d_head=64, shared=False, masked=False):
    return kernels.fuses_attention(capability, dtype, d_head, shared, masked)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("capability", [V100, T4, A100, A10, H100, B200, RTX_5090, MI250, MI300])
def test_heads_of_their_own_are_one_kernel(capability, masked, dtype):
    assert fuses(capability, dtype, masked=masked)


# supports_grouped_query_attention is false in can_use_mem_efficient_attention, the only kernel
# for float32 and before Ampere.
@pytest.mark.parametrize("capability", [V100, T4, A100, H100, RTX_5090, MI300])
def test_shared_heads_in_float32_are_written_out(capability):
    assert not fuses(capability, "float32", shared=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("capability", [V100, T4])
def test_shared_heads_before_ampere_are_written_out(capability, dtype):
    assert not fuses(capability, dtype, shared=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("capability", [A100, A10, H100, B200, RTX_5090, MI250, MI300])
def test_shared_heads_in_half_precision_are_flash_attention_from_ampere_on(capability, dtype):
    assert fuses(capability, dtype, shared=True)


# check_for_attn_mask refuses flash attention; cuDNN's, which takes masks, stands before the
# written-out one on 9.0 and 10.x alone (check_prefer_cudnn_attention).
@pytest.mark.parametrize(
    ("capability", "d_head", "fused"),
    [(A100, 64, False), (A10, 64, False), (RTX_5090, 64, False), (MI300, 64, False),
     (H100, 64, True), (B200, 128, True), (H100, 256, False), (H100, 100, False)],
)  # fmt: skip
def test_shared_heads_under_a_window_are_one_kernel_where_cudnn_comes_first(
    capability, d_head, fused
):
    assert fuses(capability, "bfloat16", d_head, shared=True, masked=True) == fused


@pytest.mark.parametrize("capability", [V100, T4])
def test_bfloat16_before_ampere_is_written_out(capability):
    assert not fuses(capability, "bfloat16")


def test_a_card_that_no_attention_was_built_for_writes_it_out():
    assert not fuses(MI100)


@pytest.mark.parametrize(
    ("capability", "d_head", "fused"), [(T4, 60, False), (T4, 64, True), (A100, 60, True)]
)
def test_the_memory_efficient_kernel_takes_heads_of_whole_eights(capability, d_head, fused):
    assert fuses(capability, "float16", d_head) == fused


# check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120.
@pytest.mark.parametrize(("d_head", "fused"), [(192, True), (208, False), (256, True)])
def test_a_wide_head_has_no_backward_on_cards_with_little_shared_memory(d_head, fused):
    assert fuses(A10, "bfloat16", d_head, shared=True) == fused
    assert fuses(A100, "bfloat16", d_head, shared=True)


@pytest.mark.parametrize(
    ("capability", "mebibytes"),
    [(T4, 8.125), (A100, 8.125), ("8.9", 8.125), (H100, 32), (B200, 32), (RTX_5090, 32),
     (MI250, 32), (MI300, 128), ("gfx950", 128)],
)  # fmt: skip
def test_a_workspace_is_as_large_as_pytorch_makes_it(capability, mebibytes):
    assert kernels.workspace_bytes(capability) == mebibytes * 2**20


def test_a_device_without_a_capability_is_taken_for_an_ampere():
    assert fuses("", shared=True)
    assert kernels.workspace_bytes("") == kernels.workspace_bytes(A100)

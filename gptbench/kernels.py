"""Which kernels PyTorch runs on a GPU, by its compute capability, where memory depends on them.

A capability is written as torch says it: '8.0' (NVIDIA), or 'gfx942' (AMD's gcnArchName). Sources
are PyTorch 2.13's: aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (`can_use_flash_attention`,
`can_use_mem_efficient_attention`, `can_use_cudnn_attention`, `check_prefer_cudnn_attention`), and
aten/src/ATen/cuda/CublasHandlePool.cpp (`parseChosenWorkspaceSize`).
"""

from gptbench.config import Dtype

# Where nobody names a GPU: an A100, whose kernels most cards of today share.
USUAL = "8.0"

# A T4: the same of cards without bfloat16.
BEFORE_AMPERE = "7.5"

# AMD's that PyTorch's attention kernels (AOTriton) are built for, and whose products take the
# larger workspace.
_AMD_FUSED = ("gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")
_AMD_LARGE = ("gfx94", "gfx95")

# ':4096:2:16:8' of CUBLAS_WORKSPACE_CONFIG, in KiB.
_SMALL_WORKSPACE_BYTES = (4096 * 2 + 16 * 8) << 10
_HOPPER_WORKSPACE_BYTES = 32 << 20
_AMD_WORKSPACE_BYTES = 32 << 20
_AMD_LARGE_WORKSPACE_BYTES = 128 << 20


def fuses_attention(
    capability: str, dtype: Dtype, d_head: int, shares_heads: bool, masked: bool
) -> bool:
    """Whether scaled_dot_product_attention is one kernel on a GPU, or is written out.

    `shares_heads` is grouped-query attention (`enable_gqa`), `masked` a mask that is not just
    causal, such as a window's. Flash attention takes both halves from Ampere on and no mask; the
    memory-efficient kernel takes no shared heads (until pytorch/pytorch#191085), nor bfloat16 before Ampere;
    cuDNN's takes all of them and comes first on Hopper and on data-centre Blackwell alone.
    """
    if _is_amd(capability):
        if not capability.startswith(_AMD_FUSED):
            return False
        return not shares_heads or (dtype != "float32" and not masked)
    major, minor = _number(capability)
    half, ampere = dtype != "float32", major >= 8
    flash = half and ampere and not masked and _flash_trains(major, minor, d_head)
    efficient = (
        not shares_heads
        and (ampere or dtype != "bfloat16")
        and d_head % _alignment(major, half) == 0
    )
    cudnn = half and major in (9, 10) and d_head <= 128 and d_head % 8 == 0
    return flash or efficient or cudnn


def _flash_trains(major: int, minor: int, d_head: int) -> bool:
    """Heads wider than 192 have no backward on cards with little shared memory, but for 225 to 256."""
    small = (8, 6) <= (major, minor) <= (8, 9) or major == 12
    return d_head <= 256 and not (small and 192 < d_head <= 224)


def _alignment(major: int, half: bool) -> int:
    """Numbers of which the memory-efficient kernel wants a head to be a multiple."""
    if half and major >= 7:
        return 8
    return 4 if major >= 8 else 1


def workspace_bytes(capability: str) -> int:
    """What cuBLAS, or hipBLAS, takes of PyTorch's allocator for each thread that multiplies."""
    if _is_amd(capability):
        large = capability.startswith(_AMD_LARGE)
        return _AMD_LARGE_WORKSPACE_BYTES if large else _AMD_WORKSPACE_BYTES
    return _HOPPER_WORKSPACE_BYTES if _number(capability)[0] >= 9 else _SMALL_WORKSPACE_BYTES


def _is_amd(capability: str) -> bool:
    return capability.startswith("gfx")


def _number(capability: str) -> tuple[int, int]:
    """'8.6' as (8, 6); of what is no NVIDIA GPU, the usual."""
    major, _, minor = capability.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        return _number(USUAL)
    return int(major), int(minor)

"""The model of worker/model.py once more, in sizes: what each operation makes, keeps and frees.

Function by function as there, on tapes. What an operation keeps for its backward pass is PyTorch's
rule for it (derivatives.yaml), and is held to what autograd really saves in tests/test_memory.py.

Legend, for every formula of this module:

    B = batch_size   T = tokens a row of the batch reads   S = keys that a query sees
    D = d_model      F = width of an MLP   V = vocab_size  M = B·T
    N = n_heads      K = n_kv_heads        H = d_head      Hv = d_value     R = d_rotary
    A = top_k        E = n_experts         G = M·A, rows of all experts
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gptbench import kernels
from gptbench.config import DTYPE_BYTES, FLOAT32_BYTES, ModelConfig, Workload
from gptbench.tape import Operation, Tape, Tensor

Kind = Literal["cpu", "cuda"]

INDEX_BYTES = 8  # int64


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides the sizes beside the shapes: number formats, and the kernels of a device."""

    model: ModelConfig
    work: Workload
    kind: Kind
    capability: str = kernels.USUAL

    @property
    def product(self) -> int:
        """Bytes of a number that matrix products multiply."""
        return DTYPE_BYTES[self.work.dtype]

    @property
    def stored(self) -> int:
        """Bytes of a number of a weight, of its gradient, and of the stream."""
        return FLOAT32_BYTES if self.work.autocast else self.product

    @property
    def floats_norms(self) -> bool:
        """Whether norms and softmax are float32: where autocast lists them, which is on CUDA."""
        return self.work.autocast and self.kind == "cuda"

    @property
    def called_fused(self) -> bool:
        """Whether PyTorch is asked for attention: it needs heads of one size, and no sinks."""
        model = self.model
        alike = model.d_head == model.d_value and not model.attention_sinks
        return self.work.attention == "fused" and alike

    def fused(self, window: int) -> bool:
        """Whether attention is one kernel: PyTorch has one for every case on a CPU alone."""
        if not self.called_fused or self.kind == "cpu":
            return self.called_fused
        model, work = self.model, self.work
        return kernels.fuses_attention(
            self.capability,
            work.dtype,
            model.d_head,
            shares_heads=model.n_kv_heads < model.n_heads,
            masked=0 < window < work.queries,
        )

    @property
    def always_fused(self) -> bool:
        """Whether attention is one kernel in every layer."""
        return all(map(self.fused, {self.model.window(i) for i in range(self.model.n_layers)}))


@dataclass(slots=True)
class Part:
    """A tape of one part of the model, and the operations that it is written in."""

    setting: Setting
    tape: Tape = field(default_factory=Tape)
    cached_bytes: int = 0  # casts of weights, which autocast keeps until the forward pass ends

    # -- operations that know no model ------------------------------------------------------------

    def make(self, x: Tensor, *shape: int, size: int = 0) -> Tensor:
        """A new tensor from `x` whose backward needs neither."""
        made = Tensor(shape or x.shape, size or x.size)
        return self.tape.add(Operation(outputs=(made,), reads=(x,), differentiated=(x,)))

    def alias(self, x: Tensor, *shape: int) -> Tensor:
        """The same numbers in another shape; the gradient too is only looked at differently."""
        made = x.view(*shape)
        return self.tape.add(Operation(outputs=(made,), reads=(x,), passed=(x,)))

    def split(self, x: Tensor, *shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Views of parts of `x`; the backward puts their gradients side by side again."""
        made = tuple(x.view(*shape) for shape in shapes)
        self.tape.add(Operation(outputs=made, reads=(x,), differentiated=(x,)))
        return made

    def join(self, parts: list[Tensor], *shape: int) -> Tensor:
        """Parts side by side; each part's gradient is a view of the whole's."""
        made = Tensor(shape, parts[0].size)
        return self.tape.add(Operation(outputs=(made,), reads=tuple(parts), passed=tuple(parts)))

    def cast(self, x: Tensor, size: int) -> Tensor:
        return x if x.size == size else self.make(x, size=size)

    def sum(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y, in the wider of their formats; its gradient is handed to both."""
        wide = max(x.size, y.size)
        alike = tuple(t for t in (x, y) if t.size == wide)
        cast = tuple(t for t in (x, y) if t.size != wide)
        made = Tensor(x.shape, wide)
        return self.tape.add(
            Operation(outputs=(made,), reads=(x, y), passed=alike, differentiated=cast)
        )

    def product(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """x · y, number by number: each is the other's gradient."""
        return self.tape.add(
            Operation(
                outputs=(Tensor(x.shape, x.size),),
                reads=(x, y),
                differentiated=(x, y),
                kept=((name, x), (name, y)),
            )
        )

    def linear(self, name: str, x: Tensor, width: int, bias: bool) -> Tensor:
        """x [..., K] times a weight [K, width]; under autocast both are cast and the casts kept."""
        setting, numbers = self.setting, width * x.shape[-1]
        read = self.cast(x, setting.product)
        kept, gradient = [(f"{name}.input", read)], numbers * setting.stored
        made = Tensor((*x.shape[:-1], width), setting.product)
        reads = [read]
        if setting.work.autocast:
            reads.append(self._cast_weight((width, x.shape[-1])))
            kept.append((f"{name}.weight, cast", reads[1]))
            gradient = 0  # the cast's
        return self.tape.add(
            Operation(
                outputs=(made,),
                reads=tuple(reads),
                differentiated=tuple(reads),
                kept=tuple(kept),
                weight_bytes=gradient + bias * width * setting.stored,
            )
        )

    def _cast_weight(self, shape: tuple[int, ...]) -> Tensor:
        """A weight in the dtype that multiplies, which autocast keeps to itself where it trains."""
        weight = Tensor(shape, self.setting.product)
        self.cached_bytes += weight.size_bytes if self.setting.work.mode == "train" else 0
        return self.tape.add(
            Operation(outputs=(weight,), weight_bytes=weight.numbers * self.setting.stored)
        )

    def matmul(self, names: tuple[str, str], x: Tensor, y: Tensor, *shape: int) -> Tensor:
        """The product of two tensors, neither of them a weight."""
        return self.tape.add(
            Operation(
                outputs=(Tensor(shape, x.size),),
                reads=(x, y),
                differentiated=(x, y),
                kept=tuple(zip(names, (x, y), strict=True)),
            )
        )

    def norm(self, name: str, x: Tensor) -> Tensor:
        if self.setting.floats_norms:
            x = self.cast(x, FLOAT32_BYTES)
        if self.setting.model.norm == "layernorm":
            return self._layer_norm(name, x)
        if self.setting.kind == "cuda":
            return self._fused_rms_norm(name, x)
        return self._written_out_rms_norm(name, x)

    def _weights(self, x: Tensor) -> int:
        model = self.setting.model
        return (model.norm_scale + model.norm_bias) * x.shape[-1] * self.setting.stored

    def _layer_norm(self, name: str, x: Tensor) -> Tensor:
        """One kernel, which keeps its input and each row's mean and reciprocal deviation."""
        size = FLOAT32_BYTES if self.setting.kind == "cuda" else x.size
        kept = tuple((f"{name}.statistics", Tensor(x.shape[:-1], size)) for _ in range(2))
        return self._kernel_norm(name, x, kept)

    def _fused_rms_norm(self, name: str, x: Tensor) -> Tensor:
        """One kernel on CUDA from PyTorch 2.9 on."""
        return self._kernel_norm(
            name, x, ((f"{name}.statistics", Tensor(x.shape[:-1], FLOAT32_BYTES)),)
        )

    def _kernel_norm(
        self, name: str, x: Tensor, statistics: tuple[tuple[str, Tensor], ...]
    ) -> Tensor:
        return self.tape.add(
            Operation(
                outputs=(Tensor(x.shape, x.size),),
                reads=(x,),
                differentiated=(x,),
                kept=((f"{name}.input", x), *statistics),
                weight_bytes=self._weights(x),
            )
        )

    def _written_out_rms_norm(self, name: str, x: Tensor) -> Tensor:
        """x · rsqrt(mean(x²) + ε) · weight, in float32, as PyTorch takes it apart on a CPU."""
        wide = self.cast(x, FLOAT32_BYTES)
        mean = Tensor((*x.shape[:-1], 1), FLOAT32_BYTES)
        squares = wide.size_bytes
        statistics = Operation(
            outputs=(mean,),
            reads=(wide,),
            differentiated=(wide,),
            kept=((f"{name}.input", wide), (f"{name}.statistics", mean)),
            scratch_forward_bytes=squares,
            scratch_backward_bytes=2 * squares,
        )
        self.tape.add(statistics)
        scaled = Operation(
            outputs=(Tensor(x.shape, FLOAT32_BYTES),),
            reads=(wide, mean),
            differentiated=(wide, mean),
            kept=((f"{name}.input", wide), (f"{name}.statistics", mean)),
            scratch_backward_bytes=squares,
        )
        normed = self.tape.add(scaled)
        if self.setting.model.norm_scale:
            weighed = Operation(
                outputs=(Tensor(x.shape, FLOAT32_BYTES),),
                reads=(normed,),
                differentiated=(normed,),
                kept=((f"{name}.normed", normed),),
                weight_bytes=self._weights(x),
                scratch_backward_bytes=squares,
            )
            normed = self.tape.add(weighed)
        return self.cast(normed, x.size)

    def bend(self, name: str, x: Tensor) -> Tensor:
        """The nonlinearity: ReLU's backward needs its result, the others' their input."""
        made = Tensor(x.shape, x.size)
        relu = self.setting.model.activation == "relu"
        kept = (f"{name}.output", made) if relu else (f"{name}.input", x)
        return self.tape.add(
            Operation(outputs=(made,), reads=(x,), differentiated=(x,), kept=(kept,))
        )


# -- attention ------------------------------------------------------------------------------------


def attention(part: Part, x: Tensor, window: int) -> Tensor:
    """What SelfAttention makes of the stream [B, T, D]."""
    model = part.setting.model
    q, k, v = _latent(part, x) if model.kv_rank else _heads(part, x)
    if model.positions == "rotary":
        q, k = (_rotate(part, t) for t in (q, k))
    mixed = _each_length(part, (q, k, v), window)
    shape = (*x.shape[:2], model.n_heads * model.d_value)
    mixed = (
        part.make(mixed, *shape) if _by_head(part.setting, window) else part.alias(mixed, *shape)
    )
    if model.out_proj:
        mixed = part.linear("attn.out", mixed, model.d_model, model.out_bias)
    part.tape.read(x, q, k, v)
    return mixed


def _by_head(setting: Setting, window: int) -> bool:
    """Whether the core's result lies in memory head by head, and is copied to lie token by token.

    A fused kernel's lies as its queries do, which are token by token but where part of a head turns.
    """
    model, work = setting.model, setting.work
    if model.n_heads == 1 or work.queries == 1:
        return False
    turned_in_part = 0 < model.d_rotary < model.d_head
    return not setting.fused(window) or len(work.lengths) > 1 or turned_in_part


def _heads(part: Part, x: Tensor) -> tuple[Tensor, ...]:
    """Queries [B, T, N, H], keys and values [B, T, K, H]: views of one product, unless normed."""
    model, (B, T) = part.setting.model, x.shape[:2]
    N, K, H, Hv = model.n_heads, model.n_kv_heads, model.d_head, model.d_value
    qkv = part.linear("attn.qkv", x, N * H + K * (H + Hv), model.qkv_bias)
    q, k, v = part.split(qkv, (B, T, N, H), (B, T, K, H), (B, T, K, Hv))
    if model.qk_norm == "width":
        q, k = part.alias(q, B, T, N * H), part.alias(k, B, T, K * H)
    if model.qk_norm != "none":
        q, k = part.norm("attn.q_norm", q), part.norm("attn.k_norm", k)
    return part.alias(q, B, T, N, H), part.alias(k, B, T, K, H), v


def _latent(part: Part, x: Tensor) -> tuple[Tensor, ...]:
    """Latent attention as transformers writes it out: heads of keys are joined from two products."""
    model, (B, T) = part.setting.model, x.shape[:2]
    N, H, Hv, R = model.n_heads, model.d_head, model.d_value, model.d_rotary
    if model.q_rank:
        low = part.linear("attn.q_down", x, model.q_rank, model.qkv_bias)
        q = part.linear("attn.q_up", part.norm("attn.q_norm", low), N * H, bias=False)
    else:
        q = part.linear("attn.q", x, N * H, bias=False)
    both = part.linear("attn.kv_down", x, model.kv_rank + R, model.qkv_bias)
    low, turning = part.split(both, (B, T, model.kv_rank), (B, T, 1, R))
    normed = part.norm("attn.k_norm", low)
    kv = part.linear("attn.kv_up", normed, N * (H - R + Hv), bias=False)
    still, v = part.split(kv, (B, T, N, H - R), (B, T, N, Hv))
    return part.alias(q, B, T, N, H), part.join([still, turning], B, T, N, H), v


def _rotate(part: Part, x: Tensor) -> Tensor:
    """Turned in float32 and cast back. The tables of cosines and sines are shared by all layers."""
    model, work = part.setting.model, part.setting.work
    tables = [Tensor((work.queries, model.d_rotary), FLOAT32_BYTES, shared=True) for _ in range(2)]
    turned = x.numbers * model.d_rotary // model.d_head * FLOAT32_BYTES
    return part.tape.add(
        Operation(
            outputs=(Tensor(x.shape, x.size),),
            reads=(x,),
            differentiated=(x,),
            kept=tuple(("rotary.tables", t) for t in tables),
            scratch_forward_bytes=2 * turned,
            scratch_backward_bytes=2 * turned,
        )
    )


def _each_length(part: Part, qkv: tuple[Tensor, ...], window: int) -> Tensor:
    """The core for each of the sequences packed in a row, and their results side by side."""
    model, work = part.setting.model, part.setting.work
    lengths = work.lengths if work.mode != "decode" else (1,)
    core = _core_of(part.setting, window)
    if len(lengths) == 1:
        return _core(part, core, qkv, window)
    (B, T, N), Hv = qkv[0].shape[:3], model.d_value
    cut = [part.split(t, *((B, n, *t.shape[2:]) for n in lengths)) for t in qkv]
    mixed = [_core(part, core, pieces, window) for pieces in zip(*cut, strict=True)]
    return part.join(mixed, B, T, N, Hv)


Core = Callable[[Part, tuple[Tensor, ...], int], Tensor]


def _core_of(setting: Setting, window: int) -> Core:
    if setting.fused(window):
        return _fused
    return _written_out_by_torch if setting.called_fused else _written_out


def _core(part: Part, core: Core, qkv: tuple[Tensor, ...], window: int) -> Tensor:
    """Scores and values; where they are recomputed, nothing but their inputs is kept."""
    if part.setting.work.recompute != "attention":
        return core(part, qkv, window)
    within = Part(part.setting)
    mixed = core(within, qkv, window)
    return part.tape.add(run_again(within.tape, "attn.core.input", qkv, mixed))


def _fused(part: Part, qkv: tuple[Tensor, ...], window: int) -> Tensor:
    """One kernel, which keeps its inputs, its result and the logarithm of each softmax's sum.

    A window is a mask of numbers that all heads share.
    """
    q, (B, T, N), Hv = qkv[0], qkv[0].shape[:3], qkv[2].shape[-1]
    mixed, sums = Tensor((B, T, N, Hv), q.size), Tensor((B, N, T), FLOAT32_BYTES)
    kept = [("attn.core.input", t) for t in qkv]
    kept += [("attn.core.output", mixed), ("attn.core.log-sums", sums)]
    if 0 < window < T:
        kept.append(("attn.core.mask", Tensor((T, T), q.size)))
    # On CUDA the gradient of the queries is added up in float32.
    scratch = q.numbers * FLOAT32_BYTES if part.setting.kind == "cuda" else 0
    return part.tape.add(
        Operation(
            outputs=(mixed,),
            reads=qkv,
            differentiated=qkv,
            kept=tuple(kept),
            scratch_backward_bytes=scratch,
        )
    )


def _written_out(part: Part, qkv: tuple[Tensor, ...], _window: int) -> Tensor:
    """softmax(q kᵀ / √H) v: operands are copied head by head, every [T, S] is a tensor."""
    (B, T, N, H), work = qkv[0].shape, part.setting.work
    S, Hv = work.seq_len if work.mode == "decode" else T, qkv[2].shape[-1]
    # The heads of one sequence lie in memory as a product reads them.
    q = qkv[0] if B == 1 or N == 1 else part.make(qkv[0], B, N, T, H)
    k, v = part.make(qkv[1], B, N, S, H), part.make(qkv[2], B, N, S, Hv)
    scores = part.matmul(("attn.scores.queries", "attn.scores.keys"), q, k, B, N, T, S)
    scores = part.make(scores)
    if T > 1:
        scores = _mask(part, scores)
    weights = _softmax(part, "attn.softmax.weights", scores)
    weights = part.cast(weights, v.size)
    mixed = part.matmul(("attn.values.weights", "attn.values.values"), weights, v, B, T, N, Hv)
    part.tape.read(*qkv, scores, k)
    return mixed


def _written_out_by_torch(part: Part, qkv: tuple[Tensor, ...], _window: int) -> Tensor:
    """What scaled_dot_product_attention does where no kernel takes its inputs: all in float32.

    `_scaled_dot_product_attention_math` of aten/src/ATen/native/transformers/attention.cpp.
    """
    (B, T, N, H), (K, Hv), size = qkv[0].shape, qkv[2].shape[-2:], qkv[0].size
    work = part.setting.work
    S = work.seq_len if work.mode == "decode" else T
    shapes = ((B, T, N, H), (B, S, K, H), (B, S, K, Hv))
    wide = [
        part.make(t, *shape, size=FLOAT32_BYTES) if size != FLOAT32_BYTES else t
        for t, shape in zip(qkv, shapes, strict=True)
    ]
    scaled, mask = part.make(wide[0]), _mask_of_numbers(part, T)
    k, v = (
        part.make(t, B, N, S, width) if K != N else t
        for t, width in zip(wide[1:], (H, Hv), strict=True)
    )
    turned = part.make(k, B, N, S, H)
    # A product reads heads of one sequence as they lie; repeated ones lie side by side already.
    apart, repeated = B > 1 and N > 1 and T > 1, K != N or B == 1 or N == 1
    q = part.make(scaled, B, N, T, H) if apart else scaled
    turned = turned if repeated else part.make(turned)
    scores = part.matmul(("attn.scores.queries", "attn.scores.keys"), q, turned, B, N, T, S)
    if T > 1:
        scores = part.make(scores)
    part.tape.read(scaled, mask, k, *wide)
    weights = _safe_softmax(part, scores)
    if size != FLOAT32_BYTES:
        unused = Tensor(weights.shape, size)
        part.tape.add(Operation(outputs=(unused,), reads=(weights,)))
        part.tape.read(unused)
    v = v if repeated else part.make(v, B, N, S, Hv)
    mixed = part.matmul(("attn.values.weights", "attn.values.values"), weights, v, B, T, N, Hv)
    part.tape.read(*wide, weights)
    return part.cast(mixed, size)


def _mask_of_numbers(part: Part, T: int) -> Tensor:
    """0 where a query sees a key, -∞ elsewhere: made of bits. A single query needs none."""
    made = Tensor((T, T), FLOAT32_BYTES if T > 1 else 0)
    bits = Tensor((T, T), 1 if T > 1 else 0)
    part.tape.add(Operation(outputs=(bits,), scratch_forward_bytes=bits.size_bytes))
    part.tape.add(Operation(outputs=(made,), reads=(bits,)))
    return made


def _safe_softmax(part: Part, scores: Tensor) -> Tensor:
    """Softmax of rows some of which may be masked whole: they are looked for, and made zero."""
    made = Tensor(scores.shape, scores.size)
    return part.tape.add(
        Operation(
            outputs=(made,),
            reads=(scores,),
            differentiated=(scores,),
            kept=(("attn.softmax.weights", made),),
            scratch_forward_bytes=made.size_bytes,
        )
    )


def _mask(part: Part, scores: Tensor) -> Tensor:
    """Scores of what a token must not see made -∞: the backward needs to know which."""
    T, S = scores.shape[-2:]
    bits = Tensor((T, S), 1)
    masked = Operation(
        outputs=(Tensor(scores.shape, scores.size),),
        reads=(scores,),
        differentiated=(scores,),
        kept=(("attn.mask", bits),),
        scratch_forward_bytes=bits.size_bytes,
    )
    return part.tape.add(masked)


def _softmax(part: Part, name: str, scores: Tensor) -> Tensor:
    """Weights along the last dimension, which the backward needs again; a sink is one more score."""
    *rows, S = scores.shape
    size = FLOAT32_BYTES if part.setting.floats_norms else scores.size
    scores = part.cast(scores, size)
    if part.setting.model.attention_sinks and name.startswith("attn"):
        scores = part.make(scores, *rows, S + 1)
    made = Tensor(scores.shape, size)
    weights = part.tape.add(
        Operation(outputs=(made,), reads=(scores,), differentiated=(scores,), kept=((name, made),))
    )
    return weights if weights.shape[-1] == S else _without_sink(part, weights, S)


def _without_sink(part: Part, weights: Tensor, S: int) -> Tensor:
    """The weights of the S keys: a view; its gradient is filled up with zeroes."""
    made = weights.view(*weights.shape[:-1], S)
    return part.tape.add(Operation(outputs=(made,), reads=(weights,), differentiated=(weights,)))


# -- MLPs -----------------------------------------------------------------------------------------


def mlp(part: Part, name: str, x: Tensor, width: int) -> Tensor:
    """What MLP makes of the stream."""
    model = part.setting.model
    wide = part.linear(f"{name}.up", x, width, model.mlp_bias)
    if model.gated:
        gate = part.linear(f"{name}.gate", x, width, model.mlp_bias)
        bent = part.product(f"{name}.product", part.bend(f"{name}.activation", gate), wide)
    else:
        bent = part.bend(f"{name}.activation", wide)
    y = part.linear(f"{name}.down", bent, model.d_model, model.mlp_bias)
    part.tape.read(x, wide)
    return y


def experts(part: Part, x: Tensor) -> Tensor:
    """What MoE makes of the stream: rows of the same expert side by side, weighed and added up."""
    model, (B, T, D) = part.setting.model, x.shape
    M, A = B * T, model.top_k
    logits = part.linear("moe.router", x, model.n_experts, model.router_bias)
    chosen, order = Tensor((M, A), INDEX_BYTES), Tensor((M * A,), INDEX_BYTES)
    top = Operation(
        outputs=(Tensor((M, A), logits.size),),
        reads=(logits,),
        differentiated=(logits,),
        kept=(("moe.router.choice", chosen),),
    )
    weights = _softmax(part, "moe.router.weights", part.tape.add(top))
    tokens = Tensor((M * A,), INDEX_BYTES)
    rows = _gather(part, "moe.rows.tokens", tokens, x, (M * A, D))
    weight = _gather(part, "moe.rows.order", order, weights, (M * A, 1))
    y = _weigh(part, _expert_mlp(part, rows), weight)
    y = _scatter(part, tokens, part.cast(y, x.size), x.shape)
    if model.d_shared:
        y = part.sum(y, mlp(part, "moe.shared", x, model.d_shared))
    return y


def _gather(part: Part, name: str, index: Tensor, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x[index]: the backward adds the rows up where they came from."""
    made = Tensor(shape, x.size)
    return part.tape.add(
        Operation(outputs=(made,), reads=(x,), differentiated=(x,), kept=((name, index),))
    )


def _weigh(part: Part, y: Tensor, weight: Tensor) -> Tensor:
    """Each row times the weight that its token gives its expert."""
    made = Tensor(y.shape, max(y.size, weight.size))
    return part.tape.add(
        Operation(
            outputs=(made,),
            reads=(y, weight),
            differentiated=(y, weight),
            kept=(("moe.rows.weight", weight), ("moe.rows.output", y)),
            scratch_backward_bytes=made.size_bytes,
        )
    )


def _scatter(part: Part, tokens: Tensor, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The rows added up token by token; index_add keeps its source, which it needs only to warn."""
    made = Tensor(shape, y.size)
    kept = (("moe.rows.tokens", tokens), ("moe.rows.weighed", y))
    return part.tape.add(
        Operation(
            outputs=(made,),
            reads=(y,),
            differentiated=(y,),
            kept=kept,
            scratch_forward_bytes=made.size_bytes,
        )
    )


def _expert_mlp(part: Part, rows: Tensor) -> Tensor:
    """The MLP of all experts at once, each on its rows."""
    model = part.setting.model
    wide = _grouped(part, "moe.experts.up", rows, model.d_expert)
    if model.gated:
        gate = _grouped(part, "moe.experts.gate", rows, model.d_expert)
        bent = part.bend("moe.experts.activation", gate)
        bent = part.product("moe.experts.product", bent, wide)
    else:
        bent = part.bend("moe.experts.activation", wide)
    y = _grouped(part, "moe.experts.down", bent, model.d_model)
    part.tape.read(rows, wide)
    return y


def _grouped(part: Part, name: str, rows: Tensor, width: int) -> Tensor:
    """A product an expert: pieces that are put side by side, and gradients that are stacked."""
    model, setting, (G, D) = part.setting.model, part.setting, rows.shape
    shape = (model.n_experts, width, D)
    # Views of one parameter, a matrix an expert.
    matrices = Tensor(shape, setting.stored, shared=True)
    stacked = Operation(outputs=(matrices,), weight_bytes=matrices.size_bytes)
    part.tape.add(stacked)
    (pieces,) = part.split(rows, (G, D))
    pieces = part.cast(pieces, setting.product)
    kept = [(f"{name}.input", pieces)]
    if setting.work.autocast:
        kept.append((f"{name}.weight, cast", Tensor(shape, setting.product)))
    made = Operation(
        outputs=(Tensor((G, width), setting.product),),
        reads=(pieces, matrices),
        differentiated=(pieces, matrices),
        kept=tuple(kept),
        weight_bytes=model.mlp_bias * model.n_experts * width * setting.stored,
    )
    return part.join([part.tape.add(made)], G, width)


# -- what is recomputed ---------------------------------------------------------------------------


def run_again(tape: Tape, name: str, inputs: tuple[Tensor, ...], output: Tensor) -> Operation:
    """A whole tape as one operation, which keeps its inputs and runs a second time for its backward."""
    storages = {t.storage: t.storage.size_bytes for t in inputs}
    held = sum(storages.values())
    gradients = sum(t.size_bytes for t in inputs) + tape.weight_bytes
    again = tape.forward_peak_bytes(keeping=True)
    # What the second run does not keep of its inputs stays all the same.
    beside = sum(size for t, size in storages.items() if t not in tape.storages())
    backward = tape.backward_peak_bytes() + beside - output.size_bytes
    return Operation(
        outputs=(output,),
        reads=inputs,
        differentiated=inputs,
        kept=tuple((name, t) for t in inputs),
        weight_bytes=tape.weight_bytes,
        scratch_forward_bytes=max(
            0, tape.forward_peak_bytes(keeping=False) - held - output.size_bytes
        ),
        scratch_backward_bytes=max(0, max(again, backward) - held - gradients),
    )


# -- the parts of the model -----------------------------------------------------------------------


def embedding(setting: Setting) -> tuple[Part, Tensor]:
    """From token ids to the stream: [B, T, D]."""
    part, (model, work) = Part(setting), (setting.model, setting.work)
    B, T, W, D = work.batch_size, work.queries, model.d_embed, model.d_model
    table = model.vocab_size * W * setting.stored
    # Added to the head's gradient; which, where no cast stands between, is a view of another
    # tensor, so that the sum is a third one.
    tied = table if work.autocast else 2 * table
    looked_up = Operation(
        outputs=(Tensor((B, T, W), setting.stored),),
        weight_bytes=0 if model.tied_head else table,
        scratch_backward_bytes=tied if model.tied_head else 0,
    )
    x = part.tape.add(looked_up)
    if W != D:
        x = part.linear("embed.project", x, D, bias=False)
    if model.positions == "learned":
        x = part.sum(x, _positions(part))
    return part, x


def _positions(part: Part) -> Tensor:
    model, T = part.setting.model, part.setting.work.queries
    stored = part.setting.stored
    rows = Operation(
        outputs=(Tensor((T, model.d_model), stored),),
        kept=(("embed.positions.index", Tensor((T,), INDEX_BYTES)),),
        weight_bytes=model.position_rows * model.d_model * stored,
    )
    return part.tape.add(rows)


def layer(setting: Setting, x: Tensor, index: int) -> tuple[Part, Tensor]:
    """One layer, counted from 0; where blocks are recomputed, it keeps its input alone."""
    part = Part(setting)
    y = block(part, x, setting.model.window(index), setting.model.is_moe(index))
    if setting.work.recompute != "block":
        return part, y
    outer = Part(setting, cached_bytes=part.cached_bytes)
    return outer, outer.tape.add(run_again(part.tape, "block.input", (x,), y))


def block(part: Part, x: Tensor, window: int, moe: bool) -> Tensor:
    """What Block makes of the stream."""
    model = part.setting.model
    before, after = _placed(model, "pre", "sandwich"), _placed(model, "output", "sandwich")
    post = _placed(model, "post")
    attended = attention(part, part.norm("attn.norm", x) if before else x, window)
    added = part.norm("attn.output norm", attended) if after else attended
    y = part.sum(x, added)
    y = part.norm("attn.post norm", y) if post else y
    read = x if model.parallel_block else y
    normed = part.norm("mlp.norm", read) if before else read
    bent = experts(part, normed) if moe else mlp(part, "mlp", normed, model.d_ff)
    part.tape.read(x, attended, y)
    z = part.sum(y, part.norm("mlp.output norm", bent) if after else bent)
    return part.norm("mlp.post norm", z) if post else z


def _placed(model: ModelConfig, *placements: str) -> bool:
    return model.norm_placement in placements


def head(setting: Setting, x: Tensor, chunks: int = 1) -> Part:
    """From the stream to the logits, and in training and forward mode to the loss.

    A loss in `chunks` makes the logits of a part of the tokens, and their gradient at once.
    """
    part, (model, work) = Part(setting), (setting.model, setting.work)
    if work.mode in ("prefill", "decode"):
        x = part.make(x, work.batch_size, len(work.lengths), model.d_model)
    if model.final_norm:
        x = part.norm("final norm", x)
    if model.d_embed != model.d_model:
        x = part.linear("unembed.project", x, model.d_embed, bias=False)
    if chunks > 1:
        _chunked_loss(part, x, chunks)
        return part
    logits = part.linear("unembed", x, model.vocab_size, model.head_bias)
    if work.mode in ("train", "forward"):
        _loss(part, logits)
    return part


def _chunked_loss(part: Part, x: Tensor, chunks: int) -> None:
    """Head and loss of some tokens after the others, with the gradient made on the way forward."""
    model = part.setting.model
    tokens = -(-x.shape[0] * x.shape[1] // chunks)
    within = Part(part.setting)
    chunk = Tensor((1, tokens, x.shape[2]), x.size)
    _loss(within, within.linear("unembed", chunk, model.vocab_size, model.head_bias))
    gradient = Tensor(x.shape, x.size)
    working = within.tape.backward_peak_bytes() - within.tape.weight_bytes
    part.tape.add(
        Operation(
            outputs=(Tensor((1,), FLOAT32_BYTES),),
            reads=(x,),
            passed=(x,),
            kept=(("loss.gradient", gradient),),
            weight_bytes=within.tape.weight_bytes,
            scratch_forward_bytes=working + within.tape.weight_bytes,
        )
    )


def _loss(part: Part, logits: Tensor) -> None:
    """Cross-entropy in float32; a single sequence's targets are a view of its tokens."""
    B, T = logits.shape[:2]
    wide = part.cast(logits, FLOAT32_BYTES)
    logs = Tensor(wide.shape, FLOAT32_BYTES)
    part.tape.add(
        Operation(
            outputs=(logs,),
            reads=(wide,),
            differentiated=(wide,),
            kept=(("loss.log-probabilities", logs),),
        )
    )
    part.tape.read(logits, wide)
    kept = [("loss.log-probabilities", logs), ("loss.weight", Tensor((1,), FLOAT32_BYTES))]
    if B > 1 and T > 1:
        kept.append(("loss.targets", Tensor((B, T), INDEX_BYTES)))
    loss = Tensor((1,), FLOAT32_BYTES)
    part.tape.add(
        Operation(outputs=(loss,), reads=(logs,), differentiated=(logs,), kept=tuple(kept))
    )

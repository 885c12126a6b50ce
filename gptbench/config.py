"""The two nouns of every question: which model, and what it is asked to do.

ModelConfig is the one description of an architecture; parameters, FLOPs, bytes and the model in
`worker/model.py` are all derived from it. Names are those of the GPT-3 paper (Brown et al. 2020,
Table 2.1); other people's names are translated in `presets` and nowhere else.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from gptbench.errors import QuestionError

Mode = Literal["train", "forward"]
Dtype = Literal["float32", "bfloat16", "float16"]
Attention = Literal["fused", "math"]

DTYPE_BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
DTYPE_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder-only transformer, complete: no other fact about the model exists.

    Zeroes stand for the usual choice and are replaced on construction: `d_head` = d_model /
    n_heads, `d_ff` = 4·d_model. Raises QuestionError, naming the field, for what cannot be.
    """

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    n_ctx: int
    vocab_size: int
    d_ff: int = 0
    d_head: int = 0
    positions: Literal["learned", "rotary"] = "learned"
    rotary_base: float = 10_000.0
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    norm_eps: float = 1e-5
    qkv_bias: bool = True
    out_proj: bool = True  # False: the heads' outputs, side by side, are the attention's output
    out_bias: bool = True
    mlp_bias: bool = True
    tied_head: bool = True
    head_bias: bool = False

    def __post_init__(self) -> None:
        self._require_types()
        for size in ("n_layers", "d_model", "n_heads", "n_ctx", "vocab_size"):
            self._require(getattr(self, size) >= 1, size, "must be at least 1")
        for size in ("d_ff", "d_head"):
            self._require(getattr(self, size) >= 0, size, "must be at least 1")
        if self.d_head == 0:
            whole = self.d_model % self.n_heads == 0
            heads = f"must divide d_model = {self.d_model}, or d_head must be given"
            self._require(whole, "n_heads", heads)
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        width = self.n_heads * self.d_head
        joins = f"is false, so n_heads × d_head = {width} must equal d_model = {self.d_model}"
        self._require(self.out_proj or width == self.d_model, "out_proj", joins)
        rotates = self.positions != "rotary" or self.d_head % 2 == 0
        self._require(rotates, "d_head", "must be even where positions are rotary")
        alone = "cannot be where the head is tied to the token table"
        self._require(not (self.tied_head and self.head_bias), "head_bias", alone)
        self._require(0 < self.norm_eps < 1, "norm_eps", "must lie between 0 and 1")
        self._require(self.rotary_base > 1, "rotary_base", "must be greater than 1")

    def _require(self, true: bool, name: str, rule: str) -> None:
        if not true:
            raise ModelFieldError(self.name, name, getattr(self, name), rule)

    def _require_types(self) -> None:
        for item in fields(self):
            value, words = getattr(self, item.name), get_args(item.type)
            if words:
                known = ", ".join(map(repr, words))
                self._require(value in words, item.name, f"is not one of {known}")
            else:
                # An int is a good float, but True is no good int.
                good = (int, float) if item.type is float else (item.type,)
                self._require(type(value) in good, item.name, f"is not {_TYPE_WORDS[item.type]}")


_TYPE_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


class ModelFieldError(QuestionError):
    """A value that a ModelConfig cannot have; `field` names it."""

    def __init__(self, model: str, field: str, value: object, rule: str) -> None:
        self.field = field
        super().__init__(f"model {model!r}: {field} = {value!r} {rule}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the model is asked to do in one step, on one device.

    `dtype` is what the matrix products multiply in. With `autocast` the weights stay float32 and
    are cast where they are used (mixed precision); without it they are stored in `dtype`.
    """

    batch_size: int
    seq_len: int
    mode: Mode = "train"
    dtype: Dtype = "float32"
    autocast: bool = False
    tf32: bool = False
    attention: Attention = "fused"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "seq_len"):
            if getattr(self, name) < 1:
                raise QuestionError(f"{name} = {getattr(self, name)} must be at least 1.")
        if self.tf32 and self.dtype != "float32":
            raise QuestionError(
                f"--tf32 multiplies float32 numbers, but the dtype is {self.dtype!r}. "
                "Type --dtype float32, or leave --tf32 out."
            )
        if self.autocast and self.dtype == "float32":
            raise QuestionError("autocast needs a dtype below float32. Type --dtype bfloat16.")

    @property
    def tokens(self) -> int:
        """Tokens that one step reads: B·T."""
        return self.batch_size * self.seq_len

    @property
    def matmul_dtype(self) -> str:
        """The number format that multiplied, and so whose peak counts: 'tf32' is one of its own."""
        return "tf32" if self.tf32 else self.dtype

    def with_batch(self, batch_size: int) -> "Workload":
        return replace(self, batch_size=batch_size)


def check_fits_context(model: ModelConfig, work: Workload) -> None:
    """Raise QuestionError where the workload's sequences are longer than the model's context."""
    if work.seq_len > model.n_ctx:
        raise QuestionError(
            f"seq_len = {work.seq_len} is over the context of {model.name!r}, which is "
            f"{model.n_ctx}. Type --seq-len {model.n_ctx} or less."
        )


def parse_dtype(text: str) -> Dtype:
    """'bf16' or 'bfloat16' -> 'bfloat16'. Raises QuestionError that names all known words."""
    known: dict[str, Dtype] = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
    name = DTYPE_SHORT.get(text.lower(), text.lower())
    if name not in known:
        words = ", ".join((*known, *DTYPE_SHORT))
        raise QuestionError(f"unknown dtype {text!r}. Type one of: {words}.")
    return known[name]

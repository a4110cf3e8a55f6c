"""Which models may compute equal beginnings of sequences once, and the mask by which they do.

A mask says for any two tokens of a row whether one sees the other, so it can say what a tree of sequences is. It cannot
say it to a model that looks at a window or a chunk of the row, or that carries a state along it, and where dropout is
drawn for each sequence anew one draw for all of them would be something else. Such models keep every sequence apart.
"""

import torch
from transformers import PreTrainedModel

from learner.models.varlen import DROPOUTS

# A layer of width H multiplies each token with about 12 H^2 numbers, and for each token that it sees with 2 H. Measured
# on CPUs, a multiplication of the latter kind costs a fifth more.
WIDTH = 5


def equal_width(model: PreTrainedModel) -> int:
    """Tokens of a row at which attention costs as much as everything else that a layer computes; 0 where the
    configuration does not tell."""
    return WIDTH * int(getattr(model.config.get_text_config(), "hidden_size", 0))


def mask_of(ends: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What attention adds to its scores, float[R, 1, L, L]: nothing where the token of the row sees that of the column,
    minus infinity elsewhere.

    Args:
        ends: int64[R, L] as of `TrainBatch`.
        dtype: of the model.
    """
    place = torch.arange(ends.shape[1], device=ends.device)
    seen = (place[None, None, :] <= place[None, :, None]) & (place[None, :, None] < ends[:, None, :])
    return torch.zeros(seen.shape, dtype=dtype, device=ends.device).masked_fill_(~seen, -torch.inf)[:, None]


def reason_apart(model: PreTrainedModel) -> str:
    """Why a model keeps every sequence apart, as far as its class and its configuration tell; "" where it may not."""
    config = model.config.get_text_config()
    dropouts = {name: rate for name in DROPOUTS if (rate := getattr(config, name, None))}
    dropouts |= {name: part.p for name, part in model.named_modules() if isinstance(part, torch.nn.Dropout) and part.p}
    if dropouts:
        name, rate = next(iter(dropouts.items()))
        return f"it has dropout ({name} = {rate:g})"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        return f"it has layers of {', '.join(sorted(kinds))}"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "its attention is within a sliding window"
    if getattr(config, "attention_chunk_size", None):
        return "its attention is within chunks of the row"
    return ""

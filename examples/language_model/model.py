"""A small GPT (https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)."""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Causal self-attention, then a perceptron; each adds to what it reads behind a norm. (B, T, width) to the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.project1 = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.project2 = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.project1(self.attend(self.norm1(hidden)))
        return hidden + self.project2(F.gelu(self.expand(self.norm2(hidden))))

    def attend(self, hidden: Tensor) -> Tensor:
        parts = self.queries_keys_values(hidden).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, width / heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True).transpose(1, 2).flatten(2)


class GPT(nn.Module):
    """A stack of blocks between an embedding and the same weights as output.

    Takes tokens (B, T), int64, T at most `block_size`; gives logits of the next one (B, vocabulary_size, T): classes
    second, as `cross_entropy` and the metrics want them.
    """

    def __init__(self, vocabulary_size: int, block_size: int, layers: int = 2, heads: int = 3, width: int = 96):
        super().__init__()
        if width % heads:
            raise ValueError(f"width is {width}, which cannot be shared among {heads} heads")
        self.block_size = block_size
        self.tokens = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Embedding(block_size, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, vocabulary_size, bias=False)
        self.output.weight = self.tokens.weight
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                adds_up = name.endswith(("project1.weight", "project2.weight"))
                nn.init.normal_(weight, std=0.02 / sqrt(2 * layers) if adds_up else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.output(self.norm(self.blocks(hidden))).transpose(1, 2)

    @torch.no_grad()
    def continued(self, tokens: Tensor, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Tokens (T,) and `count` more, each drawn given the `block_size` ones before it, by a generator of the CPU."""
        for _ in range(count):
            logits = self(tokens[None, -self.block_size :])[0, :, -1].float().cpu()
            drawn = torch.multinomial((logits / temperature).softmax(dim=0), 1, generator=generator)
            tokens = torch.cat([tokens, drawn.to(tokens.device)])
        return tokens

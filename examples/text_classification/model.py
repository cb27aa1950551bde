"""A small classifier of texts. Padding changes nothing of what it says."""

from torch import Tensor, nn
from torch.nn import functional as F

from examples.text_classification.data import Padded
from examples.text_classification.tokenizer import PADDING


class TextClassifier(nn.Module):
    """Word pieces that attend to each other, and their mean, weighted by how much each has to say.

    Takes `Padded` texts (B, T); gives logits (B, num_classes) for `cross_entropy`. Knows nothing of the order of words.
    """

    def __init__(
        self,
        num_classes: int,
        vocabulary_size: int,
        width: int = 64,
        heads: int = 4,
        blocks: int = 1,
        dropout: float = 0.3,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=PADDING)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        nn.init.normal_(self.embedding.weight, std=0.02)  # with torch's 1, words that were hardly seen speak as loud
        nn.init.zeros_(self.embedding.weight[PADDING])

    def forward(self, texts: Padded) -> Tensor:
        features = self.dropout(self.embedding(texts.pieces))
        for block in self.blocks:
            features = block(features, texts.mask)
        features = self.norm(features)
        weights = self.weight(features).masked_fill(~texts.mask[..., None], float("-inf")).softmax(dim=1)  # (B, T, 1)
        return self.head(self.dropout((weights * features).sum(dim=1)))


class AttentionBlock(nn.Module):
    """Self-attention and a layer for each place, with norms before and shortcuts around them.

    Takes (B, T, width) and a mask (B, T), true where others may look; gives (B, T, width).
    Source: Vaswani et al., "Attention Is All You Need", 2017.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = features.shape
        parts = self.query_key_value(self.norm1(features)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, T, width / heads)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        features = features + self.dropout(self.output(seen.transpose(1, 2).flatten(2)))
        return features + self.dropout(self.feed_forward(self.norm2(features)))

"""A backbone that several tasks share, and a head for one of them."""

from torch import Tensor, nn


class TaskNet(nn.Module):
    """Two convolutions as the backbone, and a linear head for one task. Takes (B, 1, 8, 8), float; gives logits
    (B, num_classes).

    `task`: the name of the head in a checkpoint. Under another name it is another head, so that the weights of another
    task fill the backbone alone ("strict": false), also where both tasks have as many classes.
    """

    def __init__(self, task: str, num_classes: int, channels: tuple[int, int] = (16, 32), dropout: float = 0.25):
        super().__init__()
        first, second = channels
        self.task = task
        self.backbone = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, first, 4, 4)
            nn.Conv2d(first, second, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, second, 2, 2)
            nn.Flatten(),
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({task: nn.Linear(second * 4, num_classes)})

    def forward(self, images: Tensor) -> Tensor:
        return self.heads[self.task](self.dropout(self.backbone(images)))

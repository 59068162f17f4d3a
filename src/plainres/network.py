"""The CIFAR networks of He et al. 2015, section 4.2: stem → three stages → head, plain or with shortcuts."""

from collections.abc import Callable

from torch import Tensor, nn

from plainres.blocks import BasicBlock, initialise
from plainres.depth import num_blocks


class CifarNetwork(nn.Module):
    """3×3 stem, three stages of n blocks at `width`, 2·`width`, 4·`width` channels, global average pooling, one linear layer.

    Input (N, in_channels, H, W) of any H, W ≥ 1; output logits (N, num_classes). Parameter names follow torchvision's ResNet.

    Args:
        depth: weighted layers on the main path, 6n+2 from 8 to 1202.
        shortcut: `none` (plain), `zero_pad` (option A), `projection` (B) or `projection_everywhere` (C).
        width: channels of the first stage; 16 in the paper.
        num_classes: number of logits.
        in_channels: 3 for colour, 1 for grey.
        block: builds one block from (in_channels, out_channels, stride, shortcut).

    Raises:
        ValueError: illegal depth or shortcut; names the legal ones.
    """

    def __init__(
        self,
        depth: int,
        shortcut: str,
        width: int = 16,
        num_classes: int = 10,
        in_channels: int = 3,
        block: Callable[[int, int, int, str], nn.Module] = BasicBlock,
    ):
        super().__init__()
        blocks = num_blocks(depth)

        def stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            first = block(in_channels, out_channels, stride, shortcut)
            return nn.Sequential(first, *(block(out_channels, out_channels, 1, shortcut) for _ in range(blocks - 1)))

        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(width, width, stride=1)
        self.layer2 = stage(width, 2 * width, stride=2)
        self.layer3 = stage(2 * width, 4 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))

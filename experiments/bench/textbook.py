"""A textbook loop: PIL images, torchvision transforms, DataLoader workers, NCHW, float32.

Loss and error are read in every step.
"""

from collections.abc import Callable
from functools import partial

import hydra
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from experiments.bench.window import Process, Window
from plainres.data.batches import Augmentation, Normaliser
from plainres.data.images import Images
from plainres.run.cell import compose_cell


def textbook(process: Process, overrides: list[str], seconds: float) -> dict[str, float]:
    """Trains a configuration's network on its data, with its augmentation, batches and optimiser.

    Pixels are normalised by channel. Workers, one per thread, live through all epochs.
    """
    cell = compose_cell(process.folder, *overrides)
    protocol = cell.config.protocol
    torch.set_num_threads(process.threads)
    torch.manual_seed(cell.config.seed)
    source = cell.load_images()
    normaliser = Normaliser(source.train.pixels, "channel")
    augmentation = Augmentation(**cell.identity["protocol"]["augmentation"])
    transform = transform_of(augmentation, normaliser, source.train.pixels.shape[-1])
    loader = DataLoader(
        Pictures(source.train, transform),
        protocol.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=process.threads,
        persistent_workers=True,
    )
    network = hydra.utils.instantiate(
        cell.config.model, num_classes=source.num_classes, in_channels=source.in_channels
    )
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
    )
    window = Window(process, seconds)
    train(network, loader, optimiser, window.iteration_ends)
    return {"images_per_second": protocol.batch_size / window.seconds_per_iteration}


def train(
    network: nn.Module,
    loader: DataLoader,
    optimiser: torch.optim.Optimizer,
    iteration_ends: Callable[[], bool],
) -> tuple[float, float]:
    """Mean loss and error of the iterations until `iteration_ends` returns True."""
    network.train()
    running_loss = running_error = 0.0
    iterations = 0
    while True:
        for images, labels in loader:
            optimiser.zero_grad()
            logits = network(images)
            loss = functional.cross_entropy(logits, labels)
            loss.backward()
            optimiser.step()
            running_loss += loss.item()
            running_error += (logits.argmax(1) != labels).float().mean().item()
            iterations += 1
            if iteration_ends():
                return running_loss / iterations, running_error / iterations


class Pictures(Dataset):
    """PIL images and labels, as from torchvision's CIFAR10."""

    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor]):
        self.pixels = images.pixels.permute(0, 2, 3, 1).squeeze(-1).contiguous().numpy()
        self.labels = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def add_noise(deviation: float, image: Tensor) -> Tensor:
    """Adds Gaussian noise of that standard deviation."""
    return image + deviation * torch.randn_like(image)


def transform_of(
    augmentation: Augmentation, normaliser: Normaliser, image_size: int
) -> Callable[[Image.Image], Tensor]:
    """torchvision's counterpart of an augmentation.

    Args:
        normaliser: of kind `channel`.
    """
    steps: list[Callable] = []
    if augmentation.warps:
        shift = augmentation.shift / image_size
        bilinear = transforms.InterpolationMode.BILINEAR
        ranges = (augmentation.rotation, (shift, shift), tuple(augmentation.scale))
        steps.append(transforms.RandomAffine(*ranges, interpolation=bilinear))
    if augmentation.padding:
        steps.append(transforms.RandomCrop(image_size, augmentation.padding))
    if augmentation.mirror:
        steps.append(transforms.RandomHorizontalFlip())
    mean, deviation = (one.flatten().tolist() for one in (normaliser.mean, normaliser.deviation))
    steps += [transforms.ToTensor(), transforms.Normalize(mean, deviation)]
    if augmentation.noise:
        steps.append(partial(add_noise, augmentation.noise))
    return transforms.Compose(steps)

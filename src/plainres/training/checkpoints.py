"""Checkpoints and weights on disk: sealed, written atomically in their own folder, two kept."""

from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import TorchCheckpointIO

from plainres.data.cache import save_sealed
from plainres.records import files


class TwoCheckpoints(TorchCheckpointIO):
    """Lightning's way to its files. The checkpoint before the last one stays beside it.

    Lightning itself writes to the folder for temporary files and then copies, which a kill, or a
    full disk, cuts in two.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        with files.atomic(path) as part:
            save_sealed(checkpoint, part)
            part.flush()  # a full disk shows here, before the older one moves
            if path.exists():
                path.replace(path.with_name(files.PREVIOUS_CHECKPOINT_FILE))


def save(value: Any, path: Path) -> None:
    """Writes what torch.load reads."""
    with files.atomic(path) as part:
        save_sealed(value, part)

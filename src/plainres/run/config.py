"""What Hydra is told before it composes a configuration: the variants of each question."""

from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf"


def register_variants(folder: Path = CONF / "variants") -> None:
    """Makes each entry of `folder`/<group>.yaml an option of the Hydra group <group>.

    An entry changes the whole configuration, as a file with `# @package _global_` would.
    """
    store = ConfigStore.instance()
    for path in sorted(folder.glob("*.yaml")):
        for name, changes in OmegaConf.load(path).items():
            store.store(group=path.stem, name=str(name), node=changes, package="_global_")


register_variants()

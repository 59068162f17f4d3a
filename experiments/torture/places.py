"""The folder of one fault, the commands that run in it and their outcome; prepared folders."""

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from random import Random

from experiments.torture import judge, zygote
from experiments.torture.changes import Action, Changes, at, die
from experiments.torture.zygote import HANGS, LIMIT, Ended

CELL = (
    *("protocol=smoke", "model=plain", "model.depth=8", "keep_weights=true", "threads=1"),
    *("accelerator=cpu", "checkpoint_seconds=0"),  # a checkpoint after every iteration
)
PICTURES = (
    *(*CELL, "data=image_folder", "data.label=pictures", "data.image_size=8"),
    *("protocol.batch_size=8", "protocol.iterations=6", "protocol.log_every=2"),
    *("protocol.evaluate_every=4", "protocol.error_window=4"),
    "protocol.schedule.warmup_iterations=1",
)
TRIES = 3
MEMORY, ENOUGH = Path("/dev/shm"), 2**32  # bytes; an archive unpacks to less
Result = tuple[str, str]  # one of judge.OUTCOMES, and why
Run = Callable[["Place", Random], Result]  # does a fault in a new place


class UnexpectedError(Exception):
    """Status 0 though the results are not those of an undisturbed run; `result`: the outcome."""

    def __init__(self, result: Result):
        super().__init__(f"{result[1]}, and status 0")
        self.result = result[0], str(self)


class Place:
    """The folders of one fault.

    Args:
        words: the command that it meets, without results_dir.
    """

    def __init__(self, folder: Path, words: tuple[str, ...] = CELL):
        self.folder, self.words = folder, words
        self.wanted: judge.Held = {}  # of an undisturbed run
        self.results, self.cache, self.temporary = (
            folder / name for name in ("results", "cache", "tmp")
        )
        for path in (self.results, self.cache, self.temporary):
            path.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "TMPDIR": str(self.temporary),
            "PLAINRES_CACHE": str(self.cache),
            "OMP_NUM_THREADS": "1",
        }
        self.tables = self.results / "depth" / "smoke"
        self.cell = self.tables / "runs" / "plain-8-seed0"

    def fill(self, template: "Place") -> "Place":
        """Makes it a copy of a place whose cells end as `template.wanted` says."""
        for name in ("results", "cache"):
            shutil.copytree(template.folder / name, self.folder / name, dirs_exist_ok=True)
        self.wanted = template.wanted
        return self

    def run(
        self,
        *more: str,
        action: Action | None = None,
        strike: tuple[float, int] | None = None,
        before: Callable[[], object] | None = None,
        limit: float = LIMIT,
    ) -> Ended:
        """The command, in a fork; with `action` at each change below the folder, or a signal.

        Raises:
            UnexpectedError: as `judged`.
        """

        def prepare() -> None:
            if before is not None:
                before()
            if action is not None:
                Changes(self.folder, action).install()

        words = (*self.words, *more, f"results_dir={self.results}")
        output = self.folder / "output"
        return self.judged(zygote.train(words, output, self.environment, prepare, strike, limit))

    def judged(self, ended: Ended) -> Ended:
        """The same; raises UnexpectedError where status 0 is not true."""
        if ended.status == 0 and self.wanted:
            unlike = judge.difference(self.wanted, judge.held(self.tables))
            if unlike is not None:
                raise UnexpectedError(unlike)
        return ended

    def must(self, ended: Ended) -> "Place":
        if ended.status:
            raise RuntimeError(f"undisturbed, status {ended.status}: {ended.output}")
        return self

    def outcome(
        self,
        repair: Callable[[], object] | None = None,
        again: Callable[[], Ended] | None = None,
    ) -> Result:
        """Runs the command again until it has ended well; the outcome of the fault, and why.

        Args:
            repair: takes the damage away. Where that does not help, what the command says is to
                be deleted is deleted.
            again: the command, where it is not `run`.
        """
        again = again or self.run
        said = ""
        for outcome, mend in (
            (judge.SURVIVED, lambda _: None),
            (judge.NOTICED, lambda _: repair and repair()),
            (judge.NOTICED, self.obey),
        ):
            mend(said)
            before = None
            for _ in range(TRIES):
                ended = again()
                if ended.status == 0:
                    return outcome, said
                if ended in (before, Ended(HANGS, ended.output)):
                    break  # it would say so for ever
                before = ended
            said = f"status {ended.status}: {ended.last_line}"
            if repair is None or not ended.says_why:
                break
        return judge.LOST, said

    def obey(self, said: str) -> None:
        """Deletes what a refusal names behind the word `delete`, if it is of this place."""
        for path in re.findall(r"delete (/\S+?)(?=[:;,]?(?:\s|$))", said):
            if path.startswith(f"{self.folder}/"):
                for found in Path(path).parent.glob(Path(path).name):
                    remove(found)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Site:
    """Prepared folders, each made when it is first needed.

    They lie in memory where there is enough, because thousands of fsyncs make a disk slow.
    """

    def __init__(self) -> None:
        enough = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
        place = MEMORY if enough else None
        self.folder = Path(tempfile.mkdtemp(prefix="plainres-torture-", dir=place))

    @cached_property
    def finished(self) -> Place:
        """The cell and its neighbour are finished."""
        place = Place(self.folder / "finished")
        place.must(place.run("seed=1"))
        shutil.copytree(place.results, self.folder / "fresh" / "results")
        place.must(place.run())
        place.wanted = judge.held(place.tables)
        return place

    @cached_property
    def fresh(self) -> Place:
        """The neighbour alone is finished."""
        wanted = self.finished.wanted
        place = Place(self.folder / "fresh")
        place.wanted = wanted
        return place

    @cached_property
    def interrupted(self) -> Place:
        """The cell was killed at three quarters of its changes: it has checkpoints."""
        place = Place(self.folder / "interrupted").fill(self.fresh)
        ended = place.run(action=at(len(self.changes) * 3 // 4, die))
        if ended.status != -signal.SIGKILL:
            raise RuntimeError(f"not killed: {ended.output}")
        return place

    @cached_property
    def changes(self) -> list[str]:
        """The names of all changes of files of an undisturbed run, in their order."""
        place = Place(self.folder / "counted").fill(self.fresh)
        log = os.open(self.folder / "changes", os.O_RDWR | os.O_CREAT)
        write = os.write
        place.must(place.run(action=lambda now, name, half: write(log, f"{name} ".encode())))
        os.close(log)
        return (self.folder / "changes").read_text(encoding="utf-8").split()

    def numbers(self, *names: str) -> list[int]:
        """The numbers of the changes with these names, or of all."""
        listed = enumerate(self.changes, start=1)
        return [number for number, name in listed if name in names or not names]

    @cached_property
    def elsewhere(self) -> Path | None:
        """A folder on another file system; None: there is none."""
        other = Path(tempfile.mkdtemp(prefix="plainres-torture-"))
        if other.stat().st_dev != self.folder.stat().st_dev:
            return other
        other.rmdir()
        return None

    @cached_property
    def pictures(self) -> Path:
        """A folder with pictures/ (two classes), and archives of it beside it."""
        from PIL import Image

        generator, root = Random(0), self.folder / "data" / "pictures"
        for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
            (root / name).mkdir(parents=True)
            for number in range(8):
                picture = Image.frombytes("RGB", (8, 8), generator.randbytes(192))
                picture.save(root / name / f"{number}.png")
        for suffix in ("zip", "gztar"):
            shutil.make_archive(str(root), suffix, root)
        return root.parent

    @cached_property
    def of_pictures(self) -> Place:
        """A cell that is finished on the pictures; its decoded images are in the cache."""
        words = (*PICTURES, f"data.root={self.pictures / 'pictures'}")
        place = Place(self.folder / "of_pictures", words)
        place.must(place.run())
        place.wanted = judge.held(place.tables)
        return place

    def close(self) -> None:
        for folder in filter(None, (self.folder, vars(self).get("elsewhere"))):
            shutil.rmtree(folder, ignore_errors=True)

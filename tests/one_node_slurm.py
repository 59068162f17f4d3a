"""A Slurm of one node on this machine, as root, for tests: `python tests/one_node_slurm.py FOLDER`.

Needs Debian's slurm-wlm and munge. Its files lie in the folder; it has no accounting. Jobs of the
partition `low` make room for those of `high`.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIGURATION = """
ClusterName=plainres
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=localhost Default=YES PriorityTier=1 GraceTime=30
PartitionName=high Nodes=localhost PriorityTier=2
"""


def missing() -> str:
    """Why no Slurm can be started here, in a few words, or ""."""
    names = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if names:
        return f"no {', '.join(names)} (Debian: apt install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "a Slurm is started as root alone"


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class Slurm:
    """Starts with the block, and ends with all its jobs at its end.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self._daemons: dict[str, subprocess.Popen] = {}
        self._waiting_since: dict[str, float] = {}  # jobs that were queued again

    def __enter__(self) -> "Slurm":
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        text = CONFIGURATION.format(folder=self.folder, ports=_free_ports(2))
        (self.folder / "slurm.conf").write_text(text)
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
        own = [f"--{option}={self.folder}/munge.{end}" for option, end in files.items()]
        try:
            # --force: a folder below /tmp will do
            self._start("munged", "--foreground", "--force", *own)
            _wait_for((self.folder / "munge.socket").exists)
            self._start("slurmctld", "-D")
            self.start_node()
            _wait_for(lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T"))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.call("scancel", "--user=root")
        _wait_for(lambda: not self.jobs())
        self._end()

    def start_node(self) -> None:
        self._start("slurmd", "-D", "-N", "localhost")

    def kill_node(self) -> None:
        """Its jobs go on."""
        self._daemons["slurmd"].kill()
        self._daemons["slurmd"].wait()

    def call(self, *words: str) -> str:
        """What a command of Slurm prints; nothing while Slurm does not answer."""
        environment = {**os.environ, **self.environment}
        ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        return ended.stdout

    def jobs(self) -> dict[str, str]:
        """State by job, of those that wait or run."""
        shown = self.call("squeue", "--noheader", "--array", "--format=%i %T %r")
        return dict(line.split(maxsplit=1) for line in shown.splitlines())

    def hasten(self) -> None:
        """Jobs that are queued again may start after two seconds, and not after two minutes.

        In the second in which slurmd killed a job it refuses to start it again.
        """
        now, waiting = time.monotonic(), self._waiting_since
        pending = [job for job, state in self.jobs().items() if state == "PENDING BeginTime"]
        self._waiting_since = {job: waiting.get(job, now) for job in pending}
        for job, since in self._waiting_since.items():
            if now - since > 2:
                self.call("scontrol", "update", f"jobid={job}", "starttime=now")

    def _start(self, name: str, *words: str) -> None:
        program = shutil.which(name, path=_path())
        assert program is not None
        with (self.folder / f"{name}.log").open("a") as log:
            self._daemons[name] = subprocess.Popen(
                [program, *words],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self) -> None:
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("Slurm does not answer")
        time.sleep(0.2)


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    with Slurm(Path(sys.argv[1]).absolute()) as slurm:
        print(f"export SLURM_CONF={slurm.environment['SLURM_CONF']}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})

"""What can run as a job of a cluster, and the resources that it gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mitoscope.settings import check_ranges


class Job(Protocol):
    """Work of its own process, which a second start resumes, or finds finished; hashable, and pickled for the node.

    Attributes:
        name: For the log.
        folder: Its own; two jobs with the same folder are the same work.
        result: A file that is there when it is finished.
        extra: The extra of the package that it needs, see `mitoscope.command.run_command`.
    """

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def result(self) -> Path: ...
    @property
    def extra(self) -> str: ...

    def run(self) -> int | None:
        """Do the work; returns the exit code, None is 0. Paths are absolute: the node starts in another folder."""


def freeze_options(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Arguments for a function, as a job keeps them: hashable, and with absolute paths."""
    return tuple((name, value.absolute() if isinstance(value, Path) else value) for name, value in options.items())


@dataclass(frozen=True)
class Resources:
    """Resources of one job. Other options are set by sbatch's own variables, such as SBATCH_RESERVATION.

    Attributes:
        partition: Empty, here and in the next three: the cluster's default.
        account: The account that is charged.
        qos: Quality of service.
        constraint: Features of the node, e.g. the kind of GPU.
        time_min: Limit of one run in minutes. A job that needs more is requeued and resumes.
        gpus_per_node: 1, or 0 to compute on the CPU.
        cpus_per_task: Cores, and threads.
        mem_gb: Main memory.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time_min: int = 24 * 60
    gpus_per_node: int = 1
    cpus_per_task: int = 4
    mem_gb: float = 16.0

    def __post_init__(self) -> None:
        rules = {
            "time_min": self.time_min >= 3,  # Slurm signals the job 90 to 150 s before the limit
            "gpus_per_node": self.gpus_per_node in (0, 1),
            "cpus_per_task": self.cpus_per_task >= 1,
            "mem_gb": self.mem_gb > 0,
        }
        check_ranges(self, rules, "the Slurm setting", "--slurm ")

    def sbatch(self) -> dict[str, str | int]:
        """The options that are set, by submitit's names."""
        options: dict[str, str | int] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "time": self.time_min,
            "gpus_per_node": self.gpus_per_node,
            "cpus_per_task": self.cpus_per_task,
            "mem": f"{round(self.mem_gb * 1024)}M",
        }
        return {name: value for name, value in options.items() if value}

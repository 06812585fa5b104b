"""How every benchmark shows what it measured: a table, and JSON on request."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emotion_cnn.files import write_json
from emotion_cnn.training.environment import describe_environment


@dataclass(frozen=True)
class Row:
    """One figure, as a ratio where there is something to compare with.

    Attributes:
        what: What was measured.
        unit: Unit of `tool` and `reference`.
        tool: The figure of the tool.
        reference: What it is divided by; None for a figure that stands alone.
        at_least: Target: the ratio, or the figure alone, is this or more.
        at_most: Target: the ratio, or the figure alone, is this or less.
    """

    what: str
    unit: str
    tool: float
    reference: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """What the target is about: the ratio, or the figure that stands alone."""
        return self.tool if self.reference is None else self.tool / self.reference

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with what all benchmarks take; `description` is for --help."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures to a file too"
    )
    return parser


def show(
    title: str, rows: Sequence[Row], *, notes: Sequence[str], json: Path | None
) -> None:
    """Prints the figures and the machine they are of.

    Args:
        title: What was compared with what, and on what.
        rows: The figures.
        notes: Lines below the table: what a reader of the figures has to know.
        json: File to write the same to, or None.
    """
    environment = describe_environment()
    print(f"\n{title}\n")
    width = max(len(row.what) for row in rows)
    print(f"{'':<{width}}  {'tool':>15}  {'reference':>15}  {'ratio':>7}  target")
    for row in rows:
        print(f"{row.what:<{width}}  {_cells(row)}".rstrip())
    print("\n" + "\n".join(notes) + "\n" if notes else "")
    print(machine(environment))
    if json:
        figures = [asdict(row) | {"value": row.value, "met": row.met} for row in rows]
        write_json(
            json,
            {
                "title": title,
                "figures": figures,
                "notes": list(notes),
                "environment": environment,
            },
        )


def machine(environment: Mapping[str, Any] | None = None) -> str:
    """Returns the machine and the versions that figures are of, on two lines.

    Args:
        environment: What `describe_environment` returns; None to ask it.
    """
    environment = environment or describe_environment()
    versions, backend = environment["versions"], environment["backend"]
    return (
        f"Machine: {environment['processor']}, {environment['cpu_cores']} cores; "
        f"{environment['platform']}\n"
        f"Python {versions['python']}, Keras {versions['keras']} on {backend} "
        f"{versions.get(backend, '')}; commit {environment['git_commit']}"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _cells(row: Row) -> str:
    reference = ratio = target = ""
    if row.reference is not None:
        reference, ratio = f"{_number(row.reference)} {row.unit}", f"{row.value:.3g}"
    if row.met is not None:
        bound = f">= {row.at_least:g}" if row.at_least else f"<= {row.at_most:g}"
        target = f"{bound} {'met' if row.met else 'MISSED'}"
    tool = f"{_number(row.tool)} {row.unit}"
    return f"{tool:>15}  {reference:>15}  {ratio:>7}  {target}"

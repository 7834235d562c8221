"""The command line: every target in turn, with new seeds, for as long as it is told."""

from __future__ import annotations

import random
import sys
import time

import click

from fuzz.outsiders.hunt import EXAMPLES, Finding, hunt
from fuzz.outsiders.targets import TARGETS


@click.command()
@click.option("--seconds", default=60.0, help="Of real time, for all targets together.")
@click.option("--target", type=click.Choice([target.name for target in TARGETS]), help="This one alone.")
@click.option("--seed", type=int, help="The first seed; drawn by default.")
@click.option("--examples", default=EXAMPLES, help="For each target and seed.")
def main(seconds: float, target: str | None, seed: int | None, examples: int) -> None:
    """End with status 1 at the first finding."""
    end = time.monotonic() + seconds
    at = random.SystemRandom().randrange(10**6) if seed is None else seed
    count = 0
    while True:
        for each in TARGETS:
            if target in (None, each.name):
                try:
                    hunt(each, at, examples)
                except Finding as finding:
                    print(f"{finding}\nrepeat: python -m fuzz.outsiders --target {each.name} --seed {at}")
                    sys.exit(1)
                count += examples
        print(f"seed {at}: nothing found; {count:,} examples so far", flush=True)
        at += 1
        if time.monotonic() >= end or seed is not None:
            return


if __name__ == "__main__":
    main()

"""`itertools`: lazy, metered, nested only so deep. What is endless takes a step per item where it is
consumed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sandbox import policy
from sandbox.facades.base import Facade, integer, number, too_many
from sandbox.faces import Face

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_WIDTH_MAX = 64  # items of one combination


def build(runtime: GuestRuntime) -> Facade:
    meter, lazies, structure = runtime.meter, runtime.lazies, runtime.structure
    items = meter.items

    def wrapped(iterator: Any, *sources: Any) -> Any:
        return lazies.wrap(iterator, *sources)

    def accumulate(iterable: Any, func: Any = None, *, initial: Any = None) -> Any:
        return wrapped(itertools.accumulate(iterable, func or runtime.add, initial=initial), iterable)

    def batched(iterable: Any, n: Any) -> Any:
        size = integer(n, "n", low=1, high=policy.ITEMS_MAX)
        inner = iter(items(iterable))

        def batches() -> Iterator[tuple[Any, ...]]:
            while batch := tuple(itertools.islice(inner, size)):
                yield batch

        return wrapped(batches(), iterable)

    def chain_from(iterable: Any) -> Any:
        """A generator, since C code recurses without end when the chain is an item of itself."""

        def inner() -> Iterator[Any]:
            for source in items(iterable):
                yield from source

        return wrapped(inner(), iterable)

    def combined(make: Callable[..., Any]) -> Callable[[Any, Any], Any]:
        def build_one(iterable: Any, r: Any) -> Any:
            pool = structure.listed(iterable)
            size = integer(r, "r", low=0, high=_WIDTH_MAX)
            return wrapped(make(pool, size))

        return build_one

    def permutations(iterable: Any, r: Any = None) -> Any:
        pool = structure.listed(iterable)
        size = len(pool) if r is None else integer(r, "r", low=0)
        if size > _WIDTH_MAX:
            raise too_many()
        return wrapped(itertools.permutations(pool, size))

    def product(*iterables: Any, repeat: Any = 1) -> Any:
        times = integer(repeat, "repeat", low=0, high=_WIDTH_MAX)
        if len(iterables) * times > _WIDTH_MAX:
            raise too_many("factors")
        meter.charge(len(iterables))
        pools = [structure.listed(iterable) for iterable in iterables]
        return wrapped(itertools.product(*pools, repeat=times))

    def compress(data: Any, selectors: Any) -> Any:
        return wrapped(itertools.compress(items(data), selectors), data, selectors)

    def count(start: Any = 0, step: Any = 1) -> Any:
        return wrapped(itertools.count(number(start, "start"), number(step, "step")))

    def cycle(iterable: Any) -> Any:
        return wrapped(itertools.cycle(structure.listed(iterable)))

    def dropwhile(predicate: Any, iterable: Any) -> Any:
        return wrapped(itertools.dropwhile(predicate, items(iterable)), iterable)

    def takewhile(predicate: Any, iterable: Any) -> Any:
        return wrapped(itertools.takewhile(predicate, iterable), iterable)

    def filterfalse(predicate: Any, iterable: Any) -> Any:
        return wrapped(itertools.filterfalse(predicate, items(iterable)), iterable)

    def groupby(iterable: Any, key: Any = None) -> Any:
        """Groups are lists already: a lazy group would be emptied by the next one."""

        def groups() -> Iterator[tuple[Any, list[Any]]]:
            group: list[Any] = []
            current: Any = None
            for item in items(iterable):
                label = item if key is None else key(item)
                structure.pair(label, current)
                if group and label == current:
                    group.append(item)
                    continue
                if group:
                    yield current, group
                current, group = label, [item]
            if group:
                yield current, group

        return wrapped(groups(), iterable)

    def islice(iterable: Any, *bounds: Any) -> Any:
        checked = [None if bound is None else integer(bound, "a bound", low=0) for bound in bounds]
        inner = items(iterable)
        return wrapped(itertools.islice(inner, *checked), inner, iterable)

    def pairwise(iterable: Any) -> Any:
        return wrapped(itertools.pairwise(iterable), iterable)

    def repeat(value: Any, times: Any = None) -> Any:
        return wrapped(
            itertools.repeat(value) if times is None else itertools.repeat(value, integer(times, "times"))
        )

    def starmap(function: Any, iterable: Any) -> Any:
        """A generator, for the same reason as in `chain_from`."""

        def inner() -> Iterator[Any]:
            for arguments in iterable:
                yield function(*structure.listed(arguments))

        return wrapped(inner(), iterable)

    def tee(iterable: Any, n: Any = 2) -> tuple[Any, ...]:
        """Copies of one list: what lies between the fastest and the slowest is kept anyway."""
        pulled = structure.pull(iterable)
        return tuple(wrapped(iter(pulled)) for _ in range(integer(n, "n", low=0, high=100)))

    def zip_longest(*iterables: Any, fillvalue: Any = None) -> Any:
        sources = lazies.metered(iterables)
        return wrapped(itertools.zip_longest(*sources, fillvalue=fillvalue), *sources, *iterables)

    chain = Face("chain", (), lazies.chain, {"from_iterable": chain_from})
    return Facade(
        "itertools",
        {
            "accumulate": accumulate,
            "batched": batched,
            "chain": chain,
            "combinations": combined(itertools.combinations),
            "combinations_with_replacement": combined(itertools.combinations_with_replacement),
            "compress": compress,
            "count": count,
            "cycle": cycle,
            "dropwhile": dropwhile,
            "filterfalse": filterfalse,
            "groupby": groupby,
            "islice": islice,
            "pairwise": pairwise,
            "permutations": permutations,
            "product": product,
            "repeat": repeat,
            "starmap": starmap,
            "takewhile": takewhile,
            "tee": tee,
            "zip_longest": zip_longest,
        },
    )

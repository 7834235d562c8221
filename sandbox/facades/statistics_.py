"""`statistics` over lists of numbers: plain formulas, left to right, the same on every version."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sandbox.costs import sort_steps
from sandbox.facades.base import Facade, integer, number

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime


class StatisticsError(ValueError):
    """Too few data points."""


def build(runtime: GuestRuntime) -> Facade:
    structure, charge = runtime.structure, runtime.meter.charge

    def numbers(data: Any, least: int = 1) -> list[Any]:
        listed = [number(item, "every data point") for item in structure.listed(data)]
        charge(len(listed))
        if len(listed) < least:
            raise StatisticsError(f"at least {least} data points are needed")
        return listed

    def ordered(data: Any) -> list[Any]:
        listed = numbers(data)
        charge(sort_steps(len(listed)))
        return sorted(listed)

    def average(values: list[Any]) -> Any:
        if all(isinstance(value, int) for value in values):
            total = sum(values)
            return total // len(values) if total % len(values) == 0 else total / len(values)
        return math.fsum(values) / len(values)

    def mean(data: Any) -> Any:
        return average(numbers(data))

    def fmean(data: Any, weights: Any = None) -> float:
        values = numbers(data)
        if weights is None:
            return math.fsum(values) / len(values)
        shares = numbers(weights)
        if len(shares) != len(values):
            raise StatisticsError("data and weights must be the same length")
        return math.fsum(a * b for a, b in zip(values, shares, strict=True)) / math.fsum(shares)

    def geometric_mean(data: Any) -> float:
        values = numbers(data)
        if min(values) <= 0:
            raise StatisticsError("geometric mean requires positive numbers")
        return math.exp(math.fsum(map(math.log, values)) / len(values))

    def harmonic_mean(data: Any) -> float:
        values = numbers(data)
        if min(values) < 0:
            raise StatisticsError("harmonic mean does not support negative values")
        return 0.0 if 0 in values else len(values) / math.fsum(1 / value for value in values)

    def median(data: Any) -> Any:
        values = ordered(data)
        middle = len(values) // 2
        return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2

    def median_low(data: Any) -> Any:
        values = ordered(data)
        return values[(len(values) - 1) // 2]

    def median_high(data: Any) -> Any:
        values = ordered(data)
        return values[len(values) // 2]

    def spread(values: list[Any]) -> float:
        center = math.fsum(values) / len(values)
        return math.fsum((value - center) ** 2 for value in values)

    def variance(data: Any) -> float:
        values = numbers(data, 2)
        return spread(values) / (len(values) - 1)

    def pvariance(data: Any) -> float:
        values = numbers(data)
        return spread(values) / len(values)

    def quantiles(data: Any, *, n: Any = 4) -> list[float]:
        values = ordered(numbers(data, 2))
        parts = integer(n, "n", low=1, high=10_000)
        charge(4 * parts)
        result = []
        for i in range(1, parts):
            whole, rest = divmod(i * (len(values) + 1), parts)
            whole = min(max(whole, 1), len(values) - 1)
            rest = i * (len(values) + 1) - whole * parts
            result.append((values[whole - 1] * (parts - rest) + values[whole] * rest) / parts)
        return result

    def multimode(data: Any) -> list[Any]:
        counts: dict[Any, int] = {}
        for item in runtime.meter.items(data):
            key = structure.key(item)
            counts[key] = counts.get(key, 0) + 1
        most = max(counts.values(), default=0)
        return [item for item, count in counts.items() if count == most]

    def mode(data: Any) -> Any:
        found = multimode(data)
        if not found:
            raise StatisticsError("no mode for empty data")
        return found[0]

    return Facade(
        "statistics",
        {
            "StatisticsError": StatisticsError,
            "fmean": fmean,
            "geometric_mean": geometric_mean,
            "harmonic_mean": harmonic_mean,
            "mean": mean,
            "median": median,
            "median_high": median_high,
            "median_low": median_low,
            "mode": mode,
            "multimode": multimode,
            "pstdev": lambda data: math.sqrt(pvariance(data)),
            "pvariance": pvariance,
            "quantiles": quantiles,
            "stdev": lambda data: math.sqrt(variance(data)),
            "variance": variance,
        },
    )

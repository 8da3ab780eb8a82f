"""What a schedule achieved and what is proven of it, in sentences."""

import numpy as np

from graphs import program_order
from graphs.units import format_bytes
from topoformer.result import Schedule


def same_order(result: Schedule) -> bool:
    """Whether the schedule is the program's own order."""
    return bool(np.array_equal(result.order, program_order(result.graph)))


def achieved(result: Schedule) -> str:
    before, after = result.program_cost.peak_bytes, result.cost.peak_bytes
    peak = f"peak memory stays at {format_bytes(after)}."
    if before != after:
        way, part = ("falls", "less") if after < before else ("rises", "more")
        change = f"{abs(1 - result.ratio):.1%} {part}"
        peak = f"peak memory {way} from {format_bytes(before)} to {format_bytes(after)}, {change}."
    if result.objective.is_memory:
        return peak
    return f"{result.objective.name} is {result.value_ratio:.3f} of the program's; {peak}"


def proven(result: Schedule) -> str:
    if result.proven_optimal:
        return "Proven optimal: no order of these operators needs less."
    if not result.bound_bytes:
        return "Nothing is proven about other orders."
    return f"No order of these operators can need less than {format_bytes(result.bound_bytes)}."

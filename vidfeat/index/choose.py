"""Choose a FAISS index for a number of vectors, and estimate its memory.

Flat is exact, and best while a search through everything takes milliseconds. Above that, vectors
are compressed, and the best candidates are always compared again with the vectors themselves:
otherwise the compression would limit recall. Vectors have length one, so that the inner product is
the cosine, and the Euclidean distance gives the same order. Compressed kinds use the distance:
features of one network are nearly parallel, so that their differences from the nearest centroid are
small, whereas inner products would all be nearly one and lose their differences to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vidfeat.errors import UsageError
from vidfeat.system.wording import size_text

KINDS = ("auto", "flat", "hnsw", "ivfsq", "ivfpq", "opq")
COMPRESSED = ("ivfsq", "ivfpq", "opq")

# Up to here a search through everything takes a few milliseconds and an index saves little.
FLAT_CLIPS = 200_000
# With fewer points than this, a codebook is useless.
LEAST_CLIPS = {"ivfsq": 200, "ivfpq": 1000, "opq": 10_000}
# k-means wants 39 points per list, and warns on stderr below that.
POINTS_PER_LIST = 39


@dataclass(frozen=True)
class IndexPlan:
    """The index to build.

    Attributes:
        kind: one of ``KINDS`` except ``auto``.
        factory: the description for ``faiss.index_factory``.
        memory_bytes: what a search keeps in memory, in addition to the mapped vectors.
        lists_on_disk: inverted lists stay in a separate file, mapped, and are built in parts.
    """

    kind: str
    factory: str
    memory_bytes: int
    lists_on_disk: bool = False

    @property
    def metric(self) -> int:
        """FAISS's number for the metric: 0 for the inner product, 1 for the distance."""
        return 1 if self.kind in COMPRESSED else 0

    @property
    def num_lists(self) -> int:
        """Number of inverted lists; 0 for kinds without lists."""
        for part in self.factory.split(","):
            if part.startswith("IVF"):
                return int(part[3:].split("_")[0])
        return 0


def choose(
    num_clips: int, dimension: int, *, kind: str = "auto", max_memory_bytes: int | None = None
) -> IndexPlan:
    """Choose the kind by size and memory, or check that a requested kind can be built.

    Args:
        num_clips: vectors to index.
        dimension: their dimension.
        kind: one of ``KINDS``.
        max_memory_bytes: what the index may take in memory; None for half of what is free.

    Raises:
        UsageError: an unknown kind, too few clips for it, or one that does not fit the memory.
    """
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}", field="kind")
    budget = free_memory() // 2 if max_memory_bytes is None else max_memory_bytes
    if kind == "auto":
        return _choose_auto(num_clips, dimension, budget)
    least = LEAST_CLIPS.get(kind, 1)
    if num_clips < least:
        raise UsageError(
            f"kind={kind} needs at least {least} clips, and there are only {num_clips}: use kind="
            "flat, which is exact and fast at this size"
        )
    plan = _plan(kind, num_clips, dimension)
    if plan.memory_bytes > budget:
        if kind in ("ivfsq", "opq"):
            return IndexPlan(plan.kind, plan.factory, plan.memory_bytes, lists_on_disk=True)
        raise UsageError(
            f"kind={kind} takes {size_text(plan.memory_bytes)} for {num_clips} clips, more "
            f"than the {size_text(budget)} allowed by max_memory: raise it, or use kind=opq",
            field="max_memory",
        )
    return plan


def _choose_auto(num_clips: int, dimension: int, budget: int) -> IndexPlan:
    flat = _plan("flat", num_clips, dimension)
    if num_clips < LEAST_CLIPS["ivfpq"]:
        return flat
    if num_clips <= FLAT_CLIPS and flat.memory_bytes <= budget:
        return flat
    kinds = ["ivfpq", "opq"] if dimension >= 32 else ["ivfsq"]
    plans = [_plan(name, num_clips, dimension) for name in kinds if num_clips >= LEAST_CLIPS[name]]
    for plan in plans:
        if plan.memory_bytes <= budget:
            return plan
    last = plans[-1]
    if last.kind == "ivfpq":  # too few clips for opq, and no memory at all: the smallest kind
        return last
    return IndexPlan(last.kind, last.factory, last.memory_bytes, lists_on_disk=True)


def _plan(kind: str, num_clips: int, dimension: int) -> IndexPlan:
    if kind == "flat":
        return IndexPlan("flat", "Flat", num_clips * dimension * 4)
    if kind == "hnsw":
        # 32 neighbours per clip, twice as many on the ground level, 4 bytes each
        return IndexPlan("hnsw", "HNSW32,Flat", num_clips * (dimension * 4 + 2 * 32 * 4 + 16))
    lists = count_lists(num_clips)
    coarse = f"IVF{lists}" if lists < 16_384 else f"IVF{lists}_HNSW32"
    tables = lists * dimension * 4
    if kind == "ivfsq":
        return IndexPlan(kind, f"{coarse},SQ8", num_clips * (dimension + 8) + tables)
    if kind == "ivfpq":
        parts = _divisor(dimension, max(dimension // 4, 1))
        return IndexPlan(kind, f"{coarse},PQ{parts}x4fs", num_clips * (parts // 2 + 8) + tables)
    parts = _divisor(dimension, min(64, max(dimension // 4, 1)))
    reduced = min(dimension, 4 * parts)
    factory = f"OPQ{parts}_{reduced},{coarse},PQ{parts}"
    return IndexPlan("opq", factory, num_clips * (parts + 8) + lists * reduced * 4)


def count_lists(num_clips: int) -> int:
    """Number of lists: 4 sqrt(N) as a power of two, more above 4 million, as FAISS advises."""
    if num_clips > 20_000_000:
        wanted = 262_144
    elif num_clips > 4_000_000:
        wanted = 65_536
    else:
        wanted = 2 ** round(math.log2(max(4 * math.sqrt(num_clips), 1)))
    most = max(num_clips // POINTS_PER_LIST, 1)
    return int(min(wanted, 2 ** int(math.log2(most))))


def _divisor(dimension: int, most: int) -> int:
    """The largest divisor of ``dimension`` up to ``most``."""
    return next(parts for parts in range(most, 0, -1) if dimension % parts == 0)


def free_memory() -> int:
    """Bytes available without swapping, within the limit of a container."""
    free = 8 << 30
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            used = int(file.read())
        if limit != "max":
            free = min(free, max(int(limit) - used, 0))
    except (OSError, ValueError):
        pass
    return free


def parse_size(text: str, option: str = "max_memory") -> int:
    """Parse a size such as ``4GB``, ``500M`` or ``2GiB`` into bytes; errors name ``option``.

    Raises:
        UsageError: the text is not a size.
    """
    units = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    units |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
    body = text.strip().lower().removesuffix("b")
    number = body.rstrip("kmgti")
    unit = body[len(number) :]
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if unit not in units or not 0 < value < 1e18:
        raise UsageError(f"{option} {text!r} is not a size: give one such as 500MB, 4GB or 2GiB")
    return int(value * units[unit])

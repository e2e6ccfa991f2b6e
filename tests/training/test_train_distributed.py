"""Processes of one start find each other, whatever earlier starts left in torchrun's store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest
import torch.distributed as dist

from vidfeat.training.distributed import agreed_name


def start(store: dist.Store, size: int, late: int = 0) -> list[str]:
    """The names that the processes of one start agree on; one of them comes late."""

    def one(rank: int) -> str:
        if rank == late:
            sleep(0.05)
        return agreed_name(store, rank, size, pause_seconds=0.002)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("late", [0, 1, 2])
def test_each_start_has_a_name_of_its_own(size: int, late: int) -> None:
    store = dist.HashStore()
    names = [start(store, size, late) for _ in range(4)]
    assert all(len(set(of_one)) == 1 for of_one in names)
    assert len({of_one[0] for of_one in names}) == 4


def test_another_number_of_processes_takes_over() -> None:
    store = dist.HashStore()
    found = [start(store, size)[0] for size in (3, 2, 4)]
    assert len(set(found)) == 3


def test_a_start_that_was_cut_short_disturbs_no_other() -> None:
    store = dist.HashStore()
    for key, value in {
        "hello/0": "dead", "hello/1": "gone", "called": "dead,gone", "heard/1": "dead,gone",
        "agreed/dead,gone": "",
    }.items():  # fmt: skip
        store.set(f"vidfeat/{key}", value)
    names = start(store, 2, late=1)
    assert len(set(names)) == 1

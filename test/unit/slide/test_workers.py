import threading
import time
from collections.abc import Iterator

import pytest
import torch

from mitoscope.slide.workers import MOST_WORKERS, Stage, Workers


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("one_computes", "share"), [(False, 1), (True, 2)])
def test_results_come_in_order_from_two_threads_that_share_torchs(one_computes: bool, share: int) -> None:
    seen: list[tuple[str, int]] = []

    def look(number: int) -> int:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        time.sleep(0.02 if number % 2 else 0.001)
        return number**2

    assert list(Workers(one_computes=one_computes).map(look, range(9))) == [number**2 for number in range(9)]
    assert len({name for name, _ in seen}) == MOST_WORKERS == 2
    assert {count for _, count in seen} == {share}
    assert torch.get_num_threads() == 2


def test_with_one_core_one_reads_while_the_other_computes() -> None:
    torch.set_num_threads(1)
    workers = Workers(one_computes=False)

    def look(_: int) -> None:
        with workers.reading.busy():
            time.sleep(0.05)
        with workers.computing.busy():
            time.sleep(0.05)

    started = time.perf_counter()
    list(workers.map(look, range(8)))
    assert workers.computing.total_s == pytest.approx(workers.computing.any_s, rel=0.01)
    assert time.perf_counter() - started < 0.75 * (workers.reading.total_s + workers.computing.total_s)


def test_an_error_ends_the_work() -> None:
    done: list[int] = []

    def fail(number: int) -> int:
        if number == 3:
            raise ValueError("the fourth")
        done.append(number)
        return number

    with pytest.raises(ValueError, match="the fourth"):
        list(Workers(one_computes=False).map(fail, range(1000)))
    assert len(done) < 20
    assert torch.get_num_threads() == 2


def test_no_more_is_begun_than_is_wanted_soon() -> None:
    begun: list[int] = []
    results = Workers(one_computes=False).map(begun.append, range(1000))
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 2 * MOST_WORKERS + 2
    results.close()  # type: ignore[attr-defined]  # it is a generator


def run_together(stage: Stage, seconds: float) -> None:
    """Two threads, busy at the same time if they may."""
    barrier = threading.Barrier(2)

    def be_busy() -> None:
        barrier.wait()
        with stage.busy():
            time.sleep(seconds)

    threads = [threading.Thread(target=be_busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_stage_counts_seconds_of_all_threads_and_those_in_which_any_was_busy() -> None:
    together, in_turn = Workers(one_computes=False).computing, Workers(one_computes=True).computing
    run_together(together, 0.2)
    run_together(in_turn, 0.2)
    assert 0.4 <= together.total_s == pytest.approx(2 * together.any_s, rel=0.2)
    assert 0.4 <= in_turn.total_s == pytest.approx(in_turn.any_s, rel=0.01)

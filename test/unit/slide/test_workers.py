import threading
import time

import pytest
import torch

from mitoscope.slide.workers import WORKERS, Clock, make_clocks, work


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


def test_results_come_in_order_from_two_threads_that_share_torchs() -> None:
    seen: list[tuple[str, int]] = []

    def look(number: int) -> int:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        time.sleep(0.02 if number % 2 else 0.001)
        return number**2

    assert list(work(look, range(9))) == [number**2 for number in range(9)]
    assert len({name for name, _ in seen}) == WORKERS == 2
    assert {count for _, count in seen} == {1}
    assert torch.get_num_threads() == 2


def test_an_error_ends_the_work() -> None:
    done: list[int] = []

    def fail(number: int) -> int:
        if number == 3:
            raise ValueError("the fourth")
        done.append(number)
        return number

    with pytest.raises(ValueError, match="the fourth"):
        list(work(fail, range(1000)))
    assert len(done) < 20
    assert torch.get_num_threads() == 2


def test_no_more_is_begun_than_is_wanted_soon() -> None:
    begun: list[int] = []
    results = work(begun.append, range(1000))
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 2 * WORKERS + 2
    results.close()


def run_together(clock: Clock, seconds: float) -> None:
    """Two threads, busy at the same time if they may."""
    barrier = threading.Barrier(2)

    def be_busy() -> None:
        barrier.wait()
        with clock.busy():
            time.sleep(seconds)

    threads = [threading.Thread(target=be_busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_clock_counts_seconds_of_all_threads_and_those_in_which_any_was_busy() -> None:
    together, in_turn = make_clocks("cpu")[1], make_clocks("cuda")[1]
    run_together(together, 0.2)
    run_together(in_turn, 0.2)
    assert 0.4 <= together.total_s == pytest.approx(2 * together.any_s, rel=0.2)
    assert 0.4 <= in_turn.total_s == pytest.approx(in_turn.any_s, rel=0.01)

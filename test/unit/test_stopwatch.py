import time

from mitoscope.stopwatch import Stopwatch


def test_stages_are_kept_in_order_and_lie_within_the_whole() -> None:
    watch = Stopwatch()
    with watch.stage("read"):
        time.sleep(0.01)
    with watch.stage("imports"):
        pass
    assert list(watch.seconds) == ["read", "imports"]
    assert watch.seconds["read"] >= 0.01
    assert watch.total_s() >= sum(watch.seconds.values())

"""dramatiq: Redis broker with its default middleware, results in Redis, eight threads (its default) in one process."""

import sys
import threading

import dramatiq
import meter
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=meter.URL)
broker.add_middleware(Results(backend=RedisBackend(url=meter.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(sent: float) -> int:
    meter.note(sent)
    return 1


def submit() -> None:
    for _ in range(meter.TASKS):
        noop.send(0.0)


def paced() -> None:
    import time

    meter.wait_for_first(lambda: noop.send(time.monotonic()))
    for moment in meter.pace():
        noop.send(moment)


def work() -> None:
    dramatiq.Worker(broker, worker_threads=meter.SLOTS).start()
    threading.Event().wait()


if __name__ == "__main__":
    {"submit": submit, "paced": paced, "work": work}[sys.argv[1]]()

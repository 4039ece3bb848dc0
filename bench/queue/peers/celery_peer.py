"""celery: Redis broker and result backend, acks after the task; without gossip, mingle, heartbeat and events."""

import sys

import meter
from celery import Celery

app = Celery("celery_peer", broker=meter.URL, backend=meter.URL)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=100,
    result_expires=3600,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="noop")
def noop(sent: float) -> int:
    meter.note(sent)
    return 1


def submit() -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(meter.TASKS):
            noop.apply_async((0.0,), producer=producer)


def paced() -> None:
    import time

    meter.wait_for_first(lambda: noop.delay(time.monotonic()))
    with app.producer_pool.acquire(block=True) as producer:
        for moment in meter.pace():
            noop.apply_async((moment,), producer=producer)


def work() -> None:
    pool = ["--pool=solo"] if meter.SLOTS == 1 else ["--pool=prefork", "--concurrency=1"]
    app.worker_main(
        ["worker", *pool, "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    )


if __name__ == "__main__":
    {"submit": submit, "paced": paced, "work": work}[sys.argv[1]]()

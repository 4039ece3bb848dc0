"""Leases in figures: calls beside raw NATS requests, check-outs, and many of them amid kills: `python -m bench.leases`.

Owns three parts. `latency`: calls to a leased worker and raw requests to a trivial responder process, in turns, on one
server and client; then check-outs from a warm pool. `storm`: 10,000 check-outs by 200 clients over 8 worker processes
while one a second is SIGKILLed and replaced: slots leaked, owned twice, waiters overtaken. `--from-zero`: check-outs
that wake a deployed pool of the current kubeconfig, which has to be there and go to zero by itself.
"""

import argparse
import asyncio
import collections
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from millpond import Client
from millpond_api.broker import QueueConfig

from bench.figures import percentile
from tests.support.kube import Kube
from tests.support.lease_storm import APP, Plan, Report, Storm
from tests.support.logs import forward_nats
from tests.support.nats import NatsServer
from tests.support.workers import LEASE, Mill, running_mill

ECHO = "bench.echo"
RESPONDER = f"""
import asyncio, nats, sys
async def main(url):
    connection = await nats.connect(url)
    async def answer(message):
        await message.respond(message.data)
    await connection.subscribe("{ECHO}", cb=answer)
    await connection.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main(sys.argv[1]))
"""
CALLS, CHECKOUTS, WARM_UP = 2000, 300, 100
ZERO_PATIENCE = 600.0


def say(name: str, seconds: list[float]) -> None:
    """One line of a table."""
    p50, p99 = percentile(seconds, 0.5) * 1000, percentile(seconds, 0.99) * 1000
    mean = statistics.fmean(seconds) * 1000
    print(f"{name:44} {len(seconds):6} {p50:9.2f} {p99:9.2f} {mean:9.2f}", flush=True)


async def timed(act: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began


async def measure_latency(mill: Mill) -> None:
    """Calls and raw requests in turns; check-outs one after the other."""
    words = [sys.executable, "-c", RESPONDER, mill.server.url]
    responder = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert responder.stdout is not None
        await responder.stdout.readline()
        await mill.start("latency", app=APP, concurrency=1, beat=1.0)
        calls, raws = [], []
        async with mill.client.checkout("mill", timeout=60) as worker:
            for turn in range(WARM_UP + CALLS):
                raw = await timed(lambda: mill.client.transport.request(ECHO, b'{"args":["corn"]}'))
                call = await timed(lambda: worker.call("echo", "corn"))
                if turn >= WARM_UP:
                    raws.append(raw)
                    calls.append(call)
        outs = [await measure_checkout(mill.client, "mill", 60.0) for _ in range(CHECKOUTS)]
    finally:
        responder.kill()
        await responder.wait()
    print(f"{'milliseconds':44} {'n':>6} {'p50':>9} {'p99':>9} {'mean':>9}")
    say("raw NATS request to a trivial responder", raws)
    say("call to a leased worker", calls)
    say("check-out from a warm pool", outs)


async def measure_checkout(client: Client, pool: str, timeout: float) -> float:
    """Seconds from asking until the slot is ours; it is given back."""
    began = time.perf_counter()
    async with client.checkout(pool, timeout=timeout):
        return time.perf_counter() - began


def print_storm(plan: Plan, report: Report, seconds: float) -> None:
    overtakes = report.overtakes()
    print(f"\n{plan.checkouts} check-outs by {plan.clients} clients over {plan.workers} workers in {seconds:.0f} s")
    print(f"  workers killed and replaced              {report.killed}")
    print(f"  served / leases lost with their worker   {len(report.served)} / {report.lost}")
    print(f"  slots leaked at the end                  {report.leaked}")
    print(f"  leases of one slot at one time           {len(report.twice)} {report.twice[:3] or ''}")
    print(f"  calls that met another lease's state     {len(report.wrong)} {report.wrong[:3] or ''}")
    print(f"  served at a second grant (hit by a kill) {sum(one.hit for one in report.served)}")
    counts = collections.Counter(min(count, plan.workers) for count in overtakes)
    told = ", ".join(f"{n if n < plan.workers else f'{n} or more'}: {counts[n]}" for n in sorted(counts))
    print(f"  waiters by how many later ones were granted before them: {told}")
    print("  (fewer than the workers: claims of the same moment; more: its message was on its way to a killed worker)")


async def run_local(options: argparse.Namespace) -> int:
    """The parts that need a server alone. 0 when nothing was leaked or shared."""
    with tempfile.TemporaryDirectory() as directory:
        server = NatsServer(Path(directory) / "nats")
        server.start()
        try:
            queue = QueueConfig("bench", "mill", lease=LEASE)
            async with running_mill(server, queue, Path(directory)) as mill:
                if not options.no_latency:
                    await measure_latency(mill)
                    mill.stop_all()
                plan = Plan(options.checkouts, options.clients, options.workers, options.kill_every)
                began = time.perf_counter()
                report = await Storm(mill, plan).run()
                print_storm(plan, report, time.perf_counter() - began)
        finally:
            server.stop()
    return 1 if report.leaked or report.twice or report.wrong else 0


async def measure_from_zero(kube: Kube, url: str, options: argparse.Namespace) -> None:
    """Check-outs, each after the pool has gone back to zero."""
    outs = []
    async with Client.connect(url, namespace=kube.namespace) as client:
        for _ in range(options.rounds):
            await wait_for_zero(kube, options.pool)
            outs.append(await measure_checkout(client, options.pool, ZERO_PATIENCE))
            print(f"  {outs[-1]:.2f} s", flush=True)
    print(f"{'milliseconds':44} {'n':>6} {'p50':>9} {'p99':>9} {'mean':>9}")
    say(f"check-out from zero (pool {options.pool})", outs)


async def wait_for_zero(kube: Kube, pool: str) -> None:
    """Until the pool has no pod."""
    until = time.monotonic() + ZERO_PATIENCE
    while (await asyncio.to_thread(kube.get, "workerpools", pool)).get("status", {}).get("replicas", 0):
        if time.monotonic() > until:
            raise TimeoutError(f"pool {pool} did not go to zero: give it minWorkers 0 and a short idleAfter")
        await asyncio.sleep(1.0)


def main() -> int:
    """0 when all is well."""
    parser = argparse.ArgumentParser(description="Calls, check-outs, and a storm of both.")
    parser.add_argument("--checkouts", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill-every", type=float, default=1.0, help="seconds between two SIGKILLs; 0: none")
    parser.add_argument("--no-latency", action="store_true", help="the storm alone")
    parser.add_argument("--from-zero", action="store_true", help="wake a deployed pool of the current kubeconfig")
    parser.add_argument("--pool", default="work", help="that pool")
    parser.add_argument("--namespace", default="default", help="its namespace")
    parser.add_argument("--nats", default="", help="its NATS; unset: that of the tests' release, forwarded")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    if not options.from_zero:
        return asyncio.run(run_local(options))
    kube = Kube(Path(os.environ.get("KUBECONFIG", Path.home() / ".kube" / "config")), options.namespace)
    with contextlib.nullcontext(options.nats) if options.nats else forward_nats(kube) as url:
        asyncio.run(measure_from_zero(kube, url, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())

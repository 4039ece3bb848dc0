"""A client process that holds a lease until it is killed: `python -m tests.support.lease_owner URL NAMESPACE POOL`."""

import asyncio
import sys

from millpond import Client


async def main(url: str, namespace: str, pool: str) -> None:
    """Says `held <lease>` once it holds one, then does nothing but renew."""
    async with Client.connect(url, namespace=namespace) as client, client.checkout(pool, timeout=None) as worker:
        print(f"held {worker.id}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

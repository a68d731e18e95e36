"""The same with asyncio: two commands at once, one of them given up after a while."""

import asyncio
import os

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")


async def run_two() -> None:
    async with mlepool.AsyncClientPool() as pool, pool.add(HOST) as conn:
        sleeper = await conn.run(["sleep", "60"], complete=False)
        counter = await conn.run("for i in 1 2 3; do echo $i; done", complete=False)
        async for line in counter:
            print("step", line)
        try:
            async with asyncio.timeout(0.2):  # waits have no timeout of their own
                await sleeper.wait()
        except TimeoutError:
            report = await sleeper.stop()
            print(report.status, "with", len(report.survivors), "survivors")


def main() -> None:
    asyncio.run(run_two())


if __name__ == "__main__":
    main()

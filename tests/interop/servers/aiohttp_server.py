"""aiohttp's server: one line for each request that it has read."""

import asyncio
import sys

from aiohttp import web


async def answer(request):
    print(request.method, request.raw_path, flush=True)
    await request.read()
    return web.Response(
        status=405 if request.method == "CONNECT" else 200,
        text="ok\n",
        headers={"X-Seen": f"{request.method} {request.raw_path}"},
    )


async def main():
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, port=int(sys.argv[1])).start()
    await asyncio.Event().wait()


asyncio.run(main())

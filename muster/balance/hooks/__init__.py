"""A balancer inside the clients that people have: aiohttp, httpx and grpc.aio."""

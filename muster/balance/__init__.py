"""Calls of a service, spread over its instances by each client for itself: policies, a limit in flight, retries.

load, policy      what a client knows of an instance, and which one it takes
limit, budget     how many calls it has under way, and how many it repeats
fleet, picker     the instances of the watch, and all of the above together: pure
balancer          the picker with a clock, dice and the watch of a controller
attempt, sending  one call to one instance; and its second chance at another one
statistics        what it has done so far, for people and for Prometheus
reports           what it tells the controllers of the instances that it calls
hooks             a balancer inside aiohttp, httpx and grpc.aio
"""

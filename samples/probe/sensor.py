#!/usr/bin/env python3
"""The two ends of the recording: a temperature sensor and its server, which speak CoAP (RFC 7252) by aiocoap.

    sensor.py server    # at fd0b::1, port 5683
    sensor.py sensor    # at fd0a::1, port 5001; ends after its last reading

The sensor observes the server's /set (RFC 7641), the temperature that it should keep, and posts a reading to /temp every
half second. Each reading is answered in its acknowledgement. Every 20 seconds the set point changes, and the server
notifies the sensor. Each run of the sensor exchanges 240 messages.
"""

import asyncio
import math
import sys

import aiocoap
from aiocoap import resource
from aiocoap.numbers import ContentFormat

SENSOR, SERVER = ("fd0a::1", 5001), ("fd0b::1", 5683)
READINGS = 117
SET_POINTS = ["21.0", "19.5", "22.0"]
BETWEEN_READINGS = 0.5  # seconds
BETWEEN_SET_POINTS = 20.0


def reading(number):
    """A room in the course of a day, between 18.0 and 24.0 degrees."""
    return f"{21 + 3 * math.sin(2 * math.pi * number / READINGS):.1f}".encode()


class Temp(resource.Resource):
    """Takes the readings of the sensor."""

    async def render_post(self, request):
        return aiocoap.Message(code=aiocoap.CHANGED)


class SetPoint(resource.ObservableResource):
    """The temperature that the sensor should keep."""

    def __init__(self):
        super().__init__()
        self.text = SET_POINTS[0]

    def update_observation_count(self, count):
        """The set point begins to change when the sensor asks for notifications."""
        if count == 1:
            self.changes = asyncio.ensure_future(self.change())

    async def change(self):
        for self.text in SET_POINTS[1:]:
            await asyncio.sleep(BETWEEN_SET_POINTS)
            self.updated_state()

    async def render_get(self, request):
        return aiocoap.Message(payload=self.text.encode(), content_format=ContentFormat.TEXT)


async def server():
    site = resource.Site()
    site.add_resource(["temp"], Temp())
    site.add_resource(["set"], SetPoint())
    await aiocoap.Context.create_server_context(site, bind=SERVER)
    await asyncio.Event().wait()


async def sensor():
    # A server context, because only its port can be chosen.
    context = await aiocoap.Context.create_server_context(None, bind=SENSOR)
    base = f"coap://[{SERVER[0]}]"
    watch = context.request(aiocoap.Message(code=aiocoap.GET, uri=base + "/set", observe=0))
    await watch.response
    for number in range(READINGS):
        await asyncio.sleep(BETWEEN_READINGS)
        post = aiocoap.Message(
            code=aiocoap.POST, uri=base + "/temp", payload=reading(number), content_format=ContentFormat.TEXT
        )
        answer = await context.request(post).response
        assert answer.code == aiocoap.CHANGED, answer


if __name__ == "__main__":
    asyncio.run({"server": server, "sensor": sensor}[sys.argv[1]]())

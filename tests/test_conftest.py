"""What is left open is told in the module that opened it, whenever garbage is collected."""

import asyncio

from conftest import left_open


def test_a_forgotten_loop_is_seen():
    loop = asyncio.new_event_loop()
    loop.itself = loop  # a cycle: only the collector finds it
    del loop
    assert any("unclosed event loop" in told for told in left_open())


def test_what_was_closed_is_no_news():
    loop = asyncio.new_event_loop()
    loop.itself = loop
    loop.close()
    del loop
    assert not left_open()

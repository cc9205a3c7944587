"""Predictions that do not hold up an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._native import CancelToken

if TYPE_CHECKING:
    from ._native import MLModel, MLState, TokenStream
    from .generation import Token


async def predict(model: MLModel, inputs: Mapping[str, object], state: MLState | None) -> dict[str, object]:
    """Predicts on a thread of the event loop's executor. When the task is cancelled the prediction ends, and
    the state is as it was, before the task goes on."""
    token = CancelToken()
    call = functools.partial(model.predict, inputs, state, cancel=token)
    prediction = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(prediction)
    except asyncio.CancelledError:
        token.cancel()
        await asyncio.wait([prediction])
        raise


async def next_token(stream: TokenStream) -> Token:
    """Waits for a token on a thread of the event loop's executor."""
    token = await asyncio.get_running_loop().run_in_executor(None, next, stream, None)
    if token is None:
        raise StopAsyncIteration
    return token

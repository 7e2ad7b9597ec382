"""Serve: a bundle behind the completions and chat interface of OpenAI, for any program that speaks it.

    POST /v1/completions      prompt or prompts in, texts out, whole or as a stream
    POST /v1/chat/completions messages in, through the model's chat template
    GET  /v1/models           the bundle's name

It listens on this machine alone unless told otherwise, and then asks for a key. Texts are written one
at a time, in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from engine.config import UserError
from engine.inference.asked import Asked, choice, delta, reading
from engine.inference.generator import Generator, Prompt, Token
from engine.inference.keys import usable

MOST_BODY = 4 << 20
MOST_WAITING = 32
LOOK_SECONDS = 0.5


class Service:
    """One model, and the queue before it."""

    def __init__(self, model: Generator, name: str, key: str = "", hosts: frozenset[str] | None = None) -> None:
        self.model, self.name, self.key, self.hosts = model, name, key, hosts
        self.made, self.waiting = int(time.time()), 0
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The model to oneself. UserError where too many wait already."""
        if self.waiting >= MOST_WAITING:
            raise UserError(f"{MOST_WAITING} requests wait already; try again later.", where="busy")
        self.waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self.waiting -= 1

    async def tokens(self, prompt: Prompt, asked: Asked) -> AsyncIterator[Token]:
        """What the model writes, from a thread; leaving the loop early ends the writing at its next token."""
        loop, found = asyncio.get_running_loop(), asyncio.Queue[Any]()
        over = threading.Event()

        def work() -> None:
            last: Any = None
            try:
                for token in _until(over, lambda: self.model.tokens(prompt, **asked.settings)):
                    loop.call_soon_threadsafe(found.put_nowait, token)
            except Exception as error:
                last = error
            loop.call_soon_threadsafe(found.put_nowait, last)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (token := await found.get()) is not None:
                if isinstance(token, Exception):
                    raise token
                yield token
        finally:
            over.set()
            await loop.run_in_executor(None, thread.join)   # the model is free again only then


def _until(over: threading.Event, begin: Callable[[], Iterator[Token]]) -> Iterator[Token]:
    for token in begin():
        if over.is_set():
            return
        yield token


class Handler(RequestHandler):
    """What every address shares: who may ask, and how what went wrong is told."""

    service: Service

    def initialize(self, service: Service) -> None:
        self.service = service

    def set_default_headers(self) -> None:
        self.set_header("Server", "training-studio")
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        hosts, host = self.service.hosts, self.request.host.rpartition("]")
        name = (host[0] + host[1] if host[1] else self.request.host.partition(":")[0]).lower()
        # A page of a stranger can make a browser send requests here under a name of its own (DNS rebinding).
        if hosts is not None and name not in hosts:
            return self.refuse(403, f"the host {name!r} is not this machine; use 127.0.0.1 or localhost")
        given = self.request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if self.service.key and not hmac.compare_digest(given.encode(), self.service.key.encode()):
            return self.refuse(401, "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
                               "invalid_api_key")
        return None

    def refuse(self, status: int, sentence: str, code: str = "", field: str = "") -> None:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": {"message": sentence, "type": kind, "param": field or None,
                                          "code": code or None}}))

    def no_model(self, name: str) -> None:
        self.refuse(404, f"there is no model {name!r} here; the only one is {self.service.name}", "model_not_found",
                    "model")

    def write_error(self, status_code: int, **_: Any) -> None:
        self.refuse(status_code, self._reason if status_code < 500 else "the server failed; its log says how")


class Nothing(Handler):
    def prepare(self) -> None:
        self.refuse(404, f"there is nothing at {self.request.path}; see /v1/models")


class Models(Handler):
    def get(self, name: str = "") -> None:
        about = {"id": self.service.name, "object": "model", "created": self.service.made, "owned_by": "you"}
        if name and name != self.service.name:
            return self.no_model(name)
        return self.finish(about if name else {"object": "list", "data": [about]})


class Completions(Handler):
    """Both kinds of completion: `chat` says which."""

    def initialize(self, service: Service, chat: bool = False) -> None:
        super().initialize(service)
        self.chat = chat

    async def post(self) -> None:
        if not self.request.headers.get("Content-Type", "").startswith("application/json"):
            # Forms of strangers' pages cannot send this type without being asked first.
            return self.refuse(415, "send the request as application/json")
        try:
            asked = reading(self.request.body, self.service.model, self.chat)
            if asked.model not in ("", self.service.name):
                return self.no_model(asked.model)
            async with self.service.turn():
                await (self._stream(asked) if asked.stream else self._whole(asked))
        except UserError as error:
            if not self._headers_written:
                self.refuse(429 if error.where == "busy" else 400, error.sentence, field=error.where)
            else:
                await self._send({"error": {"message": error.sentence, "type": "server_error"}})
                self.finish()
        except StreamClosedError:
            pass    # whoever asked has gone
        return None

    def _head(self, asked: Asked, kind: str) -> dict[str, Any]:
        return {"id": f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex[:24]}", "object": kind,
                "created": int(time.time()), "model": self.service.name}

    async def _whole(self, asked: Asked) -> None:
        choices, written = [], 0
        for number, (prompt, again) in enumerate(asked.texts()):
            tokens = [token async for token in self.service.tokens(prompt, again)]
            written += sum(not token.given for token in tokens)
            choices.append(choice(asked, number, tokens))
        head = self._head(asked, "chat.completion" if self.chat else "text_completion")
        await self.finish({**head, "choices": choices, "usage": asked.usage(written)})

    async def _stream(self, asked: Asked) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        head, written = self._head(asked, "chat.completion.chunk" if self.chat else "text_completion"), 0
        for number, (prompt, again) in enumerate(asked.texts()):
            if self.chat:
                first = {"index": number, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                await self._send({**head, "choices": [first]})
            async for token in self.service.tokens(prompt, again):
                written += not token.given
                await self._send({**head, "choices": [delta(asked, number, token)]})
        if asked.tell_usage:
            await self._send({**head, "choices": [], "usage": asked.usage(written)})
        self.write("data: [DONE]\n\n")
        await self.finish()

    async def _send(self, event: dict[str, Any]) -> None:
        self.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n")
        await self.flush()


def application(service: Service) -> Application:
    return Application([
        (r"/v1/models", Models, {"service": service}), (r"/v1/models/(.+)", Models, {"service": service}),
        (r"/v1/completions", Completions, {"service": service}),
        (r"/v1/chat/completions", Completions, {"service": service, "chat": True}),
    ], default_handler_class=Nothing, default_handler_args={"service": service})


def local(address: str) -> bool:
    """Whether only this machine can reach a server that listens on this address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def serve(model: Generator, name: str, address: str = "127.0.0.1", port: int = 8000, key: str = "",
          ready: Callable[[str], None] = print, over: Callable[[], bool] = lambda: False) -> None:
    """Answer requests until interrupted, or until `over`; `ready` gets the address. UserError for a taken port, and for
    a key that is missing or that no header carries."""
    key = usable(key)
    if not local(address) and not key:
        raise UserError(f"{address} lets other machines in, so a key is needed; give one with --key.", where="key")

    async def run() -> None:
        hosts = frozenset(("127.0.0.1", "localhost", "[::1]", address)) if local(address) else None
        try:
            sockets = bind_sockets(port, address)
        except OSError as error:
            raise UserError(f"port {port} of {address} cannot be used ({error.strerror}); choose another with "
                            "--port.", where="port") from None
        server = HTTPServer(application(Service(model, name, key, hosts)), max_body_size=MOST_BODY,
                            max_header_size=64 << 10)
        server.add_sockets(sockets)
        shown = f"[{address}]" if ":" in address else address
        ready(f"http://{shown}:{sockets[0].getsockname()[1]}/v1")
        while not over():
            await asyncio.sleep(LOOK_SECONDS)
        server.stop()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())

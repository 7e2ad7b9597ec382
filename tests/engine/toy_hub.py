"""A hub on this machine: the few answers that the library needs to fetch a repository."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = {"main": COMMIT, "v1": COMMIT, COMMIT: COMMIT}


class Hub:
    """Repositories by name, those that ask for consent, and the requests that came."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.address = ""

    def info(self, name: str) -> dict:
        folder = self.repositories[name]
        found = [{"rfilename": str(path.relative_to(folder)), "size": path.stat().st_size, "blobId": "0" * 40}
                 for path in sorted(folder.rglob("*")) if path.is_file()]
        return {"id": name, "modelId": name, "sha": COMMIT, "private": False, "disabled": False, "gated": False,
                "tags": [], "downloads": 0, "likes": 0, "cardData": {"license": "apache-2.0"}, "siblings": found}


@contextmanager
def hub() -> Iterator[Hub]:
    made = Hub()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            made.asked.append(f"{self.command} {path}")
            first = path.removeprefix("api/models/")
            name = next((name for name in {*made.repositories, *made.gated} if f"{first}/".startswith(f"{name}/")), "")
            rest = first.removeprefix(name).strip("/").split("/")
            if name in made.gated:
                self.refuse(403, "GatedRepo")
            elif not name:
                self.refuse(404, "RepoNotFound")
            elif path.startswith("api/") and (rest[-1] if rest[0] == "revision" else "main") not in REVISIONS:
                self.refuse(404, "RevisionNotFound")
            elif path.startswith("api/"):
                self.send(json.dumps(made.info(name)).encode(), {"Content-Type": "application/json"})
            elif rest[0] != "resolve" or rest[1] not in REVISIONS:
                self.refuse(404, "RevisionNotFound")
            elif not (file := made.repositories[name].joinpath(*rest[2:])).is_file():
                self.refuse(404, "EntryNotFound")
            else:
                content = file.read_bytes()
                self.send(content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                                    "Accept-Ranges": "bytes"})

        def send(self, content: bytes, headers: dict[str, str]) -> None:
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0] or 0)
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[begin:])

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()

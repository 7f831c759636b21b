"""A Hugging Face hub on this machine: one repository, as much of it as its client asks for."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "d" * 40


class HubServer(ThreadingHTTPServer):
    """Keeps the files of a single commit."""

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.visibility: str | None = None  # None: the repository is not there
        self.files: dict[str, bytes] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/me/tuned") and self.server.visibility:
            is_private = self.server.visibility == "private"
            self._answer({"id": "me/tuned", "sha": COMMIT, "private": is_private, "siblings": [], "tags": []})
            return
        _, _, resolved = self.path.partition("/me/tuned/resolve/")
        revision, _, file = resolved.partition("/")
        if self.server.visibility is None or not resolved:
            self._refuse(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif file not in self.server.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._send(200, self.server.files[file], {"ETag": f'"{file}"'})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._refuse(401, "")
        elif self.path == "/api/repos/create":
            status = 409 if self.server.visibility else 200
            self.server.visibility = self.server.visibility or json.loads(body)["visibility"]
            self._answer({"url": f"{self.server.address}/me/tuned", "id": "me/tuned"}, status)
        elif "/preupload/" in self.path:
            asked = [each["path"] for each in json.loads(body)["files"]]
            modes = [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in asked]
            self._answer({"files": modes})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.address}/me/tuned/commit/{COMMIT}"
            self._answer({"commitUrl": url, "commitOid": COMMIT})
        else:  # such as a check of the card, which the real hub answers so, too
            self._answer({"warnings": [], "errors": []})

    def _answer(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": COMMIT, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""


@contextmanager
def hub_server(token: str) -> Iterator[HubServer]:
    """Yield a hub that takes this token alone."""
    with HubServer(token) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()

"""As much of the hub's HTTP API as snapshots of models and single files of datasets need."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Files = Mapping[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories by kind and name, such as models/org/name or datasets/org/name."""

    def __init__(self, repositories: Mapping[str, Files]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.repositories = repositories
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    server: Hub  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        for repository, files in self.server.repositories.items():
            kind, _, name = repository.partition("/")
            at = f"/api/{repository}"
            if path == f"{at}/tree/{COMMIT}":
                return self._send(200, json.dumps(_listed(files)).encode(), {}, body)
            if path in (at, f"{at}/revision/main"):
                siblings = [{"rfilename": file} for file in files]
                info = {"id": name, "sha": COMMIT, "siblings": siblings}
                return self._send(200, json.dumps(info).encode(), {}, body)
            head = f"{'' if kind == 'models' else f'/{kind}'}/{name}/resolve/{COMMIT}/"
            if path.startswith(head) and path.removeprefix(head) in files:
                data = files[path.removeprefix(head)]
                tag = hashlib.sha256(data).hexdigest()
                named = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
                return self._send(200, data, named, body)
        code, word = (403, "GatedRepo") if "/gated/" in path else (404, "RepoNotFound")
        return self._send(code, b"{}", {"X-Error-Code": word}, body)

    def _send(self, code: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


def _listed(files: Files) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for file, data in files.items()
    ]


@contextmanager
def serving(repositories: Mapping[str, Files]) -> Iterator[Hub]:
    """Serves them on a port of this machine's until the block ends."""
    with Hub(repositories) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def client_environment(endpoint: str, home: Path) -> dict[str, str]:
    """What a process needs to ask this hub alone; the hub's client reads it once."""
    return {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home),
        "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5", "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip

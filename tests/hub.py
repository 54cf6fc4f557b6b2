"""A small server on loopback that speaks the calls of the Hugging Face hub which writing and fetching a repository takes."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Hub(BaseHTTPRequestHandler):
    """Repositories are folders below `root`, `owner/name`, of one commit."""

    root: Path
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            owner, _, name = str(asked["name"]).rpartition("/")
            owner = owner or str(asked.get("organization") or "ann")
            (self.root / owner / name).mkdir(parents=True, exist_ok=True)
            self._json({"url": f"{self._address}/{owner}/{name}", "name": f"{owner}/{name}", "id": "1"})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/\w+", self.path):
            files = json.loads(body)["files"]
            self._json({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/\w+", self.path):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    path = self.root / match[1] / entry["value"]["path"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(base64.b64decode(entry["value"]["content"]))
            url = f"{self._address}/{match[1]}/commit/{self._commit(match[1])}"
            self._json({"commitUrl": url, "commitOid": self._commit(match[1]), "success": True, "hookOutput": ""})
        else:
            self._missing()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/\w+)?", path)
        tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/\w+", path)
        if match and (self.root / match[1]).is_dir():
            siblings = [{"rfilename": name} for name in self._files(match[1])]
            self._json({"id": match[1], "modelId": match[1], "sha": self._commit(match[1]), "siblings": siblings, "tags": []})
        elif tree and (self.root / tree[1]).is_dir():
            sizes = {name: (self.root / tree[1] / name).stat().st_size for name in self._files(tree[1])}
            self._json([{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes.items()])
        else:
            self._file(path, content=True)

    def do_HEAD(self) -> None:
        self._file(self.path.partition("?")[0], content=False)

    # ---- inside

    @property
    def _address(self) -> str:
        return f"http://{self.headers['Host']}"

    def _files(self, repository: str) -> list[str]:
        folder = self.root / repository
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def _commit(self, repository: str) -> str:
        digest = hashlib.sha1()
        for name in self._files(repository):
            digest.update(name.encode() + (self.root / repository / name).read_bytes())
        return digest.hexdigest()

    def _file(self, path: str, content: bool) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/\w+/([\w./-]+)", path)
        file = self.root / match[1] / match[2] if match else None
        if match is None or file is None or not file.is_file():
            return self._missing()
        body = file.read_bytes()
        self.send_response(200)
        for name, value in {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": self._commit(match[1])}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if content:
            self.wfile.write(body)
        return None

    def _json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _missing(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        with (self.root / "requests.log").open("a") as log:
            log.write(" ".join(map(str, arguments)) + "\n")


@contextlib.contextmanager
def served_hub(root: Path) -> Iterator[str]:
    """The address of a hub whose repositories lie below `root`, while the block lasts."""
    root.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"root": root}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

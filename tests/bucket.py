"""A bucket on this machine: as much of Google Cloud Storage's JSON API as training in it needs."""

import contextlib
import hashlib
import json
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

NAME = "bucket"


class Bucket:
    """gs://bucket. `objects` holds {name: (generation, content)}; `denied` makes every request fail.

    Where the name of a new object holds `broken`, nobody answers and `reached` is set.
    """

    scheme = "gs"

    def __init__(self):
        self.objects: dict[str, tuple[int, bytes]] = {}
        self.denied = False
        self.broken = ""
        self.reached = threading.Event()
        self.lock = threading.Lock()
        self.generation = 0
        self.address = ""

    def environment(self) -> dict[str, str]:
        """What makes gcsfs, TensorStore and google-cloud-storage talk to this bucket."""
        return {
            "STORAGE_EMULATOR_HOST": self.address,
            "TENSORSTORE_GCS_HTTP_URL": self.address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "FSSPEC_GCS_TOKEN": "anon",
            "FSSPEC_GS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GOOGLE_CLOUD_PROJECT": "none",
        }

    def put(self, name: str, content: bytes) -> dict:
        if self.broken and self.broken in name:
            self.reached.set()
            raise ConnectionAbortedError(name)
        self.generation += 1
        self.objects[name] = (self.generation, content)
        return self.describe(name)

    def describe(self, name: str) -> dict:
        generation, content = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": NAME,
            "id": name,
            "size": str(len(content)),
            "generation": str(generation),
            "metageneration": "1",
            "md5Hash": b64encode(hashlib.md5(content).digest()).decode(),
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
        }

    def list(self, prefix: str, delimiter: str) -> dict:
        items, prefixes = [], set()
        for name in sorted(n for n in self.objects if n.startswith(prefix)):
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                prefixes.add(prefix + head + delimiter)
            else:
                items.append(self.describe(name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}


@contextlib.contextmanager
def serve(bucket: Bucket, handler: type["Handler"]) -> Iterator[Bucket]:
    """`bucket` behind HTTP at its `address`, until the block is left."""
    handler = type("Handler", (handler,), {"bucket": bucket})
    server = _Server(("127.0.0.1", 0), handler)
    bucket.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that were killed or have closed their end are no error here."""


class Handler(BaseHTTPRequestHandler):
    """Every kind of request, one at a time."""

    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _handle(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(length)
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        with self.bucket.lock:
            if self.bucket.denied:
                return self._refusal()
            return self._route(url.path, query, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

    def _refusal(self):
        return self._answer(403, {"error": {"code": 403, "message": "denied"}})

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _route(self, path: str, query: dict, body: bytes):
        if path.startswith("/upload/"):
            return self._upload(query, body)
        name = re.fullmatch(rf"(?:/download)?/storage/v1/b/{NAME}(?:/o(?:/(.*))?)?", path)
        if name is None:
            return self._answer(404, {"error": {"code": 404, "message": f"no {path}"}})
        if path.endswith(f"/b/{NAME}"):
            return self._answer(200, {"kind": "storage#bucket", "name": NAME, "id": NAME})
        if name[1] is None:
            found = self.bucket.list(query.get("prefix", ""), query.get("delimiter", ""))
            return self._answer(200, found)
        return self._object(name[1], query)

    def _object(self, path: str, query: dict):
        source, _, target = path.partition(f"/rewriteTo/b/{NAME}/o/")
        source, target = unquote(source), unquote(target)
        if source not in self.bucket.objects:
            return self._answer(404, {"error": {"code": 404, "message": f"no object {source}"}})
        if self.command == "DELETE":
            del self.bucket.objects[source]
            return self._answer(204, b"")
        generation, content = self.bucket.objects[source]
        if target:
            resource = self.bucket.put(target, content)
            return self._answer(200, {"done": True, "resource": resource})
        if query.get("alt") != "media":
            return self._answer(200, self.bucket.describe(source))
        if query.get("ifGenerationNotMatch") == str(generation):
            return self._answer(304, b"")
        return self._content(content, {"x-goog-generation": str(generation)})

    def _content(self, content: bytes, headers: dict):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return self._answer(200, content, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._answer(206, content[first : last + 1], headers)

    def _upload(self, query: dict, body: bytes):
        kind, name = query.get("uploadType"), query.get("name")
        if kind == "resumable" and "upload_id" not in query:
            where = (
                f"{self.bucket.address}{urlsplit(self.path).path}?uploadType=resumable&upload_id=1"
            )
            return self._answer(200, {}, {"Location": f"{where}&name={name}"})
        if kind == "multipart":
            boundary = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])[1].encode()
            _, about, data, _ = re.split(rb"(?:\r?\n)?--" + re.escape(boundary), body)
            about, body = (re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in (about, data))
            name = json.loads(about)["name"]
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and int(wanted) != self.bucket.objects.get(name, (0,))[0]:
            return self._answer(412, {"error": {"code": 412, "message": "generation"}})
        return self._answer(200, self.bucket.put(name, body))

    def _answer(self, status: int, content: dict | bytes, headers: dict | None = None):
        if isinstance(content, dict):
            content, headers = json.dumps(content).encode(), dict(headers or {})
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status not in (204, 304) and self.command != "HEAD":
            self.wfile.write(content)

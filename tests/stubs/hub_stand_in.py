"""A hub on loopback: what huggingface_hub asks of the real one for models, with the faults that a hub and a network have."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class StandIn:
    """Repositories by id, and what was asked for.

    ``say`` is what the interface tells of a file instead of the truth, ``cut`` how many bytes of a file arrive before the line breaks (0
    afterwards), ``gated`` and ``absent`` the ids that answer so.
    """

    commit = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self):
        self.repositories, self.licences = {}, {}
        self.asked, self.gated, self.absent, self.cut, self.say = [], set(), set(), {}, {}
        self.tokens = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words):
                pass

            def do_HEAD(self):
                stand_in.answer(self, body=False)

            def do_GET(self):
                stand_in.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def publish(self, hub_id, files, licence="mit"):
        self.repositories[hub_id], self.licences[hub_id] = files, licence

    def transfers(self):
        """The files whose bytes were asked for, each with where its bytes began."""
        return [(path.rpartition("/")[2], start) for method, path, start in self.asked if method == "GET" and "/resolve/" in path]

    def answer(self, to, body):
        path = unquote(urlsplit(to.path).path)
        start = int(to.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.asked.append((to.command, path, start))
        self.tokens.append(to.headers.get("Authorization", ""))
        api = path.startswith("/api/models/")
        words = path.removeprefix("/api/models/").strip("/").split("/")
        hub_id = "/".join(words[:2])
        revision = words[3] if len(words) > 3 else "main"
        if hub_id not in self.repositories or hub_id in self.absent:
            return self.refuse(to, 404, "RepoNotFound")
        if revision not in ("main", self.commit):
            return self.refuse(to, 404, "RevisionNotFound")
        if api:
            return self.send(to, 200, json.dumps(self.told(hub_id)).encode(), {"Content-Type": "application/json"}, body)
        if hub_id in self.gated:
            return self.refuse(to, 403, "GatedRepo")
        name = "/".join(words[4:])
        if name not in self.repositories[hub_id]:
            return self.refuse(to, 404, "EntryNotFound")
        data = self.repositories[hub_id][name]
        headers = {"ETag": f'"{self.etag(name, data)}"', "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.cut.get(name) if body else None
        self.send(to, 206 if start else 200, data[start:], headers, body, cut)
        if cut:
            self.cut[name] = 0
        return None

    def told(self, hub_id):
        siblings = []
        for name, data in self.repositories[hub_id].items():
            told = {"rfilename": name, "size": len(data), "blobId": git(data)}
            if is_large(name):
                told["lfs"] = {"sha256": self.say.get(name, hashlib.sha256(data).hexdigest()), "size": len(data), "pointerSize": 134}
            siblings.append(told)
        licence = self.licences[hub_id]
        return {
            "_id": "1",
            "id": hub_id,
            "modelId": hub_id,
            "sha": self.commit,
            "private": False,
            "gated": "manual" if hub_id in self.gated else False,
            "tags": [f"license:{licence}"],
            "siblings": siblings,
        }

    def etag(self, name, data):
        return self.say.get(name, hashlib.sha256(data).hexdigest()) if is_large(name) else git(data)

    def refuse(self, to, status, code):
        self.send(to, status, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, True)

    @staticmethod
    def send(to, status, data, headers, body, cut=None):
        to.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            to.send_header(key, value)
        to.end_headers()
        if body and to.command != "HEAD":
            to.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            to.close_connection = True


def is_large(name):
    """What a repository keeps as LFS objects."""
    return name.endswith((".bin", ".safetensors", ".pt", ".ckpt", ".msgpack"))


def git(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

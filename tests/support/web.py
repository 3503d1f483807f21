"""A web server on loopback that hands out a folder's files."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Answers ranges, and fails in the way ``mode`` that a test chooses."""

    mode = ""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if self.mode == "forbidden" or not path.is_file():
            self.send_error(403 if self.mode == "forbidden" else 404)
            return
        if self.mode == "slow":
            time.sleep(1)
        content = path.read_bytes()
        size = len(content)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked and self.mode != "whole":
            start = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
            content = content[start : int(asked[2]) + 1 if asked[1] and asked[2] else size]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(content[: len(content) // 2] if self.mode == "cut" else content)
        self.close_connection = self.mode == "cut"


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The address under which ``folder`` is handed out."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

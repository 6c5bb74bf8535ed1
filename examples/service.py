"""A small HTTP service to try `fetch` with, on this machine: airlines, and a translator as OpenAI's API has it.

    python examples/service.py aiopipe pipe read sample_data/airlines.csv \\
        then fetch '{env:SERVICE:raw}/airlines/{carrier}' --into city='$.address.city' then head 2 then write -

It runs the command that is given, with its own address in SERVICE, and ends with it. Only Python is needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CITIES = {"9E": "Minneapolis", "AA": "Fort Worth", "AS": "Seattle", "B6": "New York", "DL": "Atlanta", "UA": "Chicago"}
WORDS = {"air": "vol", "airlines": "compagnie", "american": "américaine", "inc.": "S.A.", "delta": "delta"}


class Service(BaseHTTPRequestHandler):
    """Two addresses: GET /airlines/CODE, POST /v1/chat/completions."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """An airline; 404 for one that nobody knows."""
        code = self.path.rpartition("/")[2]
        if code in CITIES:
            self._answer(200, {"code": code, "address": {"city": CITIES[code]}})
        else:
            self._answer(404, {"error": f"no airline {code}"})

    def do_POST(self) -> None:
        """A translation of the last message, word by word."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][-1]["content"]
        said = " ".join(WORDS.get(word.lower(), word) for word in text.split())
        message = {"role": "assistant", "content": said}
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": len(said.split())}
        self._answer(200, {"model": asked["model"], "choices": [{"index": 0, "message": message}], "usage": usage})

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> int:
    """Run the command beside the service; its exit code."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        return subprocess.run(sys.argv[1:], env={**os.environ, "SERVICE": address}, check=False).returncode
    finally:
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main())

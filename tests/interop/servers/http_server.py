"""Python's http.server: one line for each request that it has read.

The module leaves bodies to its handlers; this one reads them as Content-Length or chunks say.
"""

import http.server
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        # The path is the target with some of its slashes taken away.
        seen = " ".join(self.requestline.split()[:2])
        print(seen, flush=True)
        self.read_body()
        self.send_response(405 if self.command == "CONNECT" else 200)
        self.send_header("X-Seen", seen)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok\n")

    def read_body(self):
        if self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline() or b"0", 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send_error(self, code, message=None, explain=None):
        print("BAD", code, flush=True)
        super().send_error(code, message, explain)

    def log_message(self, format, *arguments):
        pass


# As the module reads requests: a byte is a character.
sys.stdout.reconfigure(encoding="latin-1")
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()

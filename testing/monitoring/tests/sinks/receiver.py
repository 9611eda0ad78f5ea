"""Takes POSTs in TLS and appends each body as a line to a file: receiver.py PORT CERTIFICATE KEY FILE.

SIGTERM ends it once the request under way is answered."""

import http.server
import signal
import ssl
import sys
import threading

port, certificate, key, path = sys.argv[1:]


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != "Bearer hunter2" or self.path != "/hooks/T0/B0":
            return self.send_error(403)
        with open(path, "ab") as file:
            file.write(body + b"\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", int(port)), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()

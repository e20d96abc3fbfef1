"""A hub for tests: answers as huggingface.co does, from loopback, and fails where it is told to.

Two servers: the hub itself, on 127.0.0.1, and the host that files come from, on localhost. Files
above `Hub.LFS_FROM` bytes are of LFS, as large files are: the hub redirects to the second host,
which wants a signature in the address and has to see no token.

Everything that arrives is kept in `Hub.requests`, for tests to look at. With `tls` both servers
speak HTTPS; `Proxy` is one that clients reach them through.
"""

import dataclasses
import email.utils
import functools
import hashlib
import http.server
import json
import os
import pathlib
import random
import re
import select
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse


@dataclasses.dataclass
class Faults:
    """What goes wrong. Counts are of answers with a file's bytes, unless they say otherwise."""

    cut_at_random: int = 0      # So many answers end at a random byte.
    cut_always: bool = False    # All of them of 64 KiB and more do, after half of their bytes.
    stall: int = 0              # So many of a megabyte and more stop in the middle, and the
                                # connection stays.
    status: int = 0             # Answer with this status,
    status_times: int = 0       # so many times.
    retry_after: str = ""       # The header's value; "date:2" is in two seconds, as a date.
    rate_limit: str = ""        # The RateLimit header's value, instead of Retry-After.
    wrong_byte: bool = False    # One byte of the file is another.
    no_ranges: bool = False     # Range is passed over.
    no_etag: bool = False
    no_length: bool = False     # Chunked, without Content-Length.
    expire: int = 0             # So many signed addresses are not taken any more.
    bytes_per_second: int = 0   # Of each answer; 0: as fast as can be.
    delay_s: float = 0          # Before each answer, and when a connection begins: a long way.
    redirect_to: str = ""       # Files lie at that server, as "http://host:port".
    api_status: int = 0         # What the API answers, so many times as
    api_status_times: int = 0   # this.


@dataclasses.dataclass
class Request:
    server: str   # "hub" or "files"
    method: str
    path: str     # With the query.
    headers: dict
    status: int = 0
    sent: int = 0  # Bytes of the body.


class DiskFile:
    """The content of a file, of any size: only what is asked for is read. Its sums are made up."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.size = self.path.stat().st_size

    def __len__(self):
        return self.size

    def __getitem__(self, where):
        start, end, _ = where.indices(self.size)
        with open(self.path, "rb") as file:
            return os.pread(file.fileno(), max(0, end - start), start)


# A file's are asked for with each of its ranges.
@functools.lru_cache(maxsize=64)
def git_oid(content):
    if isinstance(content, DiskFile):
        content = str(content.path).encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@functools.lru_cache(maxsize=64)
def sha256(content):
    if isinstance(content, DiskFile):
        content = str(content.path).encode()
    return hashlib.sha256(content).hexdigest()


class Certificates:
    """An authority of one's own, and a certificate of this machine that it signed."""

    def __init__(self, directory):
        self.authority = directory / "authority.pem"
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        authority_key = directory / "authority.key"
        request = directory / "server.csr"
        names = directory / "names"
        names.write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\n")
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self.openssl("req", "-x509", *new_key, "-subj", "/CN=Test authority", "-days", "2",
                     "-keyout", authority_key, "-out", self.authority)
        self.openssl("req", *new_key, "-subj", "/CN=localhost", "-keyout", self.key,
                     "-out", request)
        self.openssl("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", authority_key,
                     "-CAcreateserial", "-days", "2", "-extfile", names, "-out", self.certificate)

    @staticmethod
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address, handler, tls=None):
        super().__init__(address, handler)
        self.scheme = "https" if tls else "http"
        if tls:
            # Each connection's own thread shakes hands.
            self.socket = tls.wrap_socket(self.socket, server_side=True,
                                          do_handshake_on_connect=False)

    def start(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02},
                         daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Clients that go away are what these tests are about."""


class Proxy:
    """Tunnels to any host, as companies' proxies do; `status` refuses."""

    def __init__(self):
        self.status = 200
        self.targets = []  # "host:port"
        self.hosts = {}    # name -> where it really is
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_CONNECT(self):
                proxy.targets.append(self.path)
                self.send_response(proxy.status, "Answer")
                self.end_headers()
                if proxy.status == 200:
                    self.tunnel()
                self.close_connection = True

            def tunnel(self):
                host, port = self.path.rsplit(":", 1)
                address = (proxy.hosts.get(host, host), int(port))
                with socket.create_connection(address) as there:
                    ways = {self.connection: there, there: self.connection}
                    while True:
                        for ready in select.select(list(ways), [], [])[0]:
                            data = ready.recv(65_536)
                            if not data:
                                return
                            ways[ready].sendall(data)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.close()


class Hub:
    LFS_FROM = 4096
    PAGE = 1000  # Files on one page of the tree.

    def __init__(self, seed=1, tls=None):
        """`tls`: an ssl.SSLContext."""
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.faults = Faults()
        self.requests = []
        self.repositories = {}  # name -> {path: content}
        self.gated = {}         # name -> the token that opens it
        self.commits = {}
        self.trees = {}         # name -> entries to answer with in place of the true ones
        self.plain = {}         # Path -> content, for any server; at the second host.
        self.modified = time.time() - 86_400
        self.hub = Server(("127.0.0.1", 0), handler_of(self, "hub"), tls)
        self.files = Server(("127.0.0.1", 0), handler_of(self, "files"), tls)
        for server in (self.hub, self.files):
            server.start()
        self.endpoint = f"{self.hub.scheme}://127.0.0.1:{self.hub.server_port}"
        # Another name of the same machine, so that it is another host for clients.
        self.files_url = f"{self.files.scheme}://localhost:{self.files.server_port}"

    def close(self):
        self.hub.close()
        self.files.close()

    def put(self, repository, path, content):
        files = self.repositories.setdefault(repository, {})
        files[path] = content
        state = "".join(f"{name}\0{git_oid(data)}\0" for name, data in sorted(files.items()))
        self.commits[repository] = hashlib.sha1(state.encode()).hexdigest()

    def sent(self, server=None):
        """Bytes of all bodies that went out."""
        with self.lock:
            return sum(r.sent for r in self.requests if server in (None, r.server))

    def tokens_at(self, server):
        with self.lock:
            return [r.headers["authorization"] for r in self.requests
                    if r.server == server and "authorization" in r.headers]

    def take(self, count_name):
        """Whether a fault strikes now, which is then one less to come."""
        with self.lock:
            left = getattr(self.faults, count_name)
            if left > 0:
                setattr(self.faults, count_name, left - 1)
            return left > 0

    def signature(self, oid):
        return sha256(f"signed {oid}".encode())[:16]

    def tree(self, repository):
        if repository in self.trees:
            return self.trees[repository]
        entries = []
        directories = set()
        for path, content in sorted(self.repositories[repository].items()):
            for depth in range(path.count("/")):
                directories.add("/".join(path.split("/")[:depth + 1]))
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            if len(content) >= self.LFS_FROM:
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 135}
                entry["oid"] = git_oid(b"pointer " + sha256(content).encode())
            entries.append(entry)
        return [{"type": "directory", "path": path, "size": 0, "oid": git_oid(path.encode())}
                for path in sorted(directories)] + entries


def handler_of(hub, server):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def setup(self):
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            time.sleep(hub.faults.delay_s)

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            self.request_seen = Request(server, self.command, self.path,
                                        {k.lower(): v for k, v in self.headers.items()})
            with hub.lock:
                hub.requests.append(self.request_seen)
            time.sleep(hub.faults.delay_s)
            path = urllib.parse.urlsplit(self.path).path
            if server == "files":
                self.answer_file_host(path)
            elif path.startswith("/api/models/"):
                self.answer_api(path.removeprefix("/api/models/"))
            else:
                self.answer_resolve(path)

        # Small answers

        def start(self, status, headers):
            self.request_seen.status = status
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def say(self, status, body=b"", **headers):
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            self.start(status, {"Content-Length": str(len(body)), **fields})
            if self.command != "HEAD":
                self.wfile.write(body)

        def say_json(self, value, **headers):
            self.say(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

        def fault_headers(self):
            if hub.faults.rate_limit:
                return {"RateLimit": hub.faults.rate_limit}
            value = hub.faults.retry_after
            if value.startswith("date:"):
                value = email.utils.formatdate(time.time() + float(value[5:]), usegmt=True)
            return {"Retry_After": value} if value else {}

        # The hub

        def allowed(self, repository):
            """Says why not, if it isn't."""
            if repository not in hub.repositories:
                # As the hub does it for those who have no account.
                self.say(404 if "authorization" in self.request_seen.headers else 401,
                         b'{"error":"Repository not found"}', X_Error_Code="RepoNotFound",
                         X_Error_Message="Repository not found")
                return False
            token = hub.gated.get(repository)
            given = self.request_seen.headers.get("authorization")
            if token and given != f"Bearer {token}":
                self.say(403 if given else 401, b'{"error":"restricted"}',
                         X_Error_Code="GatedRepo",
                         X_Error_Message="Access to this model is restricted.")
                return False
            return True

        def answer_api(self, rest):
            if hub.take("api_status_times"):
                self.say(hub.faults.api_status, b"{}", **self.fault_headers())
                return
            match = re.fullmatch(r"([^/]+/[^/]+)/(revision|tree)/([^/]+)", rest)
            if not match:
                self.say(404)
                return
            repository, what, revision = match.groups()
            # What is listed is open to everybody, also of gated repositories, but not their files.
            if repository not in hub.repositories and not self.allowed(repository):
                return
            commit = hub.commits[repository]
            if revision not in ("main", commit):
                self.say(404, b"{}", X_Error_Code="RevisionNotFound")
            elif what == "revision":
                gated = "manual" if repository in hub.gated else False
                self.say_json({"id": repository, "sha": commit, "gated": gated, "siblings": []})
            else:
                self.answer_tree(repository)

        def answer_tree(self, repository):
            url = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(url.query)
            start = int(query.get("cursor", ["0"])[0])
            entries = hub.tree(repository)
            headers = {}
            if start + hub.PAGE < len(entries):
                more = f"{url.path}?recursive=true&cursor={start + hub.PAGE}"
                headers["Link"] = f'<{hub.endpoint}{more}>; rel="next"'
            self.say_json(entries[start:start + hub.PAGE], **headers)

        def answer_resolve(self, path):
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            if not match:
                self.say(404)
                return
            repository, revision, name = match.groups()
            if not self.allowed(repository):
                return
            content = hub.repositories[repository].get(urllib.parse.unquote(name))
            if content is None or revision not in ("main", hub.commits[repository]):
                self.say(404, b"Entry not found", X_Error_Code="EntryNotFound")
                return
            commit = {"X-Repo-Commit": hub.commits[repository]}
            if len(content) < hub.LFS_FROM:
                self.send_file(content, {**commit, "ETag": f'"{git_oid(content)}"'})
                return
            oid = sha256(content)
            server_url = hub.faults.redirect_to or hub.files_url
            location = f"{server_url}/lfs/{oid}?signature={hub.signature(oid)}"
            self.say(302, f"Found. Redirecting to {location}".encode(), Location=location,
                     X_Linked_Size=str(len(content)), X_Linked_Etag=f'"{oid}"',
                     ETag=f'"{oid}"', **{"X_Repo_Commit": hub.commits[repository]})

        # The host of files

        def answer_file_host(self, path):
            path = urllib.parse.unquote(path)
            if path in hub.plain:
                headers = {"Last-Modified": email.utils.formatdate(hub.modified, usegmt=True)}
                content = hub.plain[path]
                if not hub.faults.no_etag:
                    headers["ETag"] = f'"{sha256(content)[:12]}"'
                self.send_file(content, headers)
                return
            if not path.startswith("/lfs/"):
                self.say(404)
                return
            oid = path.removeprefix("/lfs/")
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            if query.get("signature") != [hub.signature(oid)] or hub.take("expire"):
                self.say(403, b"Auth failed")
                return
            for files in hub.repositories.values():
                for content in files.values():
                    if len(content) >= hub.LFS_FROM and sha256(content) == oid:
                        headers = {} if hub.faults.no_etag else {"ETag": f'"{oid[:32]}"'}
                        self.send_file(content, headers)
                        return
            self.say(404)

        def range_of(self, size):
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if not match or hub.faults.no_ranges:
                return None
            return int(match[1]), min(int(match[2] or size - 1), size - 1)

        def send_file(self, content, headers):
            if hub.take("status_times"):
                self.say(hub.faults.status, b"Not now.", **self.fault_headers())
                return
            if hub.faults.wrong_byte:
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]
            bounds = self.range_of(len(content))
            if not hub.faults.no_ranges:
                headers = {"Accept-Ranges": "bytes", **headers}
            status = 200
            if bounds:
                first, last = bounds
                if first >= len(content):
                    self.say(416, b"", Content_Range=f"bytes */{len(content)}")
                    return
                status = 206
                headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
                content = content[first:last + 1]
            if hub.faults.no_length:
                self.start(status, {**headers, "Transfer-Encoding": "chunked"})
                self.send_chunked(content)
            else:
                self.start(status, {**headers, "Content-Length": str(len(content))})
                self.send_bytes(content)

        def send_chunked(self, content):
            for start in range(0, len(content), 65_536):
                piece = content[start:start + 65_536]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def send_bytes(self, content):
            if self.command == "HEAD":
                return
            end = len(content)
            stalls = False
            # The header's first byte is asked for alone: that is no answer worth cutting.
            if end >= 65_536 and hub.faults.cut_always:
                end //= 2
            elif end > 1 and hub.take("cut_at_random"):
                with hub.lock:
                    end = hub.random.randrange(end)
            elif end >= 1_000_000 and hub.take("stall"):
                end //= 2
                stalls = True
            step = 65_536
            rate = hub.faults.bytes_per_second
            if rate:
                step = max(1024, min(step, rate // 20))
            for start in range(0, end, step):
                piece = content[start:min(start + step, end)]
                self.wfile.write(piece)
                self.request_seen.sent += len(piece)
                if rate:
                    time.sleep(len(piece) / rate)
            if stalls:
                self.connection.settimeout(60)
                self.rfile.read(1)  # Until the client gives up.
            if end < len(content):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler

"""HTTPS of a running instance: curl and raw clients, slow handshakes, client certificates, new ones by reload."""

import json
import os
import signal
import socket
import ssl

import pytest
from cryptography import x509

from certificates import Authority
from running import Runner, run, wait_until
from secure import Secure, wrapped


def test_https(programs: Runner) -> None:
    www = programs.directory / "www"
    www.mkdir()
    big = os.urandom(5_000_000)
    (www / "big.bin").write_bytes(big)
    secure = Secure(programs, "--static-map", f"/static={www}")
    environ = json.loads(secure.curl("/environ"))
    assert environ["HTTPS"] == "on"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["SERVER_PORT"] == str(secure.port)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert secure.curl("/echo", "--data-binary", "@/etc/hostname", "-H", "Transfer-Encoding: chunked")
    assert len(secure.curl("/big/3000000")) == 3_000_000
    received = programs.directory / "received"
    secure.curl("/static/big.bin", "-o", str(received))
    assert received.read_bytes() == big
    versions = secure.curl("/", "-o/dev/null", "-w", "%{http_version} %{num_connects} ", *["-o/dev/null"] * 1)
    assert versions.startswith("1.1 1")
    with secure.connect() as client:
        assert client.version() == "TLSv1.3"
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /pid HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := client.recv(65536):  # an end without close_notify would raise
            data += piece
    assert data.count(b"HTTP/1.1 200 OK") == 2
    assert secure.server.read("sockets")
    plain = run("curl", "-sS", f"http://127.0.0.1:{secure.port}/", check=False)
    assert plain.returncode != 0
    assert secure.curl("/") == "ok"


def test_nobody_waits_for_handshakes_and_slow_readers(programs: Runner) -> None:
    secure = Secure(programs)
    silent = [socket.create_connection(("127.0.0.1", secure.port)) for _ in range(3)]
    begun = socket.create_connection(("127.0.0.1", secure.port))
    slow = secure.connect()
    try:
        begun.sendall(b"\x16\x03\x01")
        slow.sendall(b"GET /big/900000 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert slow.recv(1)
        assert secure.curl("/") == "ok"
        data = b""
        while len(data) < 900_000:
            data += slow.recv(65536)
        assert data.endswith(b"x" * 1000)
    finally:
        for each in (*silent, begun, slow):
            each.close()


def test_piece_by_piece(programs: Runner) -> None:
    """Records of one byte each, and a handshake that arrives byte by byte."""
    secure = Secure(programs, "--socket-timeout", "30")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = secure.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", secure.port), 30) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def pump() -> None:
            for byte in outgoing.read():
                raw.send(bytes([byte]))

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pump()
                incoming.write(raw.recv(65536))
        for byte in b"GET / HTTP/1.1\r\nHost: h\r\n\r\n":
            tls.write(bytes([byte]))
        pump()
        data = b""
        while not data.endswith(b"ok"):
            incoming.write(raw.recv(65536))
            try:
                data += tls.read(65536)
            except ssl.SSLWantReadError:
                continue
    assert data.startswith(b"HTTP/1.1 200 OK")


def test_client_certificates(programs: Runner) -> None:
    ours = f"{programs.directory}/server.pem,{programs.directory}/server.key"
    words = ("--https-export-cert", "--ssl-verbose", "--sni", f"named.example {ours}")
    secure = Secure(programs, *words, client_ca="!")
    known = secure.authority.sign("some öne\n")
    context = secure.context(known)
    context.check_hostname = False
    for name in ("localhost", "named.example"):
        with wrapped(("127.0.0.1", secure.port), b"", context, name) as client:
            client.sendall(b"GET /environ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            data = b""
            while piece := client.recv(65536):
                data += piece
        seen = json.loads(data.partition(b"\r\n\r\n")[2])
        assert seen["HTTPS_DN"] == r"/C=IT/CN=some \xC3\xB6ne\x0A"
        assert seen["HTTPS_CC"].strip() == known.certificate.read_text().strip()
    unknown = run("curl", "-sSk", f"https://localhost:{secure.port}/", check=False)
    assert unknown.returncode != 0  # what curl says depends on whether it has asked already when it is refused
    assert not unknown.stdout
    secure.server.running.wait_for("[uwsgi-https] client 127.0.0.1: ")


def test_a_name_that_is_none_is_refused_in_a_line(programs: Runner) -> None:
    ours = f"{programs.directory}/server.pem,{programs.directory}/server.key"
    secure = Secure(programs, "--sni", f"named.example {ours}")
    hello, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = secure.context().wrap_bio(answer, hello, server_hostname="aaaa.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(("127.0.0.1", secure.port), 30) as raw:
        raw.sendall(hello.read().replace(b"aaaa", b"\xff\xfe\n1"))
        answer.write(raw.recv(65536))
        with pytest.raises(ssl.SSLError, match="ALERT"):
            client.do_handshake()
        assert raw.recv(65536) == b""
    assert secure.curl("/") == "ok"
    output = secure.server.running.wait_for("[uwsgi-https] a client asked for a name that is none: ")
    assert r"none: b'\xff\xfe\n1.example'" in output
    assert "Traceback" not in output
    assert "Exception ignored" not in output


def test_certificates_by_name_and_old_versions(programs: Runner) -> None:
    names = programs.directory / "names"
    names.mkdir()
    authority = Authority(programs.directory)
    for name in ("one", "two", "three"):
        authority.sign(name)
    for ending, file in (("crt", "three.pem"), ("key", "three.key")):
        (programs.directory / file).rename(names / f"three.example.{ending}")
    one, two = (f"{programs.directory}/{name}.pem,{programs.directory}/{name}.key" for name in ("one", "two"))
    secure = Secure(
        programs, "--sni", f"One.example {one}", "--sni-regexp", rf"\.two\.example$ {two}", "--sni-dir", str(names),
        "--ssl-enable-tlsv1",
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def served(name: str) -> str:
        with wrapped(("127.0.0.1", secure.port), b"", context, name) as client:
            certificate = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
        return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)

    asked = ("one.example", "a.two.example", "three.example", "other.example")
    assert [served(name) for name in asked] == ["one", "two", "three", "server"]
    old = run("curl", "-sSk", "--tlsv1.0", "--tls-max", "1.0", "--ciphers", "DEFAULT@SECLEVEL=0",
              f"https://localhost:{secure.port}/", "-w", " %{ssl_verify_result}").stdout  # fmt: skip
    assert old.startswith("ok")


def test_a_reload_takes_new_certificates_and_keeps_the_old_where_they_cannot_be_read(programs: Runner) -> None:
    secure = Secure(programs)

    def serial() -> object:
        with secure.connect() as client:
            certificate = client.getpeercert()
            assert certificate
            return certificate["serialNumber"]

    first = serial()
    secure.authority.sign("server")
    secure.server.running.send(signal.SIGHUP)
    wait_until(lambda: serial() != first, "the new certificate", 30)
    second = serial()
    generation = secure.server.generation()
    secure.pair.key.write_text("nonsense")
    secure.server.running.send(signal.SIGHUP)
    wait_until(lambda: secure.server.generation() != generation, "the reload", 30)
    secure.server.wait_ready()
    assert "certificates stay as they were" in secure.server.running.output()
    assert serial() in {first, second}
    assert secure.curl("/") == "ok"


def test_harakiri_tells_the_client(programs: Runner) -> None:
    secure = Secure(programs, "--harakiri", "1")
    assert secure.curl("/wait/never", "-o/dev/null", "-w", "%{http_code}") == "504"

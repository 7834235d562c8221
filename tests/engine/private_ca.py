"""A certificate authority of the tests' own, and HTTPS servers whose certificates it has signed.

Made anew for each run; the machine trusts it only where a test says so.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import h11
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@attrs.frozen
class PrivateCA:
    """Files of one authority in a folder: `root` is what a client has to trust."""

    folder: Path
    _key: ec.EllipticCurvePrivateKey = attrs.field(
        factory=lambda: ec.generate_private_key(ec.SECP256R1()), init=False
    )

    @property
    def root(self) -> Path:
        path = self.folder / "root.pem"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            certificate = self._signed(self._builder(self._key, "Test root", DAY, is_ca=True))
            path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return path

    def server_context(self, name: str, lifetime: timedelta = DAY) -> ssl.SSLContext:
        """What a server called `name` (a host or an address) shows to its clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(key, name, lifetime, is_ca=False)
        certificate = self._signed(builder.add_extension(_alternative_name(name), critical=False))
        path = self.root.with_name("server.pem")
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context

    def _builder(
        self, key: ec.EllipticCurvePrivateKey, name: str, lifetime: timedelta, *, is_ca: bool
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test root")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())


def _alternative_name(name: str) -> x509.SubjectAlternativeName:
    try:
        return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
    except ValueError:
        return x509.SubjectAlternativeName([x509.DNSName(name)])


@asynccontextmanager
async def https_server(
    context: ssl.SSLContext, pages: dict[str, bytes]
) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve `pages` by path on localhost; gives the port, and the paths asked for so far."""
    asked: list[str] = []

    async def answer(plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
        try:
            connection = h11.Connection(h11.SERVER)
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            if not isinstance(event, h11.Request):
                return  # the client did not like the certificate, and left
            path = event.target.decode()
            asked.append(path)
            body = pages.get(path)
            status = 404 if body is None else 200
            data = connection.send(h11.Response(status_code=status, headers=[("Connection", "close")]))
            data = (data or b"") + (connection.send(h11.Data(data=body or b"")) or b"")
            await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
        except trio.BrokenResourceError:
            pass  # the same, without a word
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield listener.socket.getsockname()[1], asked
        nursery.cancel_scope.cancel()

"""A stand-in for a cluster of Aurora DSQL: the kit's PostgreSQL behind ``DsqlWire``, with a name and a lock.

Owns what a client has to be told: the endpoint's name, where that is found, and what certificate to trust. A token is
looked at as DSQL would: its right, its host, its life, and the signature, by keys that are this cluster's own.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from devkit.extras import require

require("dsql")  # before the first import that would fail without a word about the extra

from cryptography import x509  # noqa: E402 - see above
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import NameOID  # noqa: E402

from db.credentials.sigv4 import Keys, Signer  # noqa: E402
from devkit.network.dsql import SESSION_S, DsqlWire, Login  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from .database import Database
    from .postgres import Postgres

REGION = "us-east-2"
ADMIN = "admin"
LOAD_S = 5.0
POLL_S = 0.005
_GROUP = "devkit_dsql"  # whose members the server asks for their passwords in the clear, so that the wire can give them


class DsqlStandIn:
    """A cluster, for the length of a ``with`` block: ``database`` of ``server``, as DSQL would show it.

    The user ``admin`` is the owner of ``database``, every other its app role. ``folder`` is for the certificate.
    """

    def __init__(
        self, server: Postgres, database: Database, folder: Path, *, session_s: float = SESSION_S, delay_s: float = 0.0
    ) -> None:
        self.host = f"{secrets.token_hex(13)}.dsql.{REGION}.on.aws"
        self.keys = Keys(access_key_id="AKIADSQL", secret_access_key=secrets.token_urlsafe(30))
        self.sslrootcert = folder / "dsql-root.pem"
        self._server, self._database = server, database
        self.wire = DsqlWire(
            server.host,
            server.port,
            tls=self._certified(folder),
            login=self._login,
            admits=self._admits,
            session_s=session_s,
            delay_s=delay_s,
        )

    def __enter__(self) -> Self:
        self._let_in()
        self.wire.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.stop()

    def settings(self, user: str = ADMIN) -> dict[str, Any]:
        """The values of ``db.Settings`` by which ``user`` enters: all that a deploy would say, and where it is here."""
        return {
            "auth": "dsql",
            "host": self.host,
            "user": user,
            "port": self.wire.port,
            "sslrootcert": str(self.sslrootcert),
            "connect_args": {"hostaddr": self.wire.host},
        }

    def environment(self) -> Mapping[str, str]:
        """The keys that sign its tokens, as Lambda has them in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.keys.secret_access_key,
            "AWS_REGION": "eu-central-1",  # the function's
        }

    def _login(self, user: str) -> Login:
        created = self._database
        if user == ADMIN:
            return Login(created.name, created.owner, created.owner_password)
        return Login(created.name, created.app, created.app_password)

    def _admits(self, user: str, token: str) -> bool:
        """Whether ``token`` is what the keys sign, for this host, with the right of ``user``, and still good."""
        place, _, query = token.partition("?")
        said = {name: values[0] for name, values in parse_qs(query).items()}
        action = "DbConnectAdmin" if user == ADMIN else "DbConnect"
        try:
            signed_at = dt.datetime.strptime(said["X-Amz-Date"], "%Y%m%dT%H%M%S%z").timestamp()
            expires_s = int(said["X-Amz-Expires"])
        except (KeyError, ValueError):
            return False
        signer = Signer(keys=self.keys, service="dsql", region=REGION, now=signed_at)
        ours = signer.presigned(host=self.host, query={"Action": action}, expires_s=expires_s)
        is_good = signed_at - 60 <= time.time() <= signed_at + expires_s
        return place == f"{self.host}/" and token == ours and is_good

    def _let_in(self) -> None:
        """Have the server ask the two roles for a password in the clear, which it does for its group's members."""
        created = self._database
        with self._server.as_superuser() as connection:
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [_GROUP]).fetchall():
                connection.execute(f"CREATE ROLE {_GROUP}".encode())
            connection.execute(f"GRANT {_GROUP} TO {created.owner}, {created.app}".encode())
            (path,), (loaded,) = (
                row
                for name in ("current_setting('hba_file')", "pg_conf_load_time()::text")
                for row in connection.execute(f"SELECT {name}".encode()).fetchall()
            )
            rules = Path(str(path))
            rule = f"host all +{_GROUP} {self._server.host}/32 password\n"
            if rule in (text := rules.read_text()):
                return
            rules.write_text(rule + text)
            connection.execute("SELECT pg_reload_conf()")
        self._wait_for_reload(str(loaded))

    def _wait_for_reload(self, before: str) -> None:
        # A session knows what its server knew when it began.
        give_up_at = time.monotonic() + LOAD_S
        while self._server.execute("SELECT pg_conf_load_time()::text") == [(before,)]:
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"the server did not read its rules in {LOAD_S:.0f} s")
            time.sleep(POLL_S)

    def _certified(self, folder: Path) -> ssl.SSLContext:
        """A context for the server's side of TLS, with a certificate for ``host``; what is to be trusted is written."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devkit's Aurora DSQL")])
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName(self.host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.sslrootcert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret = folder / "dsql-key.pem"
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.sslrootcert, secret)
        context.set_alpn_protocols(["postgresql"])  # without it libpq does not go straight into TLS
        return context

"""Certificates as a broker, its clients and their impostors have them, made by `openssl` in a directory."""

import subprocess
from pathlib import Path
from typing import NamedTuple, Optional

from .processes import PATIENCE, Failure

SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1"
CLIENT = "extendedKeyUsage=clientAuth"

VALID = ["-days", "30"]
EXPIRED = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]

# Of what `openssl ca` can be told, and `openssl x509` cannot, only the first day is needed.
CONFIG = """\
[ca]
default_ca = tests
[tests]
database = {database}
new_certs_dir = {directory}
rand_serial = yes
default_md = sha256
copy_extensions = copy
policy = names
[names]
commonName = supplied
"""


class Tls(NamedTuple):
    """What a client trusts and shows: files of PEM."""

    ca: Path
    certificate: Optional[Path] = None
    key: Optional[Path] = None


class Certificates:
    """Two CAs; of `ca` a server, a client, and one of each that has expired; of `other-ca` a client."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self._config, database = self.directory / "ca.conf", self.directory / "index"
        self._config.write_text(CONFIG.format(directory=directory, database=database))
        database.touch()
        for name in ("ca", "other-ca"):
            self._openssl("req", "-x509", *self._new_key(name), "-out", self.certificate(name), *VALID)
        self._sign("server", "ca", SERVER, VALID)
        self._sign("expired-server", "ca", SERVER, EXPIRED)
        self._sign("client", "ca", CLIENT, VALID)
        self._sign("expired-client", "ca", CLIENT, EXPIRED)
        self._sign("other-client", "other-ca", CLIENT, VALID)

    def certificate(self, name):
        return self.directory / f"{name}.pem"

    def key(self, name):
        return self.directory / f"{name}.key"

    def tls(self, client=None, ca="ca"):
        """A client that trusts `ca`, with the certificate of this name or none."""
        if client is None:
            return Tls(self.certificate(ca))
        return Tls(self.certificate(ca), self.certificate(client), self.key(client))

    def _sign(self, name, ca, extension, validity):
        request = self.directory / f"{name}.csr"
        self._openssl("req", *self._new_key(name), "-addext", extension, "-out", request)
        issuer = ["-cert", self.certificate(ca), "-keyfile", self.key(ca)]
        asked = ["-in", request, "-out", self.certificate(name), *validity]
        self._openssl("ca", "-batch", "-notext", "-config", self._config, *issuer, *asked)

    def _new_key(self, name):
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        return [*curve, "-subj", f"/CN={name}", "-keyout", self.key(name)]

    @staticmethod
    def _openssl(*arguments):
        command = ["openssl", *map(str, arguments)]
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        except OSError as error:
            raise Failure(f"openssl does not start: {error}") from error
        except subprocess.SubprocessError as error:
            raise Failure(f"{' '.join(command)}: {error}\n{getattr(error, 'stderr', '')}") from error

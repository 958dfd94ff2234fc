"""A certificate for the tests, made when they run."""

import ssl

import trustme


class Certificate:
    """A certificate for localhost and 127.0.0.1, and clients that trust it."""

    def __init__(self, directory):
        authority = trustme.CA()
        self.authority = directory / "authority.pem"
        self.path = directory / "localhost.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(self.path))

    def directives(self):
        return f"ssl_certificate {self.path}; ssl_certificate_key {self.path};"

    def client(self, *protocols):
        """A client's TLS context; `protocols` are offered by ALPN."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

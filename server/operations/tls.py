"""TLS of the ports that speak HTTPS."""

from __future__ import annotations

import ssl

from server.config import ConfigError, TorchServeConfig


def tls_of(config: TorchServeConfig) -> ssl.SSLContext | None:
    """The server's side of TLS, with the certificate; None where no file is named.

    Raises:
        ConfigError: a file cannot be read, or is none, or the key is another certificate's.
    """
    if config.certificate_file is None or config.private_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    where = f"--certificate-file {config.certificate_file}, --private-key-file {config.private_key_file}"
    try:
        context.load_cert_chain(config.certificate_file, config.private_key_file, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(f"{where}: {(error.reason or 'no PEM files').lower().replace('_', ' ')}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {getattr(error, 'strerror', None) or error}") from None
    return context


def _no_password() -> str:
    """Called for a key that is encrypted: without it OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted")

"""Reasoning that a client keeps and cannot read or change: `encrypted_content`, and signatures.

Text is compressed and sealed with a key that one server's workers, and its replicas where the
operator sets it, have in common. Nothing is stored here. What was altered, or sealed with another
key or for another owner, is simply not opened.
"""

from __future__ import annotations

import base64
import zlib
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_TEXT = 2**20
"""Bytes of reasoning that are sealed at most; longer reasoning isn't, nor opened."""
MAX_SEALED = 2**21
"""Characters of what is opened at most."""
_STANDARD, _URL_SAFE = str.maketrans("-_", "+/"), str.maketrans("+/", "-_")
"""Some clients decode a signature, as base64 with the usual characters."""
_PURPOSE = b"extracot reasoning 1 "


class ReasoningSeal:
    """Seals texts, and opens what was sealed with the same ``secret`` for the same owner."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._of = lru_cache(maxsize=256)(self._cipher)

    def seal(self, owner: str, text: str) -> str | None:
        """The text for this owner to keep; ``None`` where there is none, or too much."""
        data = text.encode()
        if not data or len(data) > MAX_TEXT:
            return None
        return self._of(owner).encrypt(zlib.compress(data)).decode().translate(_STANDARD)

    def open(self, owner: str, sealed: str) -> str | None:
        """The text again; ``None`` for anything that is not one of this owner's."""
        if len(sealed) > MAX_SEALED or not sealed.isascii():
            return None
        try:
            data = self._of(owner).decrypt(sealed.translate(_URL_SAFE))
        except InvalidToken:
            return None
        unpack = zlib.decompressobj()
        text = unpack.decompress(data, MAX_TEXT + 1)
        return text.decode() if unpack.eof else None

    def _cipher(self, owner: str) -> Fernet:
        """A key of its own for each owner, so that no client reads what another was given."""
        derive = HKDF(SHA256(), length=32, salt=None, info=_PURPOSE + owner.encode())
        return Fernet(base64.urlsafe_b64encode(derive.derive(self._secret)))
